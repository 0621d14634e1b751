"""A lowered plan in C structs; see lowered.pyx."""

from .job cimport fnn_op, fnn_place, fnn_plan, fnn_segment
from .schedule cimport Shape

cdef class Lowered:
    cdef fnn_plan plan
    cdef Shape shape
    cdef fnn_op *ops
    cdef fnn_place *places
    cdef fnn_segment *segments
    cdef ptrdiff_t n_buffers
    cdef object dtype, loss
