/* The engine, for one element type; see engine.h. */

/* One worker's buffers, carved out of the workspace. Rows of each are those of a chunk. */
typedef struct {
    REAL *x, *target, *weight;
    int64_t *labels;
    REAL *rows;     /* outputs, pre-activations and deltas: plan offsets times chunk */
    REAL *gradient; /* of the shard in hand */
    REAL *pack;
    FN(zeros) zeros;
    REAL *turned;        /* by feature: x and a row of ones; the target or the output by row; its delta by row */
    REAL *columns;       /* vectors as long as rows are wide, of batch norms */
    const REAL **tables; /* of row pointers: of every op's output and delta, and of x */
    const REAL **kfac_rows;
} FN(buffers);

static size_t FN(round_up)(size_t bytes) { return (bytes + FNN_ALIGN - 1) / FNN_ALIGN * FNN_ALIGN; }

/* What a worker does between two looks at `stopped`, about: some 10 ms. */
#define BLOCK_WORK 2e8

/* Rows of an op that take this long; whole tiles of every height, so that a large chunk is as fast as in one piece. Its
 * bits are the same, too, but for the weights of few outputs: sums over rows go on where the block before has left
 * them. */
static ptrdiff_t FN(block_rows)(const fnn_op *op)
{
    const double rows = BLOCK_WORK / ((double)op->n_out * (double)(op->kind == FNN_DENSE ? op->n_in : 64));
    return rows < 96 ? 96 : rows > 1e9 ? (ptrdiff_t)1e9 : (ptrdiff_t)rows / 96 * 96;
}

/* Whether products with x skip its zeros. Only the first op reads x. */
static int FN(skips)(const JOB *job) { return job->zeros_forward > 0 && !job->by_feature; }

/* Most rows that are listed at a time: a block, or those of a whole step; of a linearization, the chunk. */
static size_t FN(listed_rows)(const JOB *job)
{
    const ptrdiff_t most = FN(block_rows)(job->plan->ops) + 96;
    return (size_t)(most < job->chunk && !job->kept ? most : job->chunk);
}

static size_t FN(carve)(const JOB *job, char *base, FN(buffers) * b)
{
    const fnn_plan *plan = job->plan;
    size_t chunk = (size_t)job->chunk, n_in = (size_t)plan->n_in, at = 0;
    const size_t skips = (size_t)FN(skips)(job), listed = skips ? FN(listed_rows)(job) : 0;
    const size_t forward = skips ? (listed / (size_t)job->zeros_forward + 1) * n_in : 0;
    const size_t most_tiles = skips ? (size_t)fnn_zeros_tiles(plan->n_in, job->zeros_gradient, job->zeros_apart) : 0;
    const size_t backward = most_tiles * listed;
    const size_t pack = skips ? FNN_ZEROS_PACK_BYTES : FNN_GEMM_PACK_BYTES;
#define TAKE_(member, type, count)               \
    if (b)                                       \
        b->member = (type *)(void *)(base + at); \
    at += FN(round_up)((size_t)(count) * sizeof(type));
    TAKE_(pack, REAL, pack / sizeof(REAL))
    TAKE_(zeros.bits, uint64_t, skips * chunk * ((n_in + 63) / 64))
    TAKE_(zeros.starts, int32_t, skips *((listed / 2 + 2) + most_tiles * (listed / 64 + 1) + 1))
    TAKE_(zeros.list, int32_t, skips *((forward > backward ? forward : backward) + 16))
    TAKE_(x, REAL, chunk * (size_t)plan->n_in)
    TAKE_(labels, int64_t, chunk)
    TAKE_(target, REAL, chunk * (size_t)plan->n_out)
    TAKE_(weight, REAL, chunk)
    TAKE_(rows, REAL, chunk * (size_t)plan->row_elements)
    TAKE_(turned, REAL, job->by_feature ? chunk * (size_t)(plan->n_in + 1 + 2 * plan->n_out) : 0)
    TAKE_(columns, REAL, plan->column_elements)
    TAKE_(tables, const REAL *, chunk *(size_t)(2 * plan->n_ops + 1))
    TAKE_(kfac_rows, const REAL *, plan->widest)
#undef TAKE_
    /* an odd number of cache lines, so that the workers' buffers do not fall on the same sets of a shared cache */
    return at + FNN_ALIGN;
}

static size_t FN(lens_bytes)(const JOB *job); /* in linearize_body.h */

static REAL *FN(columns_at)(const JOB *job, int worker)
{
    FN(buffers) b;
    const size_t bytes = job->kept ? FN(lens_bytes)(job) : FN(carve)(job, NULL, NULL);
    FN(carve)(job, job->workspace + bytes * (size_t)worker, &b);
    return b.columns;
}

/* Where in training a chunk of rows stands. */
typedef struct {
    int worker, dropping;
    int64_t number; /* of updates before */
    ptrdiff_t first_row, batch_rows;
} FN(pass);

