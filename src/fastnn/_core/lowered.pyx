"""A lowered plan in C structs: what fastnn.lowering has laid out, as the engine reads it."""
from libc.stdlib cimport free, malloc

import functools

import numpy as np

from ..lowering import lower
from ..plan import AUGMENTATIONS

from . import kernels as _kernels

from .job cimport FNN_DENSE, fnn_op
from .kernels cimport FNN_MOMENTS, numbers_of
from .memory cimport address

cdef ptrdiff_t VECTOR_BYTES = {"avx512": 64, "avx2": 32}.get(_kernels.simd()["active"], 16)


cdef dict fields_of(spec):
    """The fields of an operation or a segment as those of its struct."""
    cdef dict fields = spec._asdict()
    own = {name: fields.pop(name) for name in ("l1", "l2")}
    fields["penalties"] = {name: -1.0 if value is None else value for name, value in own.items()}
    return fields


cdef class Lowered:
    """The structs of a plan, which depend on its arguments alone."""

    def __cinit__(self, ops, ptrdiff_t n_parameters, str loss, str dtype, double label_smoothing):
        lowered = lower(ops, n_parameters, loss, dtype, label_smoothing, VECTOR_BYTES)
        cdef int n = len(lowered.ops), i
        self.ops = <fnn_op *>malloc(n * sizeof(fnn_op))
        self.places = <fnn_place *>malloc(n * sizeof(fnn_place))
        self.segments = <fnn_segment *>malloc(max(1, len(lowered.segments)) * sizeof(fnn_segment))
        if self.ops == NULL or self.places == NULL or self.segments == NULL:
            raise MemoryError("plan")
        for i in range(n):
            self.ops[i] = fields_of(lowered.ops[i])
            self.places[i] = lowered.places[i]._asdict()
        for i in range(len(lowered.segments)):
            self.segments[i] = fields_of(lowered.segments[i])
        self.dtype = np.dtype(dtype)
        cdef ptrdiff_t item_size = self.dtype.itemsize
        self.n_buffers, self.loss = lowered.n_buffers, lowered.loss
        self.plan.ops, self.plan.n_ops = self.ops, n
        self.plan.places = self.places
        self.plan.segments, self.plan.n_segments = self.segments, len(lowered.segments)
        self.plan.loss = lowered.loss_code
        self.plan.rated, self.plan.penalised = lowered.rated, lowered.penalised
        self.plan.batch_statistics = lowered.batch_statistics
        self.plan.gathers = lowered.gathers
        self.plan.n_parameters = n_parameters
        self.plan.n_in, self.plan.n_out = lowered.n_in, lowered.n_out
        self.plan.label_smoothing = label_smoothing
        self.plan.saved_curvature, self.plan.saved_elements = lowered.saved_curvature, lowered.saved_elements
        self.plan.saved_columns = lowered.saved_columns
        self.shape = Shape(
            n_parameters=n_parameters, n_in=lowered.n_in, row_elements=lowered.row_elements,
            linear_elements=lowered.saved_elements + lowered.tangent_elements, broadest=lowered.broadest,
            lanes=VECTOR_BYTES // item_size, item_size=item_size, waste=lowered.waste,
            first_share=lowered.first_share, feature_major=lowered.feature_major,
            couples_rows=lowered.batch_statistics)

    def __dealloc__(self):
        free(self.ops)
        free(self.places)
        free(self.segments)


#: The networks of one architecture share what was lowered for the first of them.
lowered_once = functools.lru_cache(maxsize=128)(Lowered)


