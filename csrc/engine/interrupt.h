/* Leaving a long call early. Worker 0 polls for signals between pieces of work; the others look whether the barrier has
 * been aborted. */
#ifndef FNN_INTERRUPT_H
#define FNN_INTERRUPT_H

#include "engine/job.h"

#include <time.h>

/* Multiplications of a worker between two calls of fnn_stopped, about: some 10 ms. */
#define BLOCK_WORK 2e8

/* At most so many of `rows` rows of an op take this long; whole tiles of every height, so that a large chunk is as fast
 * as in one piece. Its bits are the same but for the weights of few outputs: sums over rows continue where the
 * block before left them. */
static inline ptrdiff_t fnn_block_rows(const fnn_op *op, ptrdiff_t rows)
{
    if (rows <= 96)
        return 96;
    const double most = BLOCK_WORK / ((double)op->n_out * (double)(op->kind == FNN_DENSE ? op->n_in : 64));
    return most < 96 ? 96 : most > 1e9 ? (ptrdiff_t)1e9 : (ptrdiff_t)most / 96 * 96;
}

/* Worker 0, now and then: has the user asked to stop? work: multiplications since the last call. */
static int fnn_interrupted(fnn_job *job, double work)
{
    fnn_run *run = &job->run;
    run->work += work;
    if (run->work < 5e5 || !run->poll)
        return 0;
    run->work = 0;
    struct timespec t;
    timespec_get(&t, TIME_UTC);
    double now = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
    if (now - run->polled < 0.02 && now >= run->polled)
        return 0;
    run->polled = now;
    /* run signal handlers in the caller's FTZ/DAZ mode */
    const fnn_subnormals ours = job->train.rule ? fnn_take_subnormals(run->subnormals) : 0;
    const int stop = run->poll(run->poll_arg);
    if (job->train.rule)
        fnn_take_subnormals(ours);
    if (!stop)
        return 0;
    job->results.status = FNN_INTERRUPTED;
    fnn_barrier_abort(run->barrier);
    return 1;
}

/* Before `work` more multiplications: is this worker to return? */
static int fnn_stopped(fnn_job *job, int worker, double work)
{
    return worker == 0 ? fnn_interrupted(job, work) : fnn_barrier_aborted(job->run.barrier);
}

/* Waits for the other workers. Returns 1 when told to stop. */
static int fnn_meet(const fnn_job *job) { return job->schedule.n_workers > 1 && fnn_barrier_wait(job->run.barrier); }

#endif
