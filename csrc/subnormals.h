/* Subnormal numbers as zeros, of the calling thread: on many processors arithmetic with them is up to a hundred times
 * slower, and in training they come up everywhere. The averages of Adam fade away, as the gradients of weights from
 * pixels that are always black do, and spend a long time below the smallest normal number. No update can tell them
 * from 0: an ε stands beside their roots.
 */
#ifndef FNN_SUBNORMALS_H
#define FNN_SUBNORMALS_H

#include "common.h"

/* Whether subnormal operands and results are zeros from now on; returns whether they were. */
#if defined(__SSE2__) || defined(_M_X64)
#include <xmmintrin.h>
FNN_INLINE int fnn_flush_subnormals(int on)
{
    const unsigned both = 0x8040, mode = _mm_getcsr(); /* flush to zero, denormals are zeros */
    _mm_setcsr(on ? mode | both : mode & ~both);
    return (mode & both) == both;
}
#elif defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))
FNN_INLINE int fnn_flush_subnormals(int on)
{
    const uint64_t fz = 1u << 24;
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    __asm__ volatile("msr fpcr, %0" : : "r"(on ? mode | fz : mode & ~fz));
    return (mode & fz) != 0;
}
#else
FNN_INLINE int fnn_flush_subnormals(int on)
{
    (void)on;
    return 0;
}
#endif

#endif