/* Worker 0, now and then: has the user asked to stop? work: multiplications since it was last asked. */
static int FN(interrupted)(JOB *job, double work)
{
    job->work += work;
    if (job->work < 5e5 || !job->poll)
        return 0;
    job->work = 0;
    struct timespec t;
    timespec_get(&t, TIME_UTC);
    double now = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
    if (now - job->polled < 0.02 && now >= job->polled)
        return 0;
    job->polled = now;
    /* the user's handlers run with the numbers that he has */
    const fnn_subnormals ours = job->rule ? fnn_take_subnormals(job->subnormals) : 0;
    const int stop = job->poll(job->poll_arg);
    if (job->rule)
        fnn_take_subnormals(ours);
    if (!stop)
        return 0;
    job->status = FNN_INTERRUPTED;
    fnn_barrier_abort(job->barrier);
    return 1;
}

/* Before `work` more multiplications: is this worker to leave? */
static int FN(stopped)(JOB *job, int worker, double work)
{
    return worker == 0 ? FN(interrupted)(job, work) : fnn_barrier_aborted(job->barrier);
}

#include "engine/elementwise_body.h"
#include "engine/normalise_body.h"

static size_t FN(gradient_bytes)(const JOB *job)
{
    return FN(round_up)((size_t)job->plan->n_parameters * sizeof(REAL));
}

size_t FN(engine_workspace)(const JOB *job)
{
    return FN(carve)(job, NULL, NULL) * (size_t)job->n_workers + FN(gradient_bytes)(job) * (size_t)job->n_shards;
}

static REAL *FN(gradient_of)(const JOB *job, int shard)
{
    const size_t at = FN(carve)(job, NULL, NULL) * (size_t)job->n_workers + FN(gradient_bytes)(job) * (size_t)shard;
    return (REAL *)(void *)(job->workspace + at);
}

/* The row pointers of op i's output and delta; for i = n_ops the first is that of x. */
static const REAL **FN(output_rows)(const JOB *job, const FN(buffers) * b, int i)
{
    return b->tables + 2 * i * job->chunk;
}

static const REAL **FN(delta_rows)(const JOB *job, const FN(buffers) * b, int i)
{
    return b->tables + (2 * i + 1) * job->chunk;
}

/* A worker's buffers with the tables of what stays where it is. */
static FN(buffers) FN(prepare)(const JOB *job, int worker)
{
    FN(buffers) b;
    FN(carve)(job, job->workspace + FN(carve)(job, NULL, NULL) * (size_t)worker, &b);
    for (int i = 0; i < job->plan->n_ops; i++) {
        const fnn_op *op = job->plan->ops + i;
        const REAL **out = FN(output_rows)(job, &b, i), **delta = FN(delta_rows)(job, &b, i);
        if (job->by_feature) { /* of all that is said with tables, only W is left */
            for (ptrdiff_t row = 0; op->kind == FNN_DENSE && row < op->n_in; row++)
                out[row] = job->theta + op->weight + row * op->n_out;
            out[op->n_in] = op->bias >= 0 ? job->theta + op->bias : NULL;
            continue;
        }
        for (ptrdiff_t row = 0; row < job->chunk; row++) {
            out[row] = b.rows + op->out * job->chunk + row * op->n_out;
            delta[row] = b.rows + op->delta * job->chunk + row * FN(delta_row)(job, op);
        }
    }
    return b;
}

static void FN(point_at_rows)(ptrdiff_t rows, ptrdiff_t cols, const REAL *x, const int64_t *index, const REAL **table)
{
    if (index)
        for (ptrdiff_t i = 0; i < rows; i++)
            table[i] = x + index[i] * cols;
    else
        for (ptrdiff_t i = 0; i < rows; i++)
            table[i] = x + i * cols;
}

/* Pointers to the rows first .. first+rows of the pass: where they lie, or, where they must be converted or scaled,
 * or BLAS wants them together, gathered. NULL when told to stop. */
static const REAL *const *FN(fetch)(JOB *job, const FN(buffers) * b, int worker, const int64_t *index, ptrdiff_t first,
                                    ptrdiff_t rows)
{
    const fnn_plan *plan = job->plan;
    static const size_t size[] = {sizeof(float), sizeof(double), sizeof(uint8_t)};
    const int own_type = REAL_F32 ? FNN_SOURCE_F32 : FNN_SOURCE_F64;
    const ptrdiff_t n_in = plan->n_in;
    const size_t row_bytes = (size_t)n_in * size[job->x_type];
    const char *x = job->x;
    const REAL **table = FN(output_rows)(job, b, plan->n_ops);
    if (index)
        index += first;
    if (!job->indptr && job->x_type == own_type && plan->input_scale == 1 && !(index && (job->blas || plan->gathers))) {
        if (!index)
            x += (size_t)first * row_bytes;
        FN(point_at_rows)(rows, n_in, (const REAL *)(const void *)x, index, table);
        return table;
    }
    const ptrdiff_t block = (ptrdiff_t)(BLOCK_WORK / 64) / n_in + 1;
    for (ptrdiff_t lo = 0, n; lo < rows; lo += n) {
        const int64_t *picked = index ? index + lo : NULL;
        REAL *to = b->x + lo * n_in;
        n = rows - lo < block ? rows - lo : block;
        if (lo > 0 && FN(stopped)(job, worker, BLOCK_WORK))
            return NULL;
        if (job->indptr)
            job->kernels->gather_csr(n, n_in, job->x_type, x, index ? job->indptr : job->indptr + first + lo,
                                     job->columns, picked, plan->input_scale, to);
        else
            job->kernels->gather_rows(n, n_in, job->x_type, index ? x : x + (size_t)(first + lo) * row_bytes, picked,
                                      plan->input_scale, to);
    }
    FN(point_at_rows)(rows, n_in, b->x, NULL, table);
    return table;
}

