/* Conventions shared by every file of csrc.
 *
 * Bodies (headers without a guard) are written once and included twice, for float and for double (each_real.h): REAL is
 * the type, FN(name) the name with its suffixes (fnn_<name>_<f32|f64>_<instruction set>), C_(x) a constant of the type.
 * kernels.c, which is compiled once per instruction set, gets FNN_ISA from the build; the engine and the pool do not.
 */
#ifndef FNN_COMMON_H
#define FNN_COMMON_H

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) || defined(__clang__)
#define FNN_INLINE static inline __attribute__((always_inline, unused))
#define FNN_PREFETCH(p) __builtin_prefetch(p)
#define FNN_FIRST_BIT(bits) __builtin_ctzll(bits)
#define FNN_COUNT_BITS(bits) __builtin_popcountll(bits)
#define FNN_FALLTHROUGH __attribute__((fallthrough))
#else
#define FNN_INLINE static inline
#define FNN_PREFETCH(p) ((void)(p))
#define FNN_FALLTHROUGH ((void)0)
FNN_INLINE int FNN_COUNT_BITS(uint64_t bits)
{
    int n = 0;
    for (; bits; bits &= bits - 1)
        n++;
    return n;
}
FNN_INLINE int FNN_FIRST_BIT(uint64_t bits) /* not of 0 */
{
    int i = 0;
    for (; !(bits & 1); bits >>= 1)
        i++;
    return i;
}
#endif

/* Precedes a loop whose iterations touch only their own elements, which the compiler cannot know of pointers that may
 * be equal (in place). */
#if defined(__clang__)
#define FNN_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define FNN_INDEPENDENT _Pragma("GCC ivdep")
#else
#define FNN_INDEPENDENT
#endif

#define FNN_ALIGN 64 /* bytes: a cache line, and the widest vector */

#define FNN_CAT2_(a, b) a##b
#define FNN_CAT2(a, b) FNN_CAT2_(a, b)
#define FNN_CAT3_(a, b, c) a##b##c
#define FNN_CAT3(a, b, c) FNN_CAT3_(a, b, c)

#ifdef FNN_ISA
#define FNN_ISA_SUFFIX FNN_CAT2(_, FNN_ISA)
#else
#define FNN_ISA_SUFFIX
#endif

#endif
