/* What the engine is asked to do, for either element type: elements are void *, and float or double as the entry table
 * (engine.h) that takes the job says. Zero a job before filling it in: 0 and NULL mean "none" everywhere, except that
 * clip_norm and clip_value are INFINITY where nothing is clipped. */
#ifndef FNN_JOB_H
#define FNN_JOB_H

#include "base/ftz.h"
#include "engine/plan.h"
#include "kernels/kernels.h"
#include "pool/pool.h"

/* Result of a worker for its shard. A field is written between two barriers and read after the second, before the first
 * of the next round. Padded so that two workers never write to one cache line. */
typedef struct {
    double loss, weight, correct, norm2, penalty;
    int active; /* had rows */
    char pad[FNN_POOL_PAD];
} fnn_report;

/* c (m, n) = [c +] op(a) op(b) for the job's element type, strides as in gemm; of each operand one stride is 1. */
typedef void (*fnn_blas)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const void *a, ptrdiff_t ars, ptrdiff_t acs,
                         const void *b, ptrdiff_t brs, ptrdiff_t bcs, int accumulate, void *c, ptrdiff_t ldc);

/* Polled by worker 0 about every 20 ms; not zero: stop. */
typedef int (*fnn_poll)(void *arg);

/* Rows of x with labels (x_rows,) or target (x_rows, n_out), and weight (x_rows,) or NULL. */
typedef struct {
    const void *x;
    int x_type;            /* enum fnn_source */
    const int64_t *indptr; /* of sparse rows, (x_rows + 1,); NULL: x is dense */
    const int32_t *columns;
    ptrdiff_t x_rows;
    ptrdiff_t rows; /* of one pass: x_rows, or those of one row of order */
    const int64_t *labels;
    const void *target, *weight;
    const int64_t *order;  /* (epochs, rows) indices into x; NULL: in order */
    const int64_t *subset; /* (subset_rows,) the rows of x that order is made of, to sample from; NULL: all */
    ptrdiff_t subset_rows;
} fnn_data;

typedef struct {
    double l1, l2;
    int l2_over_weight_sum; /* training: l2 / Σw of the batch replaces l2 */
} fnn_objective;

/* γ I + Bᵀ N B, the metric of lbfgs's steps. */
typedef struct {
    ptrdiff_t rank;
    const void *basis;    /* B, (rank, n_parameters) */
    const double *middle; /* N, (rank, rank) */
    double scale;         /* γ */
} fnn_low_rank;

typedef struct {
    const fnn_rule *rule;         /* NULL: the job does not train */
    void *moments;                /* (rule's number of moments, n_parameters) */
    const double *rates;          /* learning rate of each batch of this call; NULL: the rule's */
    const void *const *inverses;  /* of kfac: A⁻¹ and G⁻¹ of every op, or NULL */
    const fnn_low_rank *low_rank; /* of lbfgs, or NULL */
    ptrdiff_t batch, epochs;
    int64_t step;                    /* updates done before; grows */
    double clip_norm, clip_value;    /* INFINITY: none */
    void *average, *average_buffers; /* of θ and of running statistics after every update; NULL: none */
    double average_decay;
    const fnn_augmentation *augmentations; /* of the rows of every batch, one after the other */
    int n_augmentations;
    uint64_t augmentation_seed;
} fnn_training;

/* A linearization, and products of its curvature; see linearize.h. */
typedef struct {
    void *saved;           /* saved_elements of every row, op by op, and saved_columns; NULL: no linearization */
    const void *cotangent; /* (rows, n_out): replaces the loss's derivative */
    void *dx;              /* (rows, n_in): w ∂ℓ/∂x, or its tangent; NULL: not wanted */
    double weight_sum;
    int curvature;                /* enum fnn_curvature, of products */
    const void *curvature_weight; /* (rows,): factors of the rows' loss_tangent, for ∂²ℓ/∂z² times w; NULL: ones */
    ptrdiff_t n_directions;
    const void *directions;  /* (n_directions, n_parameters) */
    const void *direction_x; /* (n_in,): of all rows of x; excludes directions of theta */
    void *products;          /* (n_directions, n_parameters) */
} fnn_linearization;

typedef struct {
    void *out;         /* forward: (rows, n_out) */
    void *gradient;    /* (n_parameters,) or NULL: the loss alone */
    double *losses;    /* one for every epoch, or one */
    double *correct;   /* the share of the weight that is classified correctly; as losses */
    double *penalties; /* of training: the part of the losses that is penalty */
    double *norms;     /* of training, (epochs, n_ops, 2, 3): see train.h; zeros before, or NULL: not wanted */
    ptrdiff_t epochs_done;
    int status; /* enum fnn_status */
} fnn_results;

/* How the work is divided; the caller's policy. */
typedef struct {
    int n_workers;
    int n_shards;       /* of a batch, n_workers or more: sums do not depend on the workers, but on this */
    int by_feature;     /* see op_dense_feature_major.h */
    int zeros_forward;  /* height of the tiles that skip zeros of x, 2 or 4; 0: none do */
    int zeros_gradient; /* the same of the gradient's, 0 if zeros_forward is; and how far apart their features are */
    int zeros_apart;
    ptrdiff_t chunk; /* rows that a worker takes at a time */
} fnn_schedule;

/* One block of memory that holds all parts of all workers; see workspace.h. The engine's workspace() fills in all but
 * the first two members. */
typedef struct {
    char *start;                      /* FNN_ALIGN-aligned */
    size_t red_zone;                  /* bytes between parts that guard() fills and broken() checks; 0: none */
    size_t worker_bytes;              /* of a worker's parts; worker w's begin at w times this */
    size_t gradients, gradient_bytes; /* offset of the shards' gradients; bytes of each */
    size_t products, product_bytes;   /* the same of the workers' sums of products */
    size_t preconditioned[3];         /* of kfac: the gradient, G⁻¹'s product and A⁻¹'s; of lbfgs: see there */
    size_t dots;                      /* of lbfgs: of every shard's part of θ, B's rows times the gradient */
    size_t before;                    /* with norms: the parameters before the batch */
    size_t reports;                   /* n_shards of fnn_report */
} fnn_workspace;

typedef struct {
    fnn_barrier *barrier;
    fnn_poll poll;
    void *poll_arg;
    fnn_subnormals subnormals; /* while training: the calling thread's mode */
    double polled, work;       /* time of the last poll; multiplications since the clock was read */
    fnn_watch watch;           /* of worker 0, while training */
    int alone;                 /* the other workers are to return: they hold worker 0 up */
} fnn_run;

typedef struct {
    const fnn_plan *plan;
    const void *kernels; /* fnn_kernels_f32 or _f64 */
    fnn_blas blas;       /* takes products from blas_from multiplications on; NULL: never */
    double blas_from;
    void *theta;   /* (n_parameters,); only training writes it */
    void *buffers; /* what is learnt but not optimised; training moves running statistics */
    int training;  /* batch norm uses the batch's statistics */
    fnn_data data;
    fnn_objective objective;
    fnn_training train;
    fnn_linearization linear;
    fnn_results results;
    fnn_schedule schedule;
    fnn_workspace workspace;
    fnn_run run;
} fnn_job;

/* What one update of the parameters needs besides the gradient. */
typedef struct {
    fnn_terms terms;
    double unit; /* what the terms' scale, l1 and l2 have been divided by, and a weight's own penalties are to be */
    fnn_numbers numbers;
    double rate;         /* learning rate of the batch */
    double average_rate; /* what the average of the parameters takes over from those after this update */
} fnn_step;

#endif
