/* The parts of the workspace: what each worker has for itself, then the shards' gradients and other shared sums. The
 * sizes are stated in FN(take_...) alone; loops that fill a part go by the same functions. */

/* A worker's parts that belong to one op. Matrices have as many rows as a chunk; by feature they are transposed. */
typedef struct {
    REAL *out, *pre, *delta;    /* output; z where σ' is no function of the output; ∂ℓ/∂output, then ∂ℓ/∂z */
    REAL *normalised, *inv_std; /* of layer norm: û, 1/σ */
    REAL *columns;              /* of batch norm: see op_norm.h */
    const REAL **out_rows;      /* pointers to rows of out; by feature, to those of W and to b */
    const REAL **delta_rows;
    /* of a linearization, whose out_rows and delta_rows point into what is saved */
    REAL *tangent_out, *tangent_pre, *tangent_delta, *tangent_normalised, *tangent_mean;
    const REAL **tangent_out_rows, **tangent_delta_rows;
} FN(op_memory);

/* Where x is rows of data with many zeros: which elements are not zero, and lists of them; see gemm_sparse_body.h. */
typedef struct {
    uint64_t *bits;
    int32_t *starts, *list;
} FN(zeros);

/* Of mixup (mixup.h), for the rows of a chunk. */
typedef struct {
    REAL *share;             /* λ */
    int64_t *other, *source; /* j as a row of the batch, and of the data */
    REAL *row;               /* x_j */
    int64_t *labels;
    REAL *target, *weight, *delta; /* of the targets y_j; two weights of each row */
} FN(mixing);

/* A worker's parts. */
typedef struct {
    FN(op_memory) * ops;
    REAL *x, *target, *weight; /* rows of the data, gathered */
    REAL *image;               /* scratch of augmentations */
    FN(mixing) mixing;
    int64_t *labels;
    const REAL **x_rows;
    REAL *pack; /* of gemm */
    FN(zeros) zeros;
    REAL *x_by_feature;                    /* and a row of ones */
    REAL *loss_by_row, *loss_delta_by_row; /* by feature: target or output by row, its delta by row */
    const REAL **loss_rows;
    const REAL **kfac_rows;
    REAL *tangent_x, *scratch, *sums; /* of a linearization: (chunk, n_in); two times (chunk, widest); two vectors */
    const REAL **tangent_x_rows;
    REAL *gradient; /* of the shard in hand: a shared part */
} FN(memory);

#define TAKE(arena, type, name, count) ((type *)fnn_take(arena, name, (size_t)(count) * sizeof(type)))

/* Elements in a whole number of cache lines. */
static ptrdiff_t FN(fill_line)(ptrdiff_t n)
{
    const ptrdiff_t line = FNN_ALIGN / (ptrdiff_t)sizeof(REAL);
    return (n + line - 1) / line * line;
}

/* -- what is reserved where zeros of x are skipped ------------------------------------------------------------------
 */

static int FN(skips)(const fnn_job *job) { return job->schedule.zeros_forward > 0 && !job->schedule.by_feature; }

/* Most rows that are listed at a time: a block, or those of a whole step; of a linearization, the chunk. */
static ptrdiff_t FN(listed_rows)(const fnn_job *job)
{
    const ptrdiff_t chunk = job->schedule.chunk, most = fnn_block_rows(job->plan->ops, chunk) + 96;
    return most < chunk && !job->linear.saved ? most : chunk;
}

static void FN(take_zeros)(const fnn_job *job, fnn_arena *arena, FN(zeros) * zeros)
{
    const fnn_schedule *s = &job->schedule;
    const ptrdiff_t k = job->plan->n_in, rows = FN(listed_rows)(job);
    zeros->bits = TAKE(arena, uint64_t, "zeros.bits", s->chunk *((k + 63) / 64));
    zeros->starts = TAKE(arena, int32_t, "zeros.starts",
                         fnn_zeros_starts(rows, k, s->zeros_forward, s->zeros_gradient, s->zeros_apart));
    zeros->list = TAKE(arena, int32_t, "zeros.list",
                       fnn_zeros_listed(rows, k, s->zeros_forward, s->zeros_gradient, s->zeros_apart));
}

