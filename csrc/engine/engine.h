/* Executes plans: forward, loss, gradient and whole epochs of training, on one or several workers.
 *
 * Rows are sharded over the workers. A worker takes its shard in chunks of rows that keep the activations in its
 * cache, and adds the chunks' gradients up in its own buffer. A step of training is
 *     shard gradients → barrier → every worker sums, and updates, its range of the parameters → barrier
 * with one more barrier for the norm when it is clipped. Every sum has a fixed order, so that the same number of
 * workers gives the same bits. Nothing is allocated: the caller hands a workspace in.
 */
#ifndef FNN_ENGINE_H
#define FNN_ENGINE_H

#include "kernels/kernels.h"
#include "engine/plan.h"
#include "pool/pool.h"
#include "base/ftz.h"

/* What a worker reports to the others of a shard. A field is written between two barriers and read after the second,
 * before the first of the next round. Padded so that two workers never write to one cache line. */
typedef struct {
    double loss, weight, correct, norm2, penalty;
    int active; /* had rows */
    char pad[FNN_POOL_PAD];
} fnn_report;

/* What an update of the parameters needs besides the gradient: the learning rate of the batch, and of Adam's averages
 * what is left of their start. */
typedef struct {
    fnn_terms terms;
    int64_t number; /* of updates before this one */
    double rate, bias1, bias2;
} fnn_step;

/* Polled by worker 0 about every 20 ms; not zero: stop. */
typedef int (*fnn_poll)(void *arg);

#define FNN_JOB(REAL, T)                                                                                           \
    typedef struct {                                                                                               \
        const fnn_plan *plan;                                                                                      \
        const fnn_kernels_##T *kernels;                                                                            \
        fnn_blas_##T blas; /* takes products from blas_from multiplications on; NULL: never */                     \
        double blas_from;                                                                                          \
        /* data: rows of x with labels (rows,) or target (rows, n_out), and weight (rows,) or NULL */              \
        const void *x;                                                                                             \
        int x_type;            /* enum fnn_source */                                                               \
        const int64_t *indptr; /* of sparse rows, (rows of x + 1,); NULL: x is dense */                            \
        const int32_t *columns;                                                                                    \
        ptrdiff_t x_rows; /* of x */                                                                               \
        ptrdiff_t rows;   /* of one pass: of x, or of one row of order */                                          \
        const int64_t *labels;                                                                                     \
        const REAL *target, *weight;                                                                               \
        const int64_t *order; /* (epochs, rows) indices into x; NULL: in order */                                  \
        double l1, l2;                                                                                             \
        int divide_l2;    /* training: l2 / Σw of the batch in the place of l2 */                                  \
        REAL *statistics; /* the network's state; training moves running statistics */                             \
        int training;     /* batch norm uses the batch's statistics */                                             \
        const REAL *theta;                                                                                         \
        /* training */                                                                                             \
        const fnn_rule *rule;                                                                                      \
        REAL *trained;       /* theta again, to be written */                                                      \
        REAL *state;         /* (slots, n_parameters) */                                                           \
        const double *rates; /* learning rate of each batch of this call; NULL: the rule's */                      \
        ptrdiff_t batch, epochs;                                                                                   \
        int64_t step;                 /* updates done before; grows */                                             \
        double clip_norm, clip_value; /* INFINITY: none */                                                         \
        const REAL *const *inverses;  /* of kfac: A⁻¹ and G⁻¹ of every op, or NULL */                              \
        REAL *natural;                /* (2, n_parameters), scratch; so is gradient then */                        \
        /* results */                                                                                              \
        REAL *out;      /* forward: (rows, n_out) */                                                               \
        REAL *gradient; /* (n_parameters,) or NULL: the loss alone */                                              \
        double *losses; /* one for every epoch, or one; and the share of the weight classified correctly */        \
        double *correct;                                                                                           \
        double *penalties; /* of training: the part of the losses that is penalty */                               \
        ptrdiff_t epochs_done;                                                                                     \
        int status; /* enum fnn_status */                                                                          \
        /* linearization */                                                                                        \
        REAL *kept;            /* kept_elements of every row, op by op, and kept_columns */                        \
        const REAL *cotangent; /* (rows, n_out), in place of a loss */                                             \
        REAL *dx;              /* (rows, n_in): w ∂ℓ/∂x, or its tangent; NULL: nobody asks */                      \
        double weight_sum;                                                                                         \
        int curvature; /* enum fnn_curvature, of products */                                                       \
        ptrdiff_t n_directions;                                                                                    \
        const REAL *directions;  /* (n_directions, n_parameters) */                                                \
        const REAL *direction_x; /* (n_in,): of all rows of x; then there are no directions of theta */            \
        REAL *products;          /* (n_directions, n_parameters) */                                                \
        /* running */                                                                                              \
        int n_workers;                                                                                             \
        int n_shards;       /* of a batch: n_workers, or fixed, so that sums do not depend on the workers */       \
        int by_feature;     /* see dense_body.h */                                                                 \
        int zeros_forward;  /* height of the tiles that skip zeros of x, 2 or 4; 0: none do */                     \
        int zeros_gradient; /* the same of the gradient's, 0 with it, and how far apart their features are */      \
        int zeros_apart;                                                                                           \
        ptrdiff_t chunk;     /* rows */                                                                            \
        char *workspace;     /* FNN_ALIGN-aligned, fnn_engine_workspace_* bytes */                                 \
        fnn_report *reports; /* n_shards */                                                                        \
        fnn_barrier *barrier;                                                                                      \
        fnn_poll poll;                                                                                             \
        void *poll_arg;                                                                                            \
        fnn_subnormals subnormals; /* while training: the calling thread's */                                      \
        double polled, work;       /* time of the last poll; multiplications since the clock was read */           \
    } fnn_job_##T;                                                                                                 \
    /* Sets zeros_forward and zeros_gradient by n rows of x (a multiple of 4), for which `sample` and `bits` have  \
     * room. Returns what the products with x take then, as a share of what they take else. lanes: of the kernels' \
     * vectors. */                                                                                                 \
    double fnn_engine_count_zeros_##T(fnn_job_##T *job, int lanes, ptrdiff_t n, REAL *sample, uint64_t *bits);     \
    /* bytes of workspace, of all workers, for chunks of job->chunk rows */                                        \
    size_t fnn_engine_workspace_##T(const fnn_job_##T *job);                                                       \
    /* run by fnn_team_run on job->n_workers workers; arg is the job */                                            \
    void fnn_engine_forward_##T(void *arg, int worker);                                                            \
    void fnn_engine_gradient_##T(void *arg, int worker);                                                           \
    void fnn_engine_train_##T(void *arg, int worker);                                                              \
    size_t fnn_engine_linearize_workspace_##T(const fnn_job_##T *job);                                             \
    void fnn_engine_linearize_##T(void *arg, int worker);                                                          \
    void fnn_engine_product_##T(void *arg, int worker);

/* c (m, n) = [c +] op(a) op(b), strides as in gemm; of each operand one stride is 1 */
typedef void (*fnn_blas_f32)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const float *a, ptrdiff_t ars, ptrdiff_t acs,
                             const float *b, ptrdiff_t brs, ptrdiff_t bcs, int accumulate, float *c, ptrdiff_t ldc);
typedef void (*fnn_blas_f64)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const double *a, ptrdiff_t ars, ptrdiff_t acs,
                             const double *b, ptrdiff_t brs, ptrdiff_t bcs, int accumulate, double *c, ptrdiff_t ldc);

FNN_JOB(float, f32)
FNN_JOB(double, f64)

#endif