cdef class Augmentations:
    """A seed and a sequence of AugmentSpec in C structs, for rows of `n_in` elements; None: no augmentations."""

    def __cinit__(self, augment, ptrdiff_t n_in):
        cdef int i
        self.seed, specs = (0, ()) if augment is None else augment
        self.n = len(specs)
        self.all = <fnn_augmentation *>malloc(max(1, self.n) * sizeof(fnn_augmentation))
        if self.all == NULL:
            raise MemoryError("augment")
        for i, spec in enumerate(specs):
            if min(spec.height, spec.width, spec.channels) < 1 or spec.height * spec.width * spec.channels != n_in:
                raise ValueError(f"augment[{i}]: expected images of {n_in} elements, got {spec}")
            if not 0 <= spec.amount < 2**31:
                raise ValueError(f"augment[{i}]: expected an amount in [0, 2**31), got {spec}")
            self.all[i] = {**spec._asdict(), "kind": AUGMENTATIONS.index(spec.kind)}

    cdef void enter(self, fnn_training *training) noexcept:
        """Let `training` point here; it is valid as long as this object."""
        training.augmentations, training.n_augmentations = self.all, self.n
        training.augmentation_seed = self.seed

    def __dealloc__(self):
        free(self.all)


cdef class Rule:
    """An UpdateRule in a C struct."""

    def __cinit__(self, optimizer):
        cdef int k = 0
        kept, facts = optimizer.moments, optimizer.facts
        self.n_moments, self.accelerates, self.preconditioned = len(kept), facts.accelerates, facts.preconditioned
        self.low_rank = facts.low_rank
        self.rule.code = _kernels.RULE_CODES[optimizer.rule]
        self.rule.corrects_bias = facts.corrects_bias
        self.rule.numbers = numbers_of(optimizer._asdict())
        for k in range(FNN_MOMENTS):
            self.rule.moments[k] = -1
        for k, name in enumerate(facts.moments):
            if name in kept:
                self.rule.moments[k] = kept.index(name)
        self.rule.learning_rate, self.rule.weight_decay = optimizer.learning_rate, optimizer.weight_decay
        self.rule.kl_clip = optimizer.kl_clip


#: The runs with one rule share it.
rule_once = functools.lru_cache(maxsize=128)(Rule)


cdef class Inverses:
    """Pointers to K-FAC's inverse factors, which it keeps alive."""
    def __cinit__(self, Lowered lowered, preconditioner, str real):
        if preconditioner is None or len(preconditioner) != lowered.plan.n_ops:
            raise ValueError(f"preconditioner: expected a pair of inverse factors, or None, for each of the "
                             f"{lowered.plan.n_ops} operations")
        self.arrays = tuple(preconditioner)
        self.pointers = <const void **>malloc(2 * lowered.plan.n_ops * sizeof(void *))
        if self.pointers == NULL:
            raise MemoryError("preconditioner")
        cdef const fnn_op *op
        cdef int i
        cdef ptrdiff_t rows
        for i in range(lowered.plan.n_ops):
            op = lowered.plan.ops + i
            self.pointers[2 * i] = self.pointers[2 * i + 1] = NULL
            rows = op.n_in if op.kind == FNN_DENSE else 1
            if op.shared_weight or (op.bias >= 0 and op.bias != op.weight + rows * op.n_out):
                raise ValueError(f"ops[{i}]: K-FAC needs a bias right behind its weight, and neither of them shared")
            if self.arrays[i] is None:
                continue
            if op.kind != FNN_DENSE:
                raise ValueError(f"preconditioner[{i}]: expected None for an operation that is not dense")
            a, g = self.arrays[i]
            rows += op.bias >= 0
            self.pointers[2 * i] = address(f"preconditioner[{i}][0]", a, real, rows * rows)
            self.pointers[2 * i + 1] = address(f"preconditioner[{i}][1]", g, real, op.n_out * op.n_out)

    def __dealloc__(self):
        free(self.pointers)


cdef class LowRank:
    """B, N and γ of the metric γ I + Bᵀ N B in a C struct; keeps the arrays alive."""

    def __cinit__(self, preconditioner, ptrdiff_t n_parameters, str real):
        if preconditioner is None or len(preconditioner) != 3:
            raise ValueError("preconditioner: expected a tuple of B, N and gamma")
        self.arrays = preconditioner
        basis, middle, self.metric.scale = preconditioner
        cdef ptrdiff_t rank = len(basis)
        self.metric.rank = rank
        self.metric.basis = address("preconditioner[0]", basis, real, rank * n_parameters)
        self.metric.middle = <const double *>address("preconditioner[1]", middle, "d", rank * rank)
