/* Executes plans: forward, loss, gradient, whole epochs of training, linearizations, on one or several workers.
 *
 * Rows are sharded over the workers. A worker takes its shard in chunks of rows that keep the activations in its
 * cache, and adds the chunks' gradients up in its own buffer. A step of training is
 *     shard gradients → barrier → every worker sums, and updates, its range of the parameters → barrier
 * with one more barrier for the norm when it is clipped. Every sum has a fixed order, so that the same number of
 * workers gives the same bits. Nothing is allocated: the caller provides the workspace.
 */
#ifndef FNN_ENGINE_H
#define FNN_ENGINE_H

#include "engine/job.h"

/* Networks that train side by side, one in each lane of a vector; see lanes.h. Arrays end with the lanes, of which the
 * first `members` count. */
typedef struct {
    fnn_job *train, *forward; /* of one of them alone: rows to train on and to validate on, and how they are divided */
    ptrdiff_t lanes, members, epochs, n_moments;
    void *theta, *moments; /* (n_parameters, lanes), (n_moments, n_parameters, lanes) */
    fnn_lane_step step;    /* what does not change from step to step */
    const double *rates;   /* learning rates (epochs, batches, lanes); NULL: those of step */
    int penalised;         /* some l2 is not 0 */
    char *workspace;       /* FNN_ALIGN-aligned */
    size_t red_zone;
    /* what is compared: losses or accuracies of the validation rows, times sign the larger the better */
    int by_loss;
    double sign;
    ptrdiff_t patience; /* -1: none */
    double *best;       /* (lanes,) the best score so far, NaN if none */
    int64_t *waited;    /* (lanes,) epochs since */
    /* results */
    double *losses, *correct, *penalties, *val_losses, *val_accuracies; /* (epochs, lanes) */
    int64_t *steps;                                                     /* (epochs,) */
    int64_t *best_at;   /* (lanes,) the epoch of this call with the best score so far; -1 before: none */
    int64_t *epochs_of; /* (lanes,) epochs that count; 0: something is not finite; -1 before */
    void *best_theta;   /* (members, n_parameters), NULL: not wanted */
    void *last_theta;   /* (members, n_parameters) */
    ptrdiff_t epochs_done;
} fnn_lanes;

/* The entry points for one element type. */
typedef struct {
    /* Sets zeros_forward, zeros_gradient and zeros_apart of the schedule by n rows of x (a multiple of 4), for which
     * `sample` (n, n_in) and `bits` (n, ceil(n_in / 64)) have room. Returns the time of products with x relative to
     * products that skip nothing. lanes: of the kernels' vectors. */
    double (*count_zeros)(fnn_job *job, int lanes, ptrdiff_t n, void *sample, uint64_t *bits);
    /* Bytes of workspace for the job and its schedule; fills in where the parts of job->workspace are. */
    size_t (*workspace)(fnn_job *job);
    /* With a red zone: fills it between all parts, and the parts with NaN. */
    void (*guard)(fnn_job *job);
    /* Then, after the run: the name of a part behind which something was written; NULL: nothing was. */
    const char *(*broken)(fnn_job *job);
    /* Run by fnn_team_run on schedule.n_workers workers; arg is the job. */
    fnn_task forward, gradient, train, linearize, product;
    /* Whether networks of this plan may train side by side as the jobs, of one of them alone, are divided. */
    int (*lanes_fit)(const fnn_job *train, const fnn_job *forward);
    /* Bytes of workspace, and the whole training, on the calling thread. An interrupted one leaves the first job's
     * status. broken: as above. */
    size_t (*lanes_workspace)(const fnn_lanes *all);
    void (*train_lanes)(fnn_lanes *all);
    const char *(*lanes_broken)(const fnn_lanes *all);
} fnn_engine;

extern const fnn_engine fnn_engine_f32, fnn_engine_f64;

#endif