static void FN(fill_ones)(ptrdiff_t n, REAL *x)
{
    for (ptrdiff_t i = 0; i < n; i++)
        x[i] = 1;
}

/* The fetched rows by feature, with a row of ones behind them; a table with one entry. */
static const REAL *const *FN(turn)(const JOB *job, const FN(buffers) * b, const REAL *const *x, ptrdiff_t rows)
{
    const REAL **table = FN(output_rows)(job, b, job->plan->n_ops);
    job->kernels->transpose(rows, job->plan->n_in, x, b->turned);
    FN(fill_ones)(rows, b->turned + job->plan->n_in * rows);
    table[0] = b->turned;
    return table;
}

/* What there is to skip in the chunk's rows from `first` on, for an op that reads them; NULL: nothing. */
static const FN(zeros) *
    FN(zeros_of)(const JOB *job, const FN(buffers) * b, const fnn_op *op, ptrdiff_t first, FN(zeros) * zeros)
{
    if (op->input >= 0 || !FN(skips)(job))
        return NULL;
    *zeros = b->zeros;
    zeros->bits += first * ((op->n_in + 63) / 64);
    return zeros;
}

/* NULL when told to stop. */
static const REAL *FN(forward)(JOB *job, const FN(buffers) * b, const FN(pass) * pass, const REAL *const *x,
                               ptrdiff_t rows, REAL *result)
{
    const fnn_plan *plan = job->plan;
    const ptrdiff_t chunk = job->chunk;
    REAL *out = NULL;
    for (int i = 0; i < plan->n_ops; i++) {
        const fnn_op *op = plan->ops + i;
        const REAL *const *in = op->input < 0 ? x : FN(output_rows)(job, b, op->input);
        const REAL *first = op->input < 0 ? x[0] : b->rows + plan->ops[op->input].out * chunk;
        REAL *pre = op->pre < 0 ? NULL : b->rows + op->pre * chunk;
        REAL *normalised = b->rows + op->normalised * chunk;
        out = result && i == plan->n_ops - 1 ? result : b->rows + op->out * chunk;
        const ptrdiff_t block = FN(block_rows)(op);
        switch (op->kind) {
        case FNN_ACTIVATE:
            FN(activate_forward)(job, op, rows, first, pre, out);
            break;
        case FNN_DROPOUT:
            FN(dropout_apply)(job, op, i, rows, pass->first_row, pass->number, pass->dropping, first, out);
            break;
        case FNN_STANDARDIZE:
            FN(standardize_forward)(job, op, rows, first, out);
            break;
        case FNN_LAYER_NORM:
            FN(layer_norm_op_forward)(job, op, rows, first, normalised, normalised + op->n_out * chunk, out);
            break;
        case FNN_BATCH_NORM:
            if (FN(batch_norm_op_forward)(job, op, pass, rows, first, NULL, out))
                return NULL;
            break;
        default:
            if (job->by_feature) {
                FN(narrow_forward)(job, op, rows, first, FN(output_rows)(job, b, i), b->pack, pre, out);
                break;
            }
            for (ptrdiff_t lo = 0, n; lo < rows; lo += n) {
                n = rows - lo < block ? rows - lo : block;
                if (lo > 0 && FN(stopped)(job, pass->worker, BLOCK_WORK))
                    return NULL;
                FN(zeros) zeros;
                FN(dense_forward)(job, op, n, in + lo, FN(zeros_of)(job, b, op, lo, &zeros), b->pack,
                                  pre ? pre + lo * op->n_out : NULL, out + lo * op->n_out);
            }
        }
        if (job->by_feature)
            FN(fill_ones)(rows, out + op->n_out * rows);
        if (rows > block && FN(stopped)(job, pass->worker, BLOCK_WORK))
            return NULL;
    }
    return out;
}

