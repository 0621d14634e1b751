"""A lowered plan in C structs; see lowered.pyx."""

from libc.stdint cimport uint64_t

from .job cimport fnn_augmentation, fnn_low_rank, fnn_op, fnn_place, fnn_plan, fnn_rule, fnn_segment, fnn_training
from .schedule cimport Shape

cdef class Lowered:
    cdef fnn_plan plan
    cdef Shape shape
    cdef fnn_op *ops
    cdef fnn_place *places
    cdef fnn_segment *segments
    cdef ptrdiff_t n_buffers
    cdef object dtype, loss

cdef class Rule:
    cdef fnn_rule rule
    cdef bint accelerates, preconditioned, low_rank
    cdef int n_moments

cdef class Inverses:
    cdef const void **pointers
    cdef object arrays

cdef class LowRank:
    cdef fnn_low_rank metric
    cdef object arrays

cdef class Augmentations:
    cdef fnn_augmentation *all
    cdef int n
    cdef uint64_t seed
    cdef void enter(self, fnn_training *training) noexcept
