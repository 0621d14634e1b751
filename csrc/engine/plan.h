/* A network as data: what the engine executes. */
#ifndef FNN_PLAN_H
#define FNN_PLAN_H

#include "base/common.h"

enum fnn_op_kind { FNN_DENSE = 0, FNN_ACTIVATE, FNN_BATCH_NORM, FNN_LAYER_NORM, FNN_DROPOUT, FNN_STANDARDIZE };
enum fnn_loss {
    FNN_CROSS_ENTROPY = 0,
    FNN_BINARY_CROSS_ENTROPY, /* the last one that classifies */
    FNN_SQUARED_ERROR,
    FNN_ABSOLUTE_ERROR,
    FNN_HUBER,
    FNN_POISSON
};
enum fnn_rule_kind { FNN_SGD = 0, FNN_NAG, FNN_ADAGRAD, FNN_RMSPROP, FNN_ADAM, FNN_KFAC };
enum fnn_curvature { FNN_HESSIAN = 0, FNN_GGN, FNN_FISHER };
#define FNN_NARROW 128 /* the widest layer of a plan that may run by feature */

enum fnn_status { FNN_OK = 0, FNN_DIVERGED, FNN_INTERRUPTED };

#define FNN_BATCH_NORM_COLUMNS 9 /* column vectors of a batch norm in `columns`: see normalise_body.h */

typedef struct {
    int kind;          /* enum fnn_op_kind */
    int input;         /* the op whose output it reads; -1: the batch */
    int activation;    /* enum fnn_activation */
    int shared_weight; /* a later op has the same weight, and has written its gradient already */
    int shared_bias;
    int gated; /* dense with a relu, and one dense op alone reads it (the last op never is): that makes of its ∂ℓ/∂x at
                  once this one's ∂ℓ/∂z, and this one's gradient of the bias */
    double rate; /* multiplies the learning rate; 0: its parameters are frozen */
    ptrdiff_t n_in, n_out;
    ptrdiff_t weight, bias; /* offsets in theta; bias -1: none */
    ptrdiff_t state;  /* offset of what is learnt but not optimised; -1: nothing. Batch norm: running mean, running
                         variance, their count; standardize: mean, 1/scale; dropout: seed */
    double epsilon;   /* of a norm */
    double momentum;  /* of running statistics */
    double drop;      /* probability of dropout */
    ptrdiff_t column; /* of batch norm: place of its column vectors in a worker's `columns` */
    /* places in a worker's workspace, in elements per row of a chunk */
    ptrdiff_t normalised; /* of layer norm: û, and behind all of them 1/σ */
    ptrdiff_t out;        /* output */
    ptrdiff_t pre;        /* pre-activation; -1 where the derivative is a function of the output */
    ptrdiff_t delta;      /* ∂ℓ/∂output, then ∂ℓ/∂pre-activation */
} fnn_op;

/* Where a linearization keeps what belongs to an op; see linearize_body.h. Offsets in elements per row; -1: nothing. */
typedef struct {
    /* kept for all rows of the batch */
    ptrdiff_t out;        /* output */
    ptrdiff_t slope;      /* σ' where σ is not linear */
    ptrdiff_t bend;       /* σ'' times the output's derivative, where σ'' is not 0 everywhere */
    ptrdiff_t delta;      /* w ∂ℓ/∂z of dense and activation, w ∂ℓ/∂output of the others */
    ptrdiff_t normalised; /* û of a norm */
    ptrdiff_t inv_std;    /* of layer norm */
    ptrdiff_t columns;    /* of batch norm, in elements behind all rows: 1/σ, mean δ, mean û δ */
    /* of a worker's chunk of rows */
    ptrdiff_t tangent_pre, tangent_out, tangent_delta, tangent_normalised, tangent_mean;
} fnn_place;

typedef struct {
    ptrdiff_t begin, end; /* a range of theta */
    int penalised;        /* weights are, biases are not */
    double rate;          /* multiplies the learning rate; 0: the range is frozen */
} fnn_segment;

typedef struct {
    const fnn_op *ops; /* in an order in which inputs come first; the last is the output */
    const fnn_segment *segments;
    int n_ops, n_segments, loss;
    int rated; /* a segment's rate is not 1 */
    ptrdiff_t n_parameters, n_in, n_out;
    int batch_statistics;      /* there is a batch norm: training needs the whole batch at once */
    int gathers;               /* an op that is no product reads X: its rows must follow each other */
    int narrow;                /* may run by feature: see dense_body.h */
    ptrdiff_t column_elements; /* of a worker's `columns` */
    ptrdiff_t row_elements;    /* of all outputs, pre-activations and deltas of one row */
    ptrdiff_t widest;          /* most inputs of an op, and one for a bias */
    double input_scale;
    double label_smoothing; /* of cross_entropy */
    const fnn_place *places;
    ptrdiff_t kept_curvature;   /* of the loss's Hessian, n_out per row: see loss_curvature in kernel_list.h */
    ptrdiff_t kept_elements;    /* per row of a linearization */
    ptrdiff_t kept_columns;     /* behind all rows */
    ptrdiff_t tangent_elements; /* per row of a chunk; at least twice the widest op's */
} fnn_plan;

typedef struct {
    int kind;     /* enum fnn_rule_kind */
    int nesterov; /* of sgd */
    int centered; /* of rmsprop */
    int amsgrad;  /* of adam; so is epsilon_hat: ε joins √v before the correction of its bias */
    int epsilon_hat;
    double learning_rate, momentum, beta1, beta2, rho, epsilon, weight_decay, kl_clip;
    const double *momenta; /* of nag: one for every update of the call, which starts after update number `first` */
    int64_t first;
} fnn_rule;

#endif
