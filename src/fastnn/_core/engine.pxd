"""What other compiled modules use of the engine: plans, the pool, of which there must be one, passes over few rows."""
from libc.stdint cimport int64_t

from .job cimport fnn_barrier, fnn_blas, fnn_data, fnn_engine, fnn_job, fnn_plan, fnn_rule, fnn_task, fnn_team
from .lowered cimport Lowered, Rule
from .memory cimport Workspace
from .schedule cimport Shape

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

cdef class Plan:
    cdef fnn_plan plan
    cdef Shape shape
    cdef const fnn_engine *engine
    cdef const void *kernels
    cdef fnn_blas blas
    cdef Lowered lowered  # owns what the plan points to
    cdef str real  # format of an element, "f" or "d"
    cdef readonly ptrdiff_t n_buffers
    cdef readonly object dtype
    cdef bint classifies, takes_labels
    cdef object loss  # the class that describes it
    cdef list arrays  # indices of the weights and biases that there are, 2 i and 2 i + 1 of op i
    cdef Workspace spare
    cdef int init_job(self, fnn_job *job, theta, X, y, sample_weight, buffers, bint training=*) except -1
    cdef int init_rows(self, fnn_data *data, X) except -1
    cdef int init_targets(self, fnn_data *data, y) except -1
    cdef double count_zeros(self, fnn_job *job, ptrdiff_t rows) except -1
    cdef int execute(self, fnn_job *job, fnn_task task, ptrdiff_t rows_at_once, threads, list errors=*,
                     bint deterministic=*) except -1
    cdef int run_on(self, fnn_team *team, fnn_job *job, fnn_task task) except -1
    # For batches of `rows` rows on the calling thread alone; the memory that the job runs in.
    cdef Workspace divide_alone(self, fnn_job *job, ptrdiff_t rows, bint deterministic)

cdef class OneWorker:
    cdef fnn_barrier barrier
    cdef list errors  # what signals' handlers and the thread's own check have raised
    cdef void enter(self, fnn_job *job) noexcept

cdef class TrainingJob:
    cdef Plan plan
    cdef fnn_job job
    cdef fnn_rule rule
    cdef list kept  # what the job points to
    cdef object outcome, norms
    cdef int init_rows(self, order, subset, ptrdiff_t epochs) except -1
    cdef int init_rule(self, Rule known, moments, preconditioner, learning_rates) except -1
    cdef int init_results(self, ptrdiff_t epochs, bint record_norms) except -1
    cdef object result(self, list errors)
