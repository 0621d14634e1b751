/* A network as data: what the engine executes. */
#ifndef FNN_PLAN_H
#define FNN_PLAN_H

#include "base/common.h"
#include "kernels/losses.h"
#include "kernels/optim.h"

#define OP(CODE, name) FNN_##CODE,
enum fnn_op_kind {
#include "engine/op_list.h"
};
#undef OP
enum fnn_curvature { FNN_HESSIAN = 0, FNN_GGN, FNN_FISHER };
#define FNN_NARROW 128 /* the widest layer of a plan that may run by feature */

enum fnn_status { FNN_OK = 0, FNN_DIVERGED, FNN_INTERRUPTED };

/* Penalties l1 ‖W‖₁ + ½ l2 ‖W‖² of a weight of its own; -1: those of the objective. */
typedef struct {
    double l1, l2;
} fnn_penalties;

typedef struct {
    int kind;          /* enum fnn_op_kind */
    int input;         /* the op whose output it reads; -1: the batch */
    int activation;    /* enum fnn_activation */
    int shared_weight; /* a later op has the same weight, and has written its gradient already */
    int shared_bias;
    int gated; /* dense with a relu, and one dense op alone reads it (the last op never is): that makes of its ∂ℓ/∂x at
                  once this one's ∂ℓ/∂z, and this one's gradient of the bias */
    double lr_multiplier; /* of the learning rate; 0: its parameters are frozen */
    fnn_penalties penalties;
    ptrdiff_t n_in, n_out;
    ptrdiff_t weight, bias; /* offsets in theta; bias -1: none */
    ptrdiff_t buffer;       /* offset in the buffers; -1: none. Batch norm: running mean, running variance, their count;
                               standardize: mean, 1/scale; dropout: seed */
    double epsilon;         /* of a norm */
    double momentum;        /* of running statistics */
    double dropout_rate;    /* probability of dropout */
    double negative_slope;  /* of leaky_relu below 0 */
    int saves_pre;          /* forward saves the pre-activation z, because σ' is no function of the output */
    int delta_side;         /* which of a worker's two buffers holds ∂ℓ/∂output, then ∂ℓ/∂z; ops that work in place have
                               their input's */
} fnn_op;

/* Where a linearization saves what belongs to an op; see linearize.h. Offsets in elements per row; -1: nothing. */
typedef struct {
    /* saved for all rows of the batch */
    ptrdiff_t out;        /* output */
    ptrdiff_t slope;      /* σ' where σ is not linear */
    ptrdiff_t bend;       /* σ'' times the output's derivative, where σ'' is not 0 everywhere */
    ptrdiff_t delta;      /* w ∂ℓ/∂z of dense and activation, w ∂ℓ/∂output of the others */
    ptrdiff_t normalised; /* û of a norm */
    ptrdiff_t inv_std;    /* of layer norm */
    ptrdiff_t columns;    /* of batch norm, in elements behind all rows: 1/σ, mean δ, mean û δ */
} fnn_place;

typedef struct {
    ptrdiff_t begin, end; /* a range of theta */
    int penalised;        /* weights are, biases are not */
    double lr_multiplier; /* of the learning rate; 0: the range is frozen */
    fnn_penalties penalties;
} fnn_segment;

typedef struct {
    const fnn_op *ops; /* in an order in which inputs come first; the last is the output */
    const fnn_segment *segments;
    int n_ops, n_segments;
    int loss;      /* enum fnn_loss */
    int rated;     /* a segment's lr_multiplier is not 1 */
    int penalised; /* a segment has a penalty of its own above 0 */
    ptrdiff_t n_parameters, n_in, n_out;
    int batch_statistics; /* there is a batch norm: training needs the whole batch at once */
    int gathers;          /* an op that is no product reads X: its rows must follow each other */
    double input_scale;
    double label_smoothing; /* of cross_entropy and binary_cross_entropy */
    const fnn_place *places;
    ptrdiff_t saved_curvature; /* of the loss's Hessian, n_out per row: see loss_curvature in kernel_list.h */
    ptrdiff_t saved_elements;  /* per row of a linearization */
    ptrdiff_t saved_columns;   /* behind all rows */
} fnn_plan;

typedef struct {
    int code;                 /* of the kernel `update` */
    int moments[FNN_MOMENTS]; /* which row of the moments is the rule's k-th; -1: it does without */
    int corrects_bias;        /* reads bias1 and bias2 */
    fnn_numbers numbers;      /* but for bias1, bias2, and the momentum where there are momenta */
    double learning_rate, weight_decay, kl_clip;
    const double *momenta; /* of nag: one for every update of the call, which starts after update number `first` */
    int64_t first;
} fnn_rule;

#endif
