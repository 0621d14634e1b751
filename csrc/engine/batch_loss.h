/* The loss of a chunk of rows, and its derivative with respect to the network's output. */

/* The targets of a chunk: those of consecutive rows where they lie, or picked ones gathered. */
typedef struct {
    const int64_t *labels;
    const REAL *target, *weight;
} FN(targets);

static FN(targets) FN(fetch_targets)(const fnn_job *job, const FN(memory) * memory, const int64_t *index,
                                     ptrdiff_t first, ptrdiff_t rows)
{
    const fnn_data *data = &job->data;
    const ptrdiff_t k = job->plan->n_out;
    const REAL *target = data->target, *weight = data->weight;
    if (!index)
        return (FN(targets)){data->labels ? data->labels + first : NULL, target ? target + first * k : NULL,
                             weight ? weight + first : NULL};
    index += first;
    for (ptrdiff_t i = 0; data->labels && i < rows; i++)
        memory->labels[i] = data->labels[index[i]];
    for (ptrdiff_t i = 0; !data->labels && i < rows; i++)
        for (ptrdiff_t j = 0; j < k; j++)
            memory->target[i * k + j] = target[index[i] * k + j];
    for (ptrdiff_t i = 0; weight && i < rows; i++)
        memory->weight[i] = weight[index[i]];
    return (FN(targets)){data->labels ? memory->labels : NULL, data->labels ? NULL : memory->target,
                         weight ? memory->weight : NULL};
}

/* ℓ of z (rows, k), summed over the rows, and its derivative. */
static double FN(loss)(const fnn_job *job, ptrdiff_t rows, ptrdiff_t k, const REAL *z, const FN(targets) * y,
                       double *correct, REAL *delta)
{
    return KERNELS(job)->loss(job->plan->loss, rows, k, z, y->labels, y->target, y->weight, job->plan->label_smoothing,
                              correct, delta);
}

/* out (cols, rows) = xᵀ */
static void FN(transpose)(const fnn_job *job, const FN(memory) * memory, ptrdiff_t rows, ptrdiff_t cols, const REAL *x,
                          REAL *out)
{
    FN(point_at_rows)(rows, cols, x, memory->loss_rows);
    KERNELS(job)->transpose(rows, cols, memory->loss_rows, out);
}

/* The same by feature, in z and in delta. Without weights a sum over all elements has no rows, and the target is what
 * is transposed; other losses get z by row, and give their delta by row. */
static double FN(loss_by_feature)(const fnn_job *job, const FN(memory) * memory, ptrdiff_t rows, const REAL *z,
                                  const FN(targets) * y, double *correct, REAL *delta)
{
    const ptrdiff_t k = job->plan->n_out;
    if (fnn_loss_is_elementwise(job->plan->loss) && !y->weight) {
        FN(transpose)(job, memory, rows, k, y->target, memory->loss_by_row);
        return FN(loss)(job, k, rows, z, &(FN(targets)){NULL, memory->loss_by_row, NULL}, correct, delta);
    }
    FN(transpose)(job, memory, k, rows, z, memory->loss_by_row);
    const double loss = FN(loss)(job, rows, k, memory->loss_by_row, y, correct, memory->loss_delta_by_row);
    FN(transpose)(job, memory, rows, k, memory->loss_delta_by_row, delta);
    return loss;
}

/* The same, by row or by feature as the schedule is. */
static double FN(loss_as_scheduled)(const fnn_job *job, const FN(memory) * memory, ptrdiff_t rows, const REAL *z,
                                    const FN(targets) * y, double *correct, REAL *delta)
{
    if (job->schedule.by_feature)
        return FN(loss_by_feature)(job, memory, rows, z, y, correct, delta);
    return FN(loss)(job, rows, job->plan->n_out, z, y, correct, delta);
}

/* The mean of the losses of both targets of rows that are mixed; see mixup.h. */
static double FN(mixed_loss)(const fnn_job *job, const FN(memory) * memory, ptrdiff_t rows, const REAL *z,
                             const FN(targets) * y, double *correct, REAL *delta)
{
    const FN(mixing) *mixing = &memory->mixing;
    const ptrdiff_t k = job->plan->n_out;
    const REAL *target = job->data.target;
    REAL *own = mixing->weight, *other = mixing->weight + rows;
    for (ptrdiff_t i = 0; i < rows; i++) {
        const REAL weight = y->weight ? y->weight[i] : 1;
        own[i] = weight * mixing->share[i];
        other[i] = weight * (1 - mixing->share[i]);
        if (y->labels)
            mixing->labels[i] = job->data.labels[mixing->source[i]];
        else
            memcpy(mixing->target + i * k, target + mixing->source[i] * k, (size_t)k * sizeof(REAL));
    }
    const FN(targets) first = {y->labels, y->target, own};
    const FN(targets) second = {y->labels ? mixing->labels : NULL, y->labels ? NULL : mixing->target, other};
    double loss = FN(loss_as_scheduled)(job, memory, rows, z, &first, correct, delta);
    loss += FN(loss_as_scheduled)(job, memory, rows, z, &second, correct, mixing->delta);
    for (ptrdiff_t i = 0; i < rows * k; i++)
        delta[i] += mixing->delta[i];
    return loss;
}

/* ℓ of the rows first .. first + rows of the pass, summed, and its derivative in delta. */
static double FN(batch_loss)(const fnn_job *job, const FN(memory) * memory, const REAL *z, const int64_t *index,
                             ptrdiff_t first, ptrdiff_t rows, double *weight_sum, double *correct, REAL *delta)
{
    const FN(targets) y = FN(fetch_targets)(job, memory, index, first, rows);
    *weight_sum = y.weight ? 0 : (double)rows;
    for (ptrdiff_t i = 0; y.weight && i < rows; i++)
        *weight_sum += (double)y.weight[i];
    if (fnn_mixup_place(job->train.augmentations, job->train.n_augmentations) >= 0)
        return FN(mixed_loss)(job, memory, rows, z, &y, correct, delta);
    return FN(loss_as_scheduled)(job, memory, rows, z, &y, correct, delta);
}
