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
} fnn_engine;

extern const fnn_engine fnn_engine_f32, fnn_engine_f64;

#endif
