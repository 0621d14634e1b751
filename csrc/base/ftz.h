/* Subnormal numbers as zeros, of the calling thread: on many processors arithmetic with them is up to a hundred times
 * slower, and in training they come up everywhere. The averages of Adam fade away, as the gradients of weights from
 * pixels that are always black do, and spend a long time below the smallest normal number. No update can tell them
 * from 0: an ε stands beside their roots.
 */
#ifndef FNN_SUBNORMALS_H
#define FNN_SUBNORMALS_H

#include "base/common.h"

typedef uint64_t fnn_subnormals; /* how the thread takes them */

/* fnn_take_subnormals: they are taken so from now on. Returns how they were taken before. */
#if defined(__SSE2__) || defined(_M_X64)
#include <xmmintrin.h>
#define FNN_FLUSHED 0x8040u /* flush to zero, denormals are zeros */
FNN_INLINE fnn_subnormals fnn_take_subnormals(fnn_subnormals how)
{
    const unsigned mode = _mm_getcsr();
    _mm_setcsr((mode & ~FNN_FLUSHED) | ((unsigned)how & FNN_FLUSHED));
    return mode & FNN_FLUSHED;
}
#elif defined(__aarch64__) && (defined(__GNUC__) || defined(__clang__))
#define FNN_FLUSHED ((uint64_t)1 << 24)
FNN_INLINE fnn_subnormals fnn_take_subnormals(fnn_subnormals how)
{
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    __asm__ volatile("msr fpcr, %0" : : "r"((mode & ~FNN_FLUSHED) | (how & FNN_FLUSHED)));
    return mode & FNN_FLUSHED;
}
#else
#define FNN_FLUSHED 0
FNN_INLINE fnn_subnormals fnn_take_subnormals(fnn_subnormals how) { return how; }
#endif

/* They are zeros from now on. Returns how they were taken before. */
FNN_INLINE fnn_subnormals fnn_flush_subnormals(void) { return fnn_take_subnormals(FNN_FLUSHED); }

#endif
