/* The engine without Python, for ThreadSanitizer: trains a small network on one and on several workers, with and
 * without clipping, in batches of fewer rows than workers, by row, by feature, and by row with what is zero in x
 * skipped and a relu that its reader goes back through, and compares. Prints "ok" or what failed.
 *
 * tools/sanitize says how it is built.
 */
#include "engine/engine.h"

#include <stdio.h>
#include <stdlib.h>

extern const fnn_kernels fnn_kernels_baseline;

enum { ROWS = 129, IN = 24, HIDDEN = 16, OUT = 5, FIRST = IN * HIDDEN, SECOND = HIDDEN * OUT };
enum { PARAMETERS = FIRST + HIDDEN + SECOND + OUT, EPOCHS = 5 };

static int never(void *arg)
{
    (void)arg;
    return 0;
}

/* Outputs have room for the row of ones behind them. */
enum mode { BY_ROW, BY_FEATURE, SKIPPING };

static double train(int workers, double clip_norm, enum mode mode, float *theta)
{
    const int by_feature = mode == BY_FEATURE, skipping = mode == SKIPPING;
    const fnn_op ops[] = {
        {.kind = FNN_DENSE,
         .input = -1,
         .activation = skipping ? FNN_RELU : FNN_TANH,
         .gated = skipping,
         .n_in = IN,
         .n_out = HIDDEN,
         .weight = 0,
         .bias = FIRST,
         .out = 0,
         .pre = -1,
         .delta = HIDDEN + OUT + 2},
        {.kind = FNN_DENSE,
         .input = 0,
         .activation = FNN_LINEAR,
         .n_in = HIDDEN,
         .n_out = OUT,
         .weight = FIRST + HIDDEN,
         .bias = FIRST + HIDDEN + SECOND,
         .out = HIDDEN + 1,
         .pre = -1,
         .delta = 2 * HIDDEN + OUT + 2},
    };
    const fnn_segment segments[] = {{0, FIRST, 1},
                                    {FIRST, FIRST + HIDDEN, 0},
                                    {FIRST + HIDDEN, FIRST + HIDDEN + SECOND, 1},
                                    {FIRST + HIDDEN + SECOND, PARAMETERS, 0}};
    const fnn_plan plan = {.ops = ops,
                           .segments = segments,
                           .n_ops = 2,
                           .n_segments = 4,
                           .loss = FNN_CROSS_ENTROPY,
                           .n_parameters = PARAMETERS,
                           .n_in = IN,
                           .n_out = OUT,
                           .row_elements = 3 * HIDDEN + OUT + 2,
                           .input_scale = 1};
    const fnn_rule rule = {.kind = FNN_ADAM, .learning_rate = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8};
    static float x[ROWS * IN];
    static int64_t labels[ROWS];
    float state[2 * PARAMETERS] = {0};
    double losses[EPOCHS], correct[EPOCHS], penalties[EPOCHS];
    for (int i = 0; i < ROWS * IN; i++)
        x[i] = skipping && i / 3 % 4 ? 0 : (float)(i * 37 % 17) / 17;
    for (int i = 0; i < ROWS; i++)
        labels[i] = i % OUT;
    for (int i = 0; i < PARAMETERS; i++)
        theta[i] = (float)(i * 7 % 13) / 50 - 0.1f;

    fnn_team team;
    fnn_barrier barrier;
    fnn_job_f32 job = {.plan = &plan,
                       .kernels = &fnn_kernels_baseline.f32,
                       .x = x,
                       .x_type = FNN_SOURCE_F32,
                       .rows = ROWS,
                       .labels = labels,
                       .l2 = 1e-3,
                       .theta = theta,
                       .rule = &rule,
                       .trained = theta,
                       .state = state,
                       .batch = by_feature ? 100 : 16,
                       .epochs = EPOCHS,
                       .clip_norm = clip_norm,
                       .clip_value = INFINITY,
                       .losses = losses,
                       .correct = correct,
                       .penalties = penalties,
                       .by_feature = by_feature,
                       .zeros_forward = skipping ? 4 : 0,
                       .zeros_gradient = skipping ? 2 : 0,
                       .zeros_apart = 4,
                       .chunk = by_feature ? IN + 2 : 8,
                       .poll = never,
                       .barrier = &barrier};
    job.n_workers = fnn_team_acquire(&team, workers);
    job.n_shards = job.n_workers;
    job.workspace = aligned_alloc(FNN_ALIGN, fnn_engine_workspace_f32(&job));
    job.reports = calloc((size_t)job.n_shards, sizeof(fnn_report));
    fnn_barrier_init(&barrier, job.n_workers);
    fnn_team_run(&team, fnn_engine_train_f32, &job);
    fnn_barrier_destroy(&barrier);
    fnn_team_release(&team);
    free(job.workspace);
    free(job.reports);
    return job.epochs_done == EPOCHS ? losses[EPOCHS - 1] : NAN;
}

int main(void)
{
    const double norms[] = {INFINITY, 0.05};
    for (int c = 0; c < 6; c++) {
        float alone[PARAMETERS], together[PARAMETERS];
        const double loss = train(1, norms[c / 3], c % 3, alone);
        for (int workers = 2; workers <= 4; workers++) {
            const double other = train(workers, norms[c / 3], c % 3, together);
            if (!(fabs(loss - other) < 1e-5)) {
                fprintf(stderr, "clip_norm %g, mode %d, %d workers: loss %.9g, alone %.9g\n", norms[c / 3], c % 3,
                        workers, other, loss);
                return 1;
            }
            for (int i = 0; i < PARAMETERS; i++)
                if (!(fabsf(alone[i] - together[i]) < 1e-4f)) {
                    fprintf(stderr, "clip_norm %g, mode %d, %d workers: theta[%d] differs\n", norms[c / 3], c % 3,
                            workers, i);
                    return 1;
                }
        }
    }
    fnn_pool_shutdown();
    puts("ok");
    return 0;
}