/* The last op's delta holds ∂ℓ/∂output. step: see dense_backward. Returns 1 when told to stop. */
static int FN(backward)(JOB *job, const FN(buffers) * b, const FN(pass) * pass, const REAL *const *x, ptrdiff_t rows,
                        int accumulate, const fnn_step *step)
{
    const fnn_plan *plan = job->plan;
    const ptrdiff_t chunk = job->chunk;
    for (int i = plan->n_ops - 1; i >= 0; i--) {
        const fnn_op *op = plan->ops + i, *source = op->input < 0 ? NULL : plan->ops + op->input;
        const REAL *const *in = source ? FN(output_rows)(job, b, op->input) : x;
        const REAL *first = source ? b->rows + source->out * chunk : x[0];
        REAL *dx = source ? b->rows + source->delta * chunk : NULL;
        const REAL *pre = op->pre < 0 ? NULL : b->rows + op->pre * chunk, *out = b->rows + op->out * chunk;
        REAL *delta = b->rows + op->delta * chunk, *normalised = b->rows + op->normalised * chunk;
        const ptrdiff_t block = step ? rows : FN(block_rows)(op); /* a step is not left half done */
        switch (op->kind) {
        case FNN_ACTIVATE:
            FN(activate_backward)(job, op, rows, pre, out, delta);
            break;
        case FNN_DROPOUT:
            FN(dropout_apply)(job, op, i, rows, pass->first_row, pass->number, pass->dropping, delta, delta);
            break;
        case FNN_STANDARDIZE:
            break;
        case FNN_LAYER_NORM:
            FN(layer_norm_op_backward)(job, op, rows, normalised, normalised + op->n_out * chunk, accumulate, delta,
                                       b->gradient);
            break;
        case FNN_BATCH_NORM:
            if (FN(batch_norm_op_backward)(job, op, pass, rows, first, accumulate, source != NULL, step != NULL, delta,
                                           b->gradient))
                return 1;
            break;
        default:
            if (job->by_feature) {
                FN(narrow_backward)(job, op, rows, first, FN(output_rows)(job, b, i), source, pre, out, accumulate,
                                    b->pack, delta, b->gradient, dx, step);
                break;
            }
            for (ptrdiff_t lo = 0, n; lo < rows; lo += n) {
                const ptrdiff_t at = lo * op->n_out;
                REAL *lower = dx ? dx + lo * FN(delta_row)(job, source) : NULL;
                n = rows - lo < block ? rows - lo : block;
                if (lo > 0 && FN(stopped)(job, pass->worker, BLOCK_WORK))
                    return 1;
                FN(zeros) zeros;
                FN(dense_backward)(job, op, n, in + lo, source ? first + lo * op->n_in : NULL, source,
                                   FN(zeros_of)(job, b, op, lo, &zeros), pre ? pre + at : NULL, out + at,
                                   accumulate || lo > 0, b->pack, delta + lo * FN(delta_row)(job, op),
                                   FN(delta_rows)(job, b, i) + lo, b->gradient, lower, step);
            }
        }
        if (rows > block && FN(stopped)(job, pass->worker, BLOCK_WORK))
            return 1;
        if (step && (op->kind == FNN_BATCH_NORM || op->kind == FNN_LAYER_NORM)) {
            FN(update)(job, 0, step, 0, op->rate, op->weight, op->n_out, b->gradient + op->weight);
            FN(update)(job, 0, step, 0, op->rate, op->bias, op->n_out, b->gradient + op->bias);
        }
    }
    return 0;
}

static double FN(loss)(const JOB *job, ptrdiff_t rows, ptrdiff_t k, const REAL *z, const int64_t *labels,
                       const REAL *target, const REAL *weight, double *correct, REAL *delta)
{
    const fnn_plan *plan = job->plan;
    switch (plan->loss) {
    case FNN_CROSS_ENTROPY:
        return job->kernels->cross_entropy(rows, k, z, labels, target, weight, plan->label_smoothing, correct, delta);
    case FNN_BINARY_CROSS_ENTROPY:
        return job->kernels->binary_cross_entropy(rows, k, z, target, weight, correct, delta);
    case FNN_ABSOLUTE_ERROR:
        return job->kernels->absolute_error(rows, k, z, target, weight, delta);
    case FNN_HUBER:
        return job->kernels->huber(rows, k, z, target, weight, delta);
    case FNN_POISSON:
        return job->kernels->poisson(rows, k, z, target, weight, delta);
    default:
        return job->kernels->squared_error(rows, k, z, target, weight, delta);
    }
}

/* The same by feature, in z and in delta. Without weights a sum over all elements has no rows, and the target is what
 * is transposed; other losses get z by row, and give their delta by row. */
static double FN(narrow_loss)(const JOB *job, const FN(buffers) * b, ptrdiff_t rows, const REAL *z,
                              const int64_t *labels, const REAL *target, const REAL *weight, double *correct,
                              REAL *delta)
{
    const ptrdiff_t k = job->plan->n_out;
    REAL *by_row = b->turned + (job->plan->n_in + 1) * rows, *delta_by_row = by_row + k * rows;
    const REAL **table = FN(delta_rows)(job, b, 0);
    if (job->plan->loss >= FNN_SQUARED_ERROR && !weight) {
        FN(point_at_rows)(rows, k, target, NULL, table);
        job->kernels->transpose(rows, k, table, by_row);
        return FN(loss)(job, k, rows, z, NULL, by_row, NULL, correct, delta);
    }
    FN(point_at_rows)(k, rows, z, NULL, table);
    job->kernels->transpose(k, rows, table, by_row);
    const double loss = FN(loss)(job, rows, k, by_row, labels, target, weight, correct, delta_by_row);
    FN(point_at_rows)(rows, k, delta_by_row, NULL, table);
    job->kernels->transpose(rows, k, table, delta);
    return loss;
}

/* ℓ summed over the rows, and its derivative in delta. */
static double FN(head)(const JOB *job, const FN(buffers) * b, const REAL *z, const int64_t *index, ptrdiff_t first,
                       ptrdiff_t rows, double *weight_sum, double *correct, REAL *delta)
{
    const fnn_plan *plan = job->plan;
    const ptrdiff_t k = plan->n_out;
    const int64_t *labels = job->labels ? job->labels + first : NULL;
    const REAL *target = job->target ? job->target + first * k : NULL;
    const REAL *weight = job->weight ? job->weight + first : NULL;
    if (index) {
        index += first;
        if (job->labels) {
            for (ptrdiff_t i = 0; i < rows; i++)
                b->labels[i] = job->labels[index[i]];
            labels = b->labels;
        } else {
            for (ptrdiff_t i = 0; i < rows; i++)
                for (ptrdiff_t j = 0; j < k; j++)
                    b->target[i * k + j] = job->target[index[i] * k + j];
            target = b->target;
        }
        if (job->weight) {
            for (ptrdiff_t i = 0; i < rows; i++)
                b->weight[i] = job->weight[index[i]];
            weight = b->weight;
        }
    }
    *weight_sum = (double)rows;
    if (weight) {
        *weight_sum = 0;
        for (ptrdiff_t i = 0; i < rows; i++)
            *weight_sum += (double)weight[i];
    }
    if (job->by_feature)
        return FN(narrow_loss)(job, b, rows, z, labels, target, weight, correct, delta);
    return FN(loss)(job, rows, k, z, labels, target, weight, correct, delta);
}

