"""Declarations of csrc/engine and csrc/pool. Elements are void: one body then serves both element types."""
from libc.stdint cimport int32_t, int64_t, uint64_t

from .kernels cimport fnn_lane_step, fnn_numbers

cdef extern from "kernels/data.h" nogil:
    enum: FNN_SOURCE_F32, FNN_SOURCE_F64, FNN_SOURCE_U8

cdef extern from "kernels/augment.h" nogil:
    ctypedef struct fnn_augmentation:
        int kind
        ptrdiff_t height, width, channels
        double amount, probability, fill
    ptrdiff_t fnn_augment_scratch(const fnn_augmentation *all, int n)

cdef extern from "engine/plan.h" nogil:
    enum: FNN_DENSE
    enum: FNN_OK, FNN_DIVERGED, FNN_INTERRUPTED
    enum: FNN_HESSIAN, FNN_GGN, FNN_FISHER
    enum: FNN_ALIGN

    ctypedef struct fnn_penalties:
        double l1, l2

    ctypedef struct fnn_op:
        int kind, input, activation, shared_weight, shared_bias, gated, saves_pre, delta_side
        double lr_multiplier, epsilon, momentum, dropout_rate, negative_slope
        fnn_penalties penalties
        ptrdiff_t buffer
        ptrdiff_t n_in, n_out, weight, bias

    ctypedef struct fnn_place:
        ptrdiff_t out, slope, bend, delta, normalised, inv_std, columns

    ctypedef struct fnn_segment:
        ptrdiff_t begin, end
        int penalised
        double lr_multiplier
        fnn_penalties penalties

    ctypedef struct fnn_plan:
        const fnn_op *ops
        const fnn_segment *segments
        int n_ops, n_segments, loss, rated, penalised, batch_statistics, gathers
        ptrdiff_t n_parameters, n_in, n_out
        double input_scale, label_smoothing
        const fnn_place *places
        ptrdiff_t saved_curvature, saved_elements, saved_columns

    ctypedef struct fnn_rule:
        int code
        int *moments
        int corrects_bias
        fnn_numbers numbers
        double learning_rate, weight_decay, kl_clip
        const double *momenta
        int64_t first

cdef extern from "pool/pool.h" nogil:
    enum: FNN_MAX_WORKERS
    ctypedef void (*fnn_task)(void *arg, int worker) noexcept nogil
    ctypedef struct fnn_team:
        pass
    ctypedef struct fnn_barrier:
        pass
    int fnn_team_acquire(fnn_team *team, int n_workers)
    int fnn_team_run(fnn_team *team, fnn_task task, void *arg)
    int fnn_team_pays()
    ctypedef struct fnn_pair:
        double line, barrier, slowdown
    fnn_pair fnn_pair_costs() noexcept
    void fnn_items_run(void *items, int worker) noexcept
    void fnn_team_release(fnn_team *team)
    void fnn_pool_shutdown()
    void fnn_barrier_init(fnn_barrier *barrier, int n_workers)
    void fnn_barrier_destroy(fnn_barrier *barrier)

cdef extern from "engine/engine.h" nogil:
    ctypedef int (*fnn_poll)(void *arg) noexcept nogil
    ctypedef void (*fnn_blas)(ptrdiff_t, ptrdiff_t, ptrdiff_t, const void *, ptrdiff_t, ptrdiff_t, const void *,
                              ptrdiff_t, ptrdiff_t, int, void *, ptrdiff_t) noexcept nogil

    ctypedef struct fnn_data:
        void *x
        int x_type
        const int64_t *indptr
        const int32_t *columns
        ptrdiff_t x_rows, rows
        const int64_t *labels
        void *target
        void *weight
        const int64_t *order
        const int64_t *subset
        ptrdiff_t subset_rows

    ctypedef struct fnn_objective:
        double l1, l2
        int l2_over_weight_sum

    ctypedef struct fnn_low_rank:
        ptrdiff_t rank
        const void *basis
        const double *middle
        double scale

    ctypedef struct fnn_training:
        const fnn_rule *rule
        void *moments
        const double *rates
        const void **inverses
        const fnn_low_rank *low_rank
        ptrdiff_t batch, epochs
        int64_t step
        double clip_norm, clip_value
        void *average
        void *average_buffers
        double average_decay
        const fnn_augmentation *augmentations
        int n_augmentations
        uint64_t augmentation_seed

    ctypedef struct fnn_linearization:
        void *saved
        void *cotangent
        void *dx
        double weight_sum
        int curvature
        void *curvature_weight
        ptrdiff_t n_directions
        void *directions
        void *direction_x
        void *products

    ctypedef struct fnn_results:
        void *out
        void *gradient
        double *losses
        double *correct
        double *penalties
        double *norms
        ptrdiff_t epochs_done
        int status

    ctypedef struct fnn_schedule:
        int n_workers, n_shards, by_feature, zeros_forward, zeros_gradient, zeros_apart
        ptrdiff_t chunk

    ctypedef struct fnn_workspace:
        char *start
        size_t red_zone

    ctypedef struct fnn_run:
        fnn_barrier *barrier
        fnn_poll poll
        void *poll_arg

    ctypedef struct fnn_job:
        const fnn_plan *plan
        const void *kernels
        fnn_blas blas
        double blas_from
        void *theta
        void *buffers
        int training
        fnn_data data
        fnn_objective objective
        fnn_training train
        fnn_linearization linear
        fnn_results results
        fnn_schedule schedule
        fnn_workspace workspace
        fnn_run run

    ctypedef struct fnn_lanes:
        fnn_job *train
        fnn_job *forward
        ptrdiff_t lanes, members, epochs, n_moments
        void *theta
        void *moments
        fnn_lane_step step
        const double *rates
        int penalised
        char *workspace
        size_t red_zone
        int by_loss
        double sign
        ptrdiff_t patience
        double *best
        int64_t *waited
        double *losses
        double *correct
        double *penalties
        double *val_losses
        double *val_accuracies
        int64_t *steps
        int64_t *best_at
        int64_t *epochs_of
        void *best_theta
        void *last_theta
        ptrdiff_t epochs_done

    ctypedef struct fnn_engine:
        double (*count_zeros)(fnn_job *job, int lanes, ptrdiff_t n, void *sample, uint64_t *bits) noexcept nogil
        size_t (*workspace)(fnn_job *job) noexcept nogil
        void (*guard)(fnn_job *job) noexcept nogil
        const char *(*broken)(fnn_job *job) noexcept nogil
        fnn_task forward, gradient, train, linearize, product
        int (*lanes_fit)(const fnn_job *train, const fnn_job *forward) noexcept nogil
        size_t (*lanes_workspace)(const fnn_lanes *all) noexcept nogil
        void (*train_lanes)(fnn_lanes *all) noexcept nogil
        const char *(*lanes_broken)(const fnn_lanes *all) noexcept nogil

    const fnn_engine fnn_engine_f32, fnn_engine_f64