/* -- a worker -------------------------------------------------------------------------------------------------------
 */

/* Whether the reader of this op's output applies σ' of the relu in the epilogue of its ∂ℓ/∂x, which leaves ∂ℓ/∂z in
 * this op's delta and adds up the gradient of its bias. */
static int FN(is_gated)(const fnn_job *job, const fnn_op *op)
{
    return op->gated && !job->blas && !job->schedule.by_feature;
}

/* From row to row of an op's delta. Where one product writes it and others read it, rows start on a cache line, and are
 * filled up with 0. */
static ptrdiff_t FN(delta_row)(const fnn_job *job, const fnn_op *op)
{
    return FN(is_gated)(job, op) ? FN(fill_line)(op->n_out) : op->n_out;
}

/* Column vectors of one batch norm, C long each. The other workers read the first four. */
typedef struct {
    REAL *mean_s, *m2_s, *sum_delta_s, *sum_product_s;           /* of the shard */
    REAL *mean, *variance, *inv_std, *mean_delta, *mean_product; /* of the batch */
} FN(columns);

enum { FN(N_COLUMNS) = sizeof(FN(columns)) / sizeof(REAL *) };

/* One part for all ops of a side, as large as the largest. */
static REAL *FN(take_delta)(const fnn_job *job, fnn_arena *arena, int i, const FN(op_memory) * all)
{
    const fnn_plan *plan = job->plan;
    ptrdiff_t widest = 0;
    for (int j = 0; j < plan->n_ops; j++) {
        if (plan->ops[j].delta_side != plan->ops[i].delta_side)
            continue;
        if (j < i)
            return all ? all[j].delta : NULL;
        const ptrdiff_t row = FN(fill_line)(plan->ops[j].n_out);
        widest = row > widest ? row : widest;
    }
    return TAKE(arena, REAL, "delta", widest * job->schedule.chunk);
}

static FN(op_memory) FN(take_op)(const fnn_job *job, fnn_arena *arena, int i, const FN(op_memory) * all)
{
    const fnn_op *op = job->plan->ops + i;
    const ptrdiff_t chunk = job->schedule.chunk;
    const int by_feature = job->schedule.by_feature;
    FN(op_memory) m = {0};
    m.out = TAKE(arena, REAL, "output", chunk * (op->n_out + by_feature)); /* a row of ones */
    if (op->saves_pre)
        m.pre = TAKE(arena, REAL, "pre-activation", chunk * op->n_out);
    if (op->kind == FNN_LAYER_NORM) {
        m.normalised = TAKE(arena, REAL, "normalised", chunk * op->n_out);
        m.inv_std = TAKE(arena, REAL, "inverse deviations", chunk);
    }
    m.delta = FN(take_delta)(job, arena, i, all);
    m.out_rows = TAKE(arena, const REAL *, "rows of the output", by_feature ? op->n_in + 1 : chunk);
    m.delta_rows = TAKE(arena, const REAL *, "rows of the delta", by_feature ? 0 : chunk);
    return m;
}