/* What turns the sums over a batch into its objective: 1 / Σ w, and its l2. */
static void FN(mean_terms)(const JOB *job, double weight, fnn_terms *terms)
{
    terms->scale = 1 / weight;
    if (job->divide_l2)
        terms->l2 = job->l2 / weight;
}

/* One shard of the rows first .. first+rows: fills its report and, if asked, its gradient; or, when it is the only
 * shard and one chunk and comes with a step, updates the parameters. number: of updates before this one; -1: not a step
 * of training, nothing is dropped. Returns 1 when told to stop. */
static int FN(shard)(JOB *job, const FN(buffers) * b, int worker, int shard, const int64_t *index, ptrdiff_t first,
                     ptrdiff_t rows, int with_gradient, fnn_step *step, int64_t number)
{
    fnn_report *report = job->reports + shard;
    const ptrdiff_t begin = first + rows * shard / job->n_shards;
    const ptrdiff_t count = first + rows * (shard + 1) / job->n_shards - begin;
    ptrdiff_t pieces = (count + job->chunk - 1) / job->chunk;
    if (pieces == 0 && job->training && job->plan->batch_statistics)
        pieces = 1; /* the others wait for everyone's moments */
    double correct = 0;
    report->loss = report->weight = 0;
    report->active = count > 0;
    for (ptrdiff_t p = 0; p < pieces; p++) {
        const ptrdiff_t lo = begin + p * job->chunk, left = begin + count - lo;
        const ptrdiff_t n = left < job->chunk ? left : job->chunk;
        double weight;
        if (FN(stopped)(job, worker, (double)n * (double)job->plan->n_parameters))
            return 1;
        const REAL *const *x = FN(fetch)(job, b, worker, index, lo, n);
        if (!x)
            return 1;
        if (job->by_feature)
            x = FN(turn)(job, b, x, n);
        const FN(pass) pass = {worker, number >= 0, number, lo - first, rows};
        const REAL *z = FN(forward)(job, b, &pass, x, n, NULL);
        if (!z)
            return 1;
        report->loss += FN(head)(job, b, z, index, lo, n, &weight, &correct,
                                 b->rows + job->plan->ops[job->plan->n_ops - 1].delta * job->chunk);
        report->weight += weight;
        if (step && isfinite(report->loss) && weight > 0) {
            FN(mean_terms)(job, weight, &step->terms);
            report->penalty = 0;
            if (FN(backward)(job, b, &pass, x, n, 0, step))
                return 1;
        } else if (!step && with_gradient) {
            if (FN(backward)(job, b, &pass, x, n, p > 0, NULL))
                return 1;
        }
    }
    report->correct = correct;
    return 0;
}

/* A worker's shards, one after the other. */
static int FN(shards)(JOB *job, FN(buffers) * b, int worker, const int64_t *index, ptrdiff_t first, ptrdiff_t rows,
                      int with_gradient, fnn_step *step, int64_t number)
{
    for (int shard = worker; shard < job->n_shards; shard += job->n_workers) {
        b->gradient = FN(gradient_of)(job, shard);
        if (FN(shard)(job, b, worker, shard, index, first, rows, with_gradient, step, number))
            return 1;
    }
    return 0;
}

/* The shards' gradients, from element `begin` on; those without rows have none. */
static int FN(shards_at)(const JOB *job, ptrdiff_t begin, const REAL **shards)
{
    int n = 0;
    for (int s = 0; s < job->n_shards; s++)
        if (job->reports[s].active)
            shards[n++] = FN(gradient_of)(job, s) + begin;
    return n;
}

static int FN(range_of)(const JOB *job, int part, ptrdiff_t *begin, ptrdiff_t *end)
{
    const ptrdiff_t line = FNN_ALIGN / (ptrdiff_t)sizeof(REAL), lines = (job->plan->n_parameters + line - 1) / line;
    *begin = lines * part / job->n_shards * line;
    *end = lines * (part + 1) / job->n_shards * line;
    if (*end > job->plan->n_parameters)
        *end = job->plan->n_parameters;
    return *begin < *end;
}

enum FN(action) { FN(NORM), FN(UPDATE), FN(FINISH) };

