/* One block of memory cut into aligned parts. The same walk over the parts measures the block (base NULL), places the
 * parts, and, with a red zone, guards and checks them: every size is stated once.
 *
 * A red zone is the bytes between the end of a part and the beginning of the next, alignment included. AddressSanitizer
 * is told about them. */
#ifndef FNN_ARENA_H
#define FNN_ARENA_H

#include "base/common.h"

#if defined(__SANITIZE_ADDRESS__)
#define FNN_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FNN_ASAN 1
#endif
#endif
#ifdef FNN_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(start, bytes) ((void)(start), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(start, bytes) ((void)(start), (void)(bytes))
#endif

#define FNN_RED_BYTE 0xA5

enum fnn_arena_mode { FNN_PLACE = 0, FNN_GUARD, FNN_CHECK };

typedef struct {
    char *base; /* FNN_ALIGN-aligned; NULL: measure */
    size_t at;  /* bytes taken so far */
    size_t red_zone;
    enum fnn_arena_mode mode;
    const char *broken; /* FNN_CHECK: the first part behind which something was written */
} fnn_arena;

static inline size_t fnn_aligned(size_t bytes) { return (bytes + FNN_ALIGN - 1) / FNN_ALIGN * FNN_ALIGN; }

/* The red zone from `start` on; `part` lies before it. */
static inline void fnn_red_zone(fnn_arena *arena, const char *name, char *part, char *start, size_t bytes)
{
    if (arena->mode == FNN_GUARD) {
        memset(part, 0xFF, (size_t)(start - part)); /* NaN: nothing may be read before it is written */
        memset(start, FNN_RED_BYTE, bytes);
        ASAN_POISON_MEMORY_REGION(start, bytes);
        return;
    }
    ASAN_UNPOISON_MEMORY_REGION(start, bytes);
    for (size_t i = 0; i < bytes; i++)
        if ((unsigned char)start[i] != FNN_RED_BYTE && !arena->broken)
            arena->broken = name;
}

/* The next part; NULL while measuring. */
static inline void *fnn_take(fnn_arena *arena, const char *name, size_t bytes)
{
    char *part = arena->base ? arena->base + arena->at : NULL;
    const size_t end = arena->at + bytes, next = fnn_aligned(end + arena->red_zone);
    if (part && arena->mode != FNN_PLACE && arena->red_zone)
        fnn_red_zone(arena, name, part, arena->base + end, next - end);
    arena->at = next;
    return part;
}

#endif
