"""How a job is divided; see schedule.pyx."""

from .job cimport fnn_job, fnn_pair

cdef struct Shape:
    ptrdiff_t n_parameters, n_in
    ptrdiff_t row_elements      # of outputs, saved tensors and gradients of one row
    ptrdiff_t linear_elements   # the same of a linearization, with its tangents
    ptrdiff_t broadest          # most inputs or outputs of an operation
    ptrdiff_t lanes, item_size  # elements of a vector; bytes of an element
    double waste, first_share   # see fastnn.lowering.padding_waste
    bint feature_major          # may run by feature
    bint couples_rows           # some operation couples the rows of a batch in training

# fnn_pair_costs, which is in the module that calls, and not in this one.
ctypedef fnn_pair (*Costs)() noexcept nogil

cdef bint samples_zeros(const Shape *shape, const fnn_job *job, ptrdiff_t rows) noexcept
cdef int shards_for(const Shape *shape, const fnn_job *job, ptrdiff_t rows, bint deterministic,
                    threads) except -1
cdef int workers_for(const Shape *shape, const fnn_job *job, ptrdiff_t rows, int shards, bint deterministic, threads,
                     bint team_pays, Costs costs) except -1
cdef void divide(const Shape *shape, fnn_job *job, ptrdiff_t rows, int workers, int shards,
                 double zeros_share) noexcept
cdef int item_workers(double work, ptrdiff_t items, threads) except -1
