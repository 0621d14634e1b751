"""Work for the pool's threads, for other modules: the pool is part of the engine's, and there must be one of them."""

cdef extern from "pool/pool.h" nogil:
    ctypedef unsigned int fnn_word
    ctypedef struct fnn_items:
        void (*run)(const void *arg, ptrdiff_t item, void *workspace) noexcept nogil
        const void *arg
        ptrdiff_t items
        char *workspace
        size_t bytes
        int (*poll)(void *arg) noexcept nogil
        void *poll_arg
        double work, patience
        fnn_word next, stop
        double since

# Runs items.run(items.arg, item, workspace) for all of items.items on up to `threads` workers (None: the limit of
# BLAS), as many as the work, items.items times items.work multiplications, is worth. Each has items.bytes of aligned
# workspace. Watches for signals and raises what their handlers raise; no item is begun after that.
cdef int run_items(fnn_items *items, threads) except -1