/* A dropout is the identity there, and has its input's tangents. */
static FN(op_memory) FN(take_tangents)(const fnn_job *job, fnn_arena *arena, int i, const FN(op_memory) * all)
{
    const fnn_op *op = job->plan->ops + i;
    const fnn_place *place = job->plan->places + i;
    const ptrdiff_t chunk = job->schedule.chunk, n = chunk * op->n_out;
    FN(op_memory) m = {0};
    if (op->kind == FNN_DROPOUT && op->input >= 0) {
        m.tangent_out = all ? all[op->input].tangent_out : NULL;
        m.tangent_delta = all ? all[op->input].tangent_delta : NULL;
    } else {
        m.tangent_out = TAKE(arena, REAL, "tangent of the output", n);
        m.tangent_delta = TAKE(arena, REAL, "tangent of the delta", n);
    }
    if (place->slope >= 0)
        m.tangent_pre = TAKE(arena, REAL, "tangent of the pre-activation", n);
    if (place->normalised >= 0)
        m.tangent_normalised = TAKE(arena, REAL, "tangent of the normalised", n);
    if (place->inv_std >= 0)
        m.tangent_mean = TAKE(arena, REAL, "tangent of the mean", chunk);
    m.out_rows = TAKE(arena, const REAL *, "rows of the output", chunk);
    m.delta_rows = TAKE(arena, const REAL *, "rows of the delta", chunk);
    m.tangent_out_rows = TAKE(arena, const REAL *, "rows of the output's tangent", chunk);
    m.tangent_delta_rows = TAKE(arena, const REAL *, "rows of the delta's tangent", chunk);
    return m;
}

/* Rows of an op's parameters as K-FAC sees them: a weight, or a vector such as γ, and below it the bias or β. */
static ptrdiff_t FN(kfac_rows)(const fnn_op *op)
{
    return op->weight < 0 ? 0 : (op->kind == FNN_DENSE ? op->n_in : 1) + (op->bias >= 0);
}

/* Whether steps go along a direction that is made of the whole gradient. */
static int FN(has_direction)(const fnn_job *job) { return job->train.inverses || job->train.low_rank; }

static void FN(take_ops)(const fnn_job *job, fnn_arena *arena, FN(memory) * memory)
{
    const fnn_plan *plan = job->plan;
    const int linearizes = job->linear.saved != NULL;
    ptrdiff_t widest = 0, kfac = 0;
    memory->ops = TAKE(arena, FN(op_memory), "ops", plan->n_ops);
    for (int i = 0; i < plan->n_ops; i++) {
        const fnn_op *op = plan->ops + i;
        FN(op_memory)
        m = linearizes ? FN(take_tangents)(job, arena, i, memory->ops) : FN(take_op)(job, arena, i, memory->ops);
        if (op->kind == FNN_BATCH_NORM)
            m.columns = TAKE(arena, REAL, "columns of a batch norm", (int)FN(N_COLUMNS) * op->n_out);
        if (memory->ops)
            memory->ops[i] = m;
        widest = op->n_out > widest ? op->n_out : widest;
        kfac = FN(kfac_rows)(op) > kfac ? FN(kfac_rows)(op) : kfac;
    }
    if (linearizes) {
        memory->scratch = TAKE(arena, REAL, "scratch", 2 * widest * job->schedule.chunk);
        memory->sums = TAKE(arena, REAL, "sums", 2 * widest);
        memory->tangent_x = TAKE(arena, REAL, "tangent of x", plan->n_in * job->schedule.chunk);
        memory->tangent_x_rows = TAKE(arena, const REAL *, "rows of the tangent of x", job->schedule.chunk);
    }
    if (job->train.inverses)
        memory->kfac_rows = TAKE(arena, const REAL *, "rows for K-FAC", kfac);
}

static void FN(take_mixing)(const fnn_job *job, fnn_arena *arena, FN(mixing) * mixing)
{
    const ptrdiff_t chunk = job->schedule.chunk, n_out = job->plan->n_out;
    mixing->share = TAKE(arena, REAL, "shares of mixup", chunk);
    mixing->other = TAKE(arena, int64_t, "rows that are mixed in", chunk);
    mixing->source = TAKE(arena, int64_t, "where they are", chunk);
    mixing->row = TAKE(arena, REAL, "row that is mixed in", job->plan->n_in);
    mixing->labels = TAKE(arena, int64_t, "labels of mixup", job->data.labels ? chunk : 0);
    mixing->target = TAKE(arena, REAL, "target of mixup", job->data.labels ? 0 : chunk * n_out);
    mixing->weight = TAKE(arena, REAL, "weights of mixup", 2 * chunk);
    mixing->delta = TAKE(arena, REAL, "delta of mixup", chunk * n_out);
}