static void FN(apply_rule)(const JOB *job, const fnn_terms *terms, const fnn_step *step, double rate, double decay,
                           ptrdiff_t at, ptrdiff_t n, const REAL *g)
{
    const fnn_rule *rule = job->rule;
    const ptrdiff_t p = job->plan->n_parameters;
    REAL *theta = job->trained + at, *s = job->state + at;
    switch (rule->kind) {
    case FNN_SGD:
        job->kernels->sgd_update(n, terms, rate, rule->momentum, rule->nesterov, g, theta,
                                 rule->momentum != 0 ? s : NULL);
        break;
    case FNN_NAG:
        job->kernels->nag_update(n, terms, rate, rule->momenta[step->number - rule->first], g, theta, s);
        break;
    case FNN_ADAGRAD:
        job->kernels->adagrad_update(n, terms, rate, rule->epsilon, g, theta, s);
        break;
    case FNN_RMSPROP: {
        REAL *mean = rule->centered ? s + p : NULL;
        REAL *velocity = rule->momentum != 0 ? s + (rule->centered ? 2 * p : p) : NULL;
        job->kernels->rmsprop_update(n, terms, rate, rule->rho, rule->epsilon, rule->momentum, g, theta, s, mean,
                                     velocity);
        break;
    }
    default: {
        job->kernels->adam_update(n, terms, step->bias1, step->bias2, rate, rule->beta1, rule->beta2,
                                  rule->epsilon_hat ? rule->epsilon / sqrt(step->bias2) : rule->epsilon, decay, g,
                                  theta, s, s + p, rule->amsgrad ? s + 2 * p : NULL);
    }
    }
}

static void FN(update)(JOB *job, int part, const fnn_step *step, int penalised, double rate, ptrdiff_t at, ptrdiff_t n,
                       const REAL *g)
{
    fnn_terms terms = step->terms;
    if (!penalised)
        terms.l1 = terms.l2 = 0;
    if (terms.l1 != 0 || terms.l2 != 0)
        job->reports[part].penalty += job->kernels->penalty(n, terms.l1, terms.l2, job->theta + at);
    rate *= step->rate;
    if (rate != 0)
        FN(apply_rule)(job, &terms, step, rate, penalised ? job->rule->weight_decay : 0, at, n, g);
}

/* One part of the parameters (there are as many as shards), segment by segment: the shards are summed and used block by
 * block, so that the sum is still in the first-level cache when it is used. `summed`: a sweep for the norm has left the
 * sum in the first shard's buffer, unless there was only one. */
static void FN(sweep)(JOB *job, int part, enum FN(action) action, int summed, const fnn_step *step)
{
    const fnn_plan *plan = job->plan;
    fnn_report *report = job->reports + part;
    const REAL *shards[FNN_MAX_WORKERS];
    fnn_terms terms = step->terms;
    const double l1 = terms.l1, l2 = terms.l2, decay = action == FN(UPDATE) ? job->rule->weight_decay : 0;
    const int penalised = l1 != 0 || l2 != 0;
    /* segments do not differ */
    const int whole = !penalised && decay == 0 && (action != FN(UPDATE) || !plan->rated);
    ptrdiff_t begin, end;
    if (action == FN(NORM))
        report->norm2 = 0;
    else
        report->penalty = 0;
    if (!FN(range_of)(job, part, &begin, &end))
        return;
    int n_shards = FN(shards_at)(job, begin, shards);
    REAL *sum = FN(gradient_of)(job, 0) + begin;
    if (summed && n_shards > 1)
        n_shards = 1, shards[0] = sum;
    const ptrdiff_t block = n_shards == 1 ? end - begin : 2048;
    for (int s = 0; s < (whole ? 1 : plan->n_segments); s++) {
        const fnn_segment *segment = plan->segments + s;
        ptrdiff_t lo = whole || segment->begin < begin ? begin : segment->begin;
        ptrdiff_t hi = whole || segment->end > end ? end : segment->end;
        terms.l1 = whole || segment->penalised ? l1 : 0;
        terms.l2 = whole || segment->penalised ? l2 : 0;
        for (ptrdiff_t at = lo; at < hi; at += block) {
            const ptrdiff_t n = hi - at < block ? hi - at : block;
            const REAL *theta = job->theta + at;
            REAL *g = sum + (at - begin);
            if (n_shards > 1) {
                const REAL *pieces[FNN_MAX_WORKERS];
                for (int w = 0; w < n_shards; w++)
                    pieces[w] = shards[w] + (at - begin);
                job->kernels->sum_shards(n, n_shards, pieces, g);
            } else if (shards[0] != sum) {
                g = (REAL *)(uintptr_t)(shards[0] + (at - begin));
            }
            if (action == FN(NORM)) {
                report->norm2 += job->kernels->gradient_norm2(n, &terms, theta, g);
                continue;
            }
            if (action == FN(UPDATE))
                FN(update)(job, part, step, segment->penalised, whole ? 1 : segment->rate, at, n, g);
            else {
                memcpy(job->gradient + at, g, (size_t)n * sizeof(REAL));
                job->kernels->gradient_finish(n, &terms, theta, job->gradient + at);
            }
        }
    }
}

/* A worker's parts. */
static void FN(sweeps)(JOB *job, int worker, enum FN(action) action, int summed, const fnn_step *step)
{
    for (int part = worker; part < job->n_shards; part += job->n_workers)
        FN(sweep)(job, part, action, summed, step);
}

/* Totals of the reports, in the shards' order: every worker computes the same. */
typedef struct {
    double loss, weight, correct;
} FN(sums);

static FN(sums) FN(total)(const JOB *job)
{
    FN(sums) sum = {0, 0, 0};
    for (int w = 0; w < job->n_shards; w++) {
        sum.loss += job->reports[w].loss;
        sum.weight += job->reports[w].weight;
        sum.correct += job->reports[w].correct;
    }
    return sum;
}

