"""What other compiled modules use of the engine: the pool, of which there must be one, and passes over few rows."""
from .job cimport fnn_job
from .memory cimport Workspace

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

cdef enum:
    FEW_ROWS = 16

cdef class FewRows:
    cdef fnn_job job
    cdef object plan, arrays
    cdef Workspace results, space
    cdef readonly ptrdiff_t n_in, n_out
    # The outputs (rows, n_out) of at most FEW_ROWS rows; they last until the next call.
    cdef void *run(self, void *x, int x_type, ptrdiff_t rows) except NULL
    # Memory for as many elements again, and twice that.
    cdef void *scratch(self) noexcept