static FN(memory) FN(take_worker)(const fnn_job *job, fnn_arena *arena)
{
    const ptrdiff_t chunk = job->schedule.chunk, n_in = job->plan->n_in, n_out = job->plan->n_out;
    const int skips = FN(skips)(job);
    FN(memory) memory = {0};
    memory.pack = fnn_take(arena, "pack", skips ? FNN_ZEROS_PACK_BYTES : FNN_GEMM_PACK_BYTES);
    if (skips)
        FN(take_zeros)(job, arena, &memory.zeros);
    memory.x = TAKE(arena, REAL, "x", chunk * n_in);
    memory.x_rows = TAKE(arena, const REAL *, "rows of x", chunk);
    if (job->train.n_augmentations)
        memory.image =
            TAKE(arena, REAL, "image", fnn_augment_scratch(job->train.augmentations, job->train.n_augmentations));
    if (fnn_mixup_place(job->train.augmentations, job->train.n_augmentations) >= 0)
        FN(take_mixing)(job, arena, &memory.mixing);
    if (job->data.order) {
        memory.labels = TAKE(arena, int64_t, "labels", job->data.labels ? chunk : 0);
        memory.target = TAKE(arena, REAL, "target", job->data.target ? chunk * n_out : 0);
        memory.weight = TAKE(arena, REAL, "weight", job->data.weight ? chunk : 0);
    }
    FN(take_ops)(job, arena, &memory);
    if (job->schedule.by_feature) {
        memory.x_by_feature = TAKE(arena, REAL, "x by feature", chunk * (n_in + 1));
        memory.loss_by_row = TAKE(arena, REAL, "the loss's input by row", chunk * n_out);
        memory.loss_delta_by_row = TAKE(arena, REAL, "delta by row", chunk * n_out);
        memory.loss_rows = TAKE(arena, const REAL *, "rows of the loss", chunk > n_out ? chunk : n_out);
    }
    arena->at += FNN_ALIGN; /* so that the workers' parts do not fall on the same sets of a shared cache */
    return memory;
}

/* -- all workers ----------------------------------------------------------------------------------------------------
 */

/* Walks over all parts and notes where the shared ones are. */
static void FN(take_all)(fnn_job *job, fnn_arena *arena)
{
    fnn_workspace *w = &job->workspace;
    const ptrdiff_t parameters = job->plan->n_parameters;
    const int workers = job->schedule.n_workers, shards = job->schedule.n_shards;
    for (int i = 0; i < workers; i++)
        FN(take_worker)(job, arena);
    w->worker_bytes = arena->at / (size_t)workers;
    w->gradients = arena->at;
    for (int s = 0; s < shards && !job->linear.saved; s++)
        fnn_take(arena, "gradient", (size_t)parameters * sizeof(REAL));
    w->gradient_bytes = (arena->at - w->gradients) / (size_t)shards;
    w->products = arena->at;
    for (int i = 0; i < workers && job->linear.directions; i++)
        fnn_take(arena, "products", (size_t)(job->linear.n_directions * parameters) * sizeof(REAL));
    w->product_bytes = (arena->at - w->products) / (size_t)workers;
    for (int i = 0; i < 3 && FN(has_direction)(job); i++) {
        w->preconditioned[i] = arena->at;
        fnn_take(arena, "direction", (size_t)parameters * sizeof(REAL));
    }
    w->dots = arena->at;
    if (job->train.low_rank)
        fnn_take(arena, "dot products", (size_t)(job->train.low_rank->rank * (shards + 2 * workers)) * sizeof(double));
    w->before = arena->at;
    if (job->results.norms)
        fnn_take(arena, "parameters before", (size_t)parameters * sizeof(REAL));
    w->reports = arena->at;
    fnn_take(arena, "reports", (size_t)shards * sizeof(fnn_report));
}