static double FN(total_norm2)(const JOB *job)
{
    double sum = 0;
    for (int w = 0; w < job->n_shards; w++)
        sum += job->reports[w].norm2;
    return sum;
}

static double FN(total_penalty)(const JOB *job)
{
    double sum = 0;
    for (int w = 0; w < job->n_shards; w++)
        sum += job->reports[w].penalty;
    return sum;
}

/* Share of (tile, feature) that tiles of `height` (2 or 4) sampled rows cannot skip. */
static double FN(filled_rows)(ptrdiff_t n, ptrdiff_t n_in, int height, const uint64_t *bits)
{
    const ptrdiff_t words = (n_in + 63) / 64;
    double filled = 0;
    for (ptrdiff_t i = 0; i < n; i += height)
        for (ptrdiff_t w = 0; w < words; w++) {
            uint64_t any = 0;
            for (ptrdiff_t t = i; t < i + height; t++)
                any |= bits[t * words + w];
            filled += FNN_COUNT_BITS(any);
        }
    return filled / (double)(n / height * n_in);
}

/* Share of (row, tile) that tiles of `height` features `apart` cannot skip. */
static double FN(filled_features)(ptrdiff_t n, ptrdiff_t n_in, int height, int apart, const uint64_t *bits)
{
    const ptrdiff_t words = (n_in + 63) / 64;
    uint64_t firsts = 0; /* of the tiles */
    for (int j = 0; j < 64; j++)
        firsts |= (uint64_t)(j % (height * apart) < apart) << j;
    double filled = 0;
    for (ptrdiff_t i = 0; i < n * words; i++) {
        uint64_t any = bits[i];
        any |= any >> apart;
        any |= height == 4 ? any >> 2 * apart : 0;
        filled += FNN_COUNT_BITS(any & firsts);
    }
    return filled * height / (double)(n * n_in);
}

double FN(engine_count_zeros)(JOB *job, int lanes, ptrdiff_t n, REAL *sample, uint64_t *bits)
{
    const fnn_plan *plan = job->plan;
    const fnn_op *op = plan->ops;
    job->zeros_forward = job->zeros_gradient = 0;
    if (op->kind != FNN_DENSE || op->n_out <= lanes || job->blas) /* a tile one vector wide waits for itself */
        return 1;
    for (ptrdiff_t i = 0; i < n; i++) {
        const int64_t row = job->x_rows * i / n; /* in whatever order: the same for all calls */
        if (job->indptr)
            job->kernels->gather_csr(1, plan->n_in, job->x_type, job->x, job->indptr, job->columns, &row,
                                     plan->input_scale, sample + i * plan->n_in);
        else
            job->kernels->gather_rows(1, plan->n_in, job->x_type, job->x, &row, plan->input_scale,
                                      sample + i * plan->n_in);
    }
    job->kernels->nonzero_bits(n, plan->n_in, sample, bits);
    /* relative to gemm, with what lists and short loops cost (measured on digits and MNIST, 64 to 512 outputs) */
    const int small = plan->n_in * (op->n_out < 8 * lanes ? op->n_out : 8 * lanes) * (ptrdiff_t)sizeof(REAL) <= 32768;
    const double two = small ? FN(filled_rows)(n, plan->n_in, 2, bits) + 0.2 : 2;
    const double four = FN(filled_rows)(n, plan->n_in, 4, bits) + 0.15;
    double gradient = 2;
    for (int height = 2; height <= 4; height += 2)
        for (int apart = 1; apart <= (FN(is_narrow)(op) ? 1 : 64 / height); apart *= 2) {
            const double share = FN(filled_features)(n, plan->n_in, height, apart, bits);
            const double takes = height == 2 ? 1.1 * share + 0.2 : share + 0.15;
            if (takes < gradient - (apart > 1 ? 0.02 : 0)) {
                gradient = takes;
                job->zeros_gradient = height;
                job->zeros_apart = apart;
            }
        }
    const double cost = ((two < four ? two : four) + gradient) / 2;
    if (cost >= 0.95) {
        job->zeros_gradient = 0;
        return 1;
    }
    job->zeros_forward = two < four ? 2 : 4;
    return cost;
}

static int FN(meet)(const JOB *job) { return job->n_workers > 1 && fnn_barrier_wait(job->barrier); }

#include "engine/kfac_body.h"

/* out = the last op's output, for all rows. */
void FN(engine_forward)(void *arg, int worker)
{
    JOB *job = arg;
    FN(buffers) b = FN(prepare)(job, worker);
    const ptrdiff_t begin = job->rows * worker / job->n_workers;
    const ptrdiff_t end = job->rows * (worker + 1) / job->n_workers;
    for (ptrdiff_t lo = begin; lo < end; lo += job->chunk) {
        const ptrdiff_t n = end - lo < job->chunk ? end - lo : job->chunk;
        if (FN(stopped)(job, worker, (double)n * (double)job->plan->n_parameters))
            return;
        const FN(pass) pass = {worker, 0, -1, lo, job->rows};
        const REAL *const *x = FN(fetch)(job, &b, worker, NULL, lo, n);
        if (!x || !FN(forward)(job, &b, &pass, x, n, job->out + lo * job->plan->n_out))
            return;
    }
}

