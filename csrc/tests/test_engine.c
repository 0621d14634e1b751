/* The engine without Python, for ThreadSanitizer: trains a small network on one and on several workers, with and
 * without clipping, in batches of fewer rows than workers, by row, by feature, and by row with what is zero in x
 * skipped and a relu that its reader goes back through, with red zones in the workspace, and compares.
 * Prints "ok" or what failed.
 *
 * tools/sanitize says how it is built.
 */
#include "engine/arena.h"
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

enum mode { BY_ROW, BY_FEATURE, SKIPPING };

/* alone: worker 0 takes all shards from the second batch on */
static double train(int workers, int shards, int alone, double clip_norm, enum mode mode, float *theta)
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
         .lr_multiplier = 1,
         .penalties = {-1, -1},
         .delta_side = 1},
        {.kind = FNN_DENSE,
         .input = 0,
         .activation = FNN_LINEAR,
         .n_in = HIDDEN,
         .n_out = OUT,
         .weight = FIRST + HIDDEN,
         .bias = FIRST + HIDDEN + SECOND,
         .lr_multiplier = 1,
         .penalties = {-1, 5e-4},
         .delta_side = 0},
    };
    const fnn_segment segments[] = {{0, FIRST, 1, 1, {-1, -1}},
                                    {FIRST, FIRST + HIDDEN, 0, 1, {-1, -1}},
                                    {FIRST + HIDDEN, FIRST + HIDDEN + SECOND, 1, 1, {-1, 5e-4}},
                                    {FIRST + HIDDEN + SECOND, PARAMETERS, 0, 1, {-1, -1}}};
    const fnn_plan plan = {.ops = ops,
                           .segments = segments,
                           .n_ops = 2,
                           .n_segments = 4,
                           .penalised = 1,
                           .loss = FNN_CROSS_ENTROPY,
                           .n_parameters = PARAMETERS,
                           .n_in = IN,
                           .n_out = OUT,
                           .input_scale = 1};
    const fnn_rule rule = {.code = fnn_kernels_baseline.f32.rule_code("adam"),
                           .moments = {0, 1, -1},
                           .corrects_bias = 1,
                           .numbers = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8},
                           .learning_rate = 1e-3};
    static float x[ROWS * IN];
    static int64_t labels[ROWS];
    float moments[2 * PARAMETERS] = {0};
    double losses[EPOCHS], correct[EPOCHS], penalties[EPOCHS];
    for (int i = 0; i < ROWS * IN; i++)
        x[i] = skipping && i / 3 % 4 ? 0 : (float)(i * 37 % 17) / 17;
    for (int i = 0; i < ROWS; i++)
        labels[i] = i % OUT;
    for (int i = 0; i < PARAMETERS; i++)
        theta[i] = (float)(i * 7 % 13) / 50 - 0.1f;

    fnn_team team;
    fnn_barrier barrier;
    fnn_job job = {
        .plan = &plan,
        .kernels = &fnn_kernels_baseline.f32,
        .theta = theta,
        .data = {.x = x, .x_type = FNN_SOURCE_F32, .x_rows = ROWS, .rows = ROWS, .labels = labels},
        .objective = {.l2 = 1e-3},
        .train = {.rule = &rule,
                  .moments = moments,
                  .batch = by_feature ? 100 : 16,
                  .epochs = EPOCHS,
                  .clip_norm = clip_norm,
                  .clip_value = INFINITY},
        .results = {.losses = losses, .correct = correct, .penalties = penalties},
        .schedule = {.by_feature = by_feature,
                     .zeros_forward = skipping ? 4 : 0,
                     .zeros_gradient = skipping ? 2 : 0,
                     .zeros_apart = 4,
                     .chunk = by_feature ? IN + 2 : 8},
        .workspace = {.red_zone = FNN_ALIGN},
        .run = {.barrier = &barrier, .poll = never},
    };
    job.schedule.n_workers = fnn_team_acquire(&team, workers);
    job.schedule.n_shards = shards;
    job.run.alone = alone;
    job.workspace.start = aligned_alloc(FNN_ALIGN, fnn_engine_f32.workspace(&job));
    fnn_engine_f32.guard(&job);
    fnn_barrier_init(&barrier, job.schedule.n_workers);
    fnn_team_run(&team, fnn_engine_f32.train, &job);
    fnn_barrier_destroy(&barrier);
    fnn_team_release(&team);
    const char *broken = fnn_engine_f32.broken(&job);
    if (broken)
        fprintf(stderr, "mode %d, %d workers: something was written behind %s\n", (int)mode, workers, broken);
    free(job.workspace.start);
    return !broken && job.results.epochs_done == EPOCHS ? losses[EPOCHS - 1] : NAN;
}

/* What lies between two parts is checked to the byte. */
static int red_zones_tell(void)
{
    _Alignas(FNN_ALIGN) static char block[1024];
    const enum fnn_arena_mode modes[] = {FNN_GUARD, FNN_CHECK};
    for (size_t at = 100; at < 2 * FNN_ALIGN + 3; at++) {
        const char *broken[2];
        for (int i = 0; i < 2; i++) {
            fnn_arena arena = {.base = block, .red_zone = 1, .mode = modes[i]};
            fnn_take(&arena, "first", 100);
            fnn_take(&arena, "second", 3);
            if (i == 0)
                block[at] = 0;
            broken[i] = arena.broken;
        }
        const char *expected = at < 2 * FNN_ALIGN ? "first" : NULL; /* the second part begins there */
        if (broken[1] != expected && (!broken[1] || !expected || strcmp(broken[1], expected)))
            return 0;
    }
    return 1;
}

int main(void)
{
#ifndef FNN_ASAN /* which would tell first */
    if (!red_zones_tell()) {
        fprintf(stderr, "red zones: a write between two parts is not told\n");
        return 1;
    }
#endif
    const double norms[] = {INFINITY, 0.05};
    for (int c = 0; c < 6; c++) {
        float alone[PARAMETERS], together[PARAMETERS];
        const double loss = train(1, 1, 0, norms[c / 3], c % 3, alone);
        for (int workers = 2; workers <= 4; workers++) {
            const double other = train(workers, workers, 0, norms[c / 3], c % 3, together);
            /* whoever takes the shards, and from when on: the bits are the same */
            for (int taken_by = 1; taken_by <= workers; taken_by++) {
                float same[PARAMETERS];
                if (train(taken_by, workers, 1, norms[c / 3], c % 3, same) != other ||
                    memcmp(same, together, sizeof same) != 0) {
                    fprintf(stderr, "clip_norm %g, mode %d, %d shards of %d workers who leave: other bits\n",
                            norms[c / 3], c % 3, workers, taken_by);
                    return 1;
                }
            }
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