static size_t FN(workspace)(fnn_job *job)
{
    fnn_arena arena = {.red_zone = job->workspace.red_zone};
    FN(take_all)(job, &arena);
    return arena.at;
}

static void FN(guard)(fnn_job *job)
{
    fnn_arena arena = {job->workspace.start, 0, job->workspace.red_zone, FNN_GUARD, NULL};
    FN(take_all)(job, &arena);
}

static const char *FN(broken)(fnn_job *job)
{
    fnn_arena arena = {job->workspace.start, 0, job->workspace.red_zone, FNN_CHECK, NULL};
    FN(take_all)(job, &arena);
    return arena.broken;
}

static REAL *FN(gradient_of)(const fnn_job *job, int shard)
{
    const fnn_workspace *w = &job->workspace;
    return (REAL *)(void *)(w->start + w->gradients + w->gradient_bytes * (size_t)shard);
}

/* A worker's own sums of the products. */
static REAL *FN(products_of)(const fnn_job *job, int worker)
{
    const fnn_workspace *w = &job->workspace;
    return (REAL *)(void *)(w->start + w->products + w->product_bytes * (size_t)worker);
}

/* K-FAC: 0, the gradient; 1, its product with G⁻¹; 2, that with A⁻¹. L-BFGS: 0, the gradient; 1, for θ before; 2, H ∇.
 */
static REAL *FN(preconditioned)(const fnn_job *job, int which)
{
    return (REAL *)(void *)(job->workspace.start + job->workspace.preconditioned[which]);
}

/* L-BFGS: the products of a shard's part of θ. */
static double *FN(dots_of)(const fnn_job *job, int shard)
{
    double *all = (double *)(void *)(job->workspace.start + job->workspace.dots);
    return all + job->train.low_rank->rank * shard;
}

/* L-BFGS: 2 rank elements of a worker's own. */
static double *FN(lbfgs_weights)(const fnn_job *job, int worker)
{
    return FN(dots_of)(job, job->schedule.n_shards + 2 * worker);
}

static REAL *FN(parameters_before)(const fnn_job *job)
{
    return (REAL *)(void *)(job->workspace.start + job->workspace.before);
}

static fnn_report *FN(report)(const fnn_job *job, int shard)
{
    return (fnn_report *)(void *)(job->workspace.start + job->workspace.reports) + shard;
}

static void FN(point_at_rows)(ptrdiff_t rows, ptrdiff_t row, const REAL *x, const REAL **table)
{
    for (ptrdiff_t i = 0; i < rows; i++)
        table[i] = x + i * row;
}

/* A worker's parts, with the tables of what stays where it is. */
static FN(memory) FN(prepare)(const fnn_job *job, int worker)
{
    const fnn_workspace *w = &job->workspace;
    fnn_arena arena = {w->start + w->worker_bytes * (size_t)worker, 0, w->red_zone, FNN_PLACE, NULL};
    const FN(memory) memory = FN(take_worker)(job, &arena);
    const REAL *theta = job->theta;
    for (int i = 0; i < job->plan->n_ops && !job->linear.saved; i++) {
        const fnn_op *op = job->plan->ops + i;
        const FN(op_memory) *m = memory.ops + i;
        if (job->schedule.by_feature) {
            if (op->kind == FNN_DENSE)
                FN(point_at_rows)(op->n_in, op->n_out, theta + op->weight, m->out_rows);
            m->out_rows[op->n_in] = op->bias >= 0 ? theta + op->bias : NULL;
            continue;
        }
        FN(point_at_rows)(job->schedule.chunk, op->n_out, m->out, m->out_rows);
        FN(point_at_rows)(job->schedule.chunk, FN(delta_row)(job, op), m->delta, m->delta_rows);
    }
    return memory;
}