/* losses[0] = J(θ); gradient = ∇J(θ) unless it is NULL. */
void FN(engine_gradient)(void *arg, int worker)
{
    JOB *job = arg;
    FN(buffers) b = FN(prepare)(job, worker);
    if (FN(shards)(job, &b, worker, NULL, 0, job->rows, job->gradient != NULL, NULL, -1) || FN(meet)(job))
        return;
    const FN(sums) sum = FN(total)(job);
    const double inverse = sum.weight > 0 ? 1 / sum.weight : 0;
    const fnn_step step = {.terms = {inverse, job->l1, job->l2, 1, INFINITY}};
    if (job->gradient)
        FN(sweeps)(job, worker, FN(FINISH), 0, &step);
    if (worker == 0) {
        double penalty = 0;
        if (job->l1 != 0 || job->l2 != 0)
            for (int s = 0; s < job->plan->n_segments; s++) {
                const fnn_segment *segment = job->plan->segments + s;
                if (segment->penalised)
                    penalty += job->kernels->penalty(segment->end - segment->begin, job->l1, job->l2,
                                                     job->theta + segment->begin);
            }
        job->losses[0] = sum.loss * inverse + penalty;
        job->correct[0] = sum.correct * inverse;
    }
}

static void FN(train)(JOB *job, int worker)
{
    FN(buffers) b = FN(prepare)(job, worker);
    const int penalised = job->l1 != 0 || job->l2 != 0, clipped = job->clip_norm < INFINITY;
    const double *rates = job->rates; /* one for every batch */
    int64_t number = job->step;       /* each worker counts for itself: worker 0 writes job->step */
    int one_pass = job->n_shards == 1 && !clipped && job->rule->kind != FNN_KFAC;
    for (int i = 0; i < job->plan->n_ops; i++)
        one_pass &= !job->plan->ops[i].shared_weight && !job->plan->ops[i].shared_bias;
    for (ptrdiff_t epoch = 0; epoch < job->epochs; epoch++) {
        const int64_t *order = job->order ? job->order + epoch * job->rows : NULL;
        double loss = 0, weight = 0, correct = 0, penalty = 0;
        for (ptrdiff_t first = 0; first < job->rows; first += job->batch) {
            const ptrdiff_t rows = job->rows - first < job->batch ? job->rows - first : job->batch;
            /* a long step can be interrupted up to its update, which must then be apart */
            const int whole_step =
                one_pass && rows <= job->chunk && (double)rows * (double)job->plan->n_parameters <= BLOCK_WORK;
            fnn_step step = {.terms = {0, job->l1, job->l2, 1, job->clip_value},
                             .number = number,
                             .rate = rates ? *rates++ : job->rule->learning_rate};
            if (job->rule->kind == FNN_ADAM) {
                step.bias1 = 1 - pow(job->rule->beta1, (double)number + 1);
                step.bias2 = 1 - pow(job->rule->beta2, (double)number + 1);
            }
            if (FN(shards)(job, &b, worker, order, first, rows, 1, whole_step ? &step : NULL, number) || FN(meet)(job))
                return;
            const FN(sums) sum = FN(total)(job);
            if (!isfinite(sum.loss)) {
                if (worker == 0)
                    job->status = FNN_DIVERGED;
                return;
            }
            if (sum.weight > 0 && !whole_step) {
                FN(mean_terms)(job, sum.weight, &step.terms);
                if (clipped) {
                    FN(sweeps)(job, worker, FN(NORM), 0, &step);
                    if (FN(meet)(job))
                        return;
                    const double norm = sqrt(FN(total_norm2)(job));
                    if (norm > job->clip_norm)
                        step.terms.factor = job->clip_norm / norm;
                }
                const enum FN(action) action = job->rule->kind == FNN_KFAC ? FN(FINISH) : FN(UPDATE);
                FN(sweeps)(job, worker, action, clipped && job->n_shards > 1, &step);
                if (action == FN(FINISH) && (FN(meet)(job) || FN(kfac_step)(job, &b, worker, &step)))
                    return;
            }
            if (FN(meet)(job))
                return;
            if (worker == 0) {
                correct += sum.correct;
                if (sum.weight > 0) {
                    const double part = penalised ? FN(total_penalty)(job) * sum.weight : 0;
                    loss += sum.loss + part;
                    penalty += part;
                    weight += sum.weight;
                    job->step = number + 1;
                    for (int i = 0; i < job->plan->n_ops; i++)
                        if (job->plan->ops[i].kind == FNN_BATCH_NORM)
                            FN(batch_norm_commit)(job, job->plan->ops + i);
                }
            }
            number += sum.weight > 0;
        }
        if (worker == 0) {
            job->losses[epoch] = weight > 0 ? loss / weight : 0;
            job->correct[epoch] = weight > 0 ? correct / weight : 0;
            job->penalties[epoch] = weight > 0 ? penalty / weight : 0;
            job->epochs_done = epoch + 1;
        }
    }
}

/* Whole epochs. */
void FN(engine_train)(void *arg, int worker)
{
    JOB *job = arg;
    const fnn_subnormals before = fnn_flush_subnormals();
    if (worker == 0)
        job->subnormals = before;
    FN(train)(job, worker);
    fnn_take_subnormals(before);
}
