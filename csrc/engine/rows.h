/* Rows of the data: where they lie, gathered and augmented, or transposed. */

/* Augment n gathered rows x of a chunk, from its row `done` on; `index` and `first` as in fetch(), for the chunk. */
static void FN(augment_chunk)(const fnn_job *job, const FN(memory) * memory, const FN(position) * position,
                              const int64_t *index, ptrdiff_t first, ptrdiff_t done, ptrdiff_t n, REAL *x)
{
    const int all = job->train.n_augmentations, mixup = fnn_mixup_place(job->train.augmentations, all);
    const ptrdiff_t row = position->first_row + done;
    FN(augment)(job, 0, mixup < 0 ? all : mixup, position->number, row, n, memory->image, x);
    if (mixup < 0)
        return;
    FN(mix)(job, memory, position, mixup, index, first, done, n, x);
    FN(augment)(job, mixup + 1, all, position->number, row, n, memory->image, x);
}

/* Pointers to the rows first .. first + rows of the pass, whose rows `index` names unless it is NULL; those of a step
 * of training are augmented. NULL when told to stop. */
static const REAL *const *FN(fetch)(fnn_job *job, const FN(memory) * memory, const FN(position) * position,
                                    const int64_t *index, ptrdiff_t first, ptrdiff_t rows)
{
    const int augments = job->train.n_augmentations > 0 && position->number >= 0;
    const ptrdiff_t n_in = job->plan->n_in, block = (ptrdiff_t)(BLOCK_WORK / 64) / n_in + 1;
    if (index)
        index += first;
    if (FN(reads_in_place)(job, index, augments)) {
        const REAL *x = job->data.x;
        if (!index)
            FN(point_at_rows)(rows, n_in, x + first * n_in, memory->x_rows);
        for (ptrdiff_t i = 0; index && i < rows; i++)
            memory->x_rows[i] = x + index[i] * n_in;
        return memory->x_rows;
    }
    for (ptrdiff_t lo = 0, n; lo < rows; lo += n) {
        n = rows - lo < block ? rows - lo : block;
        if (lo > 0 && fnn_stopped(job, position->worker, BLOCK_WORK))
            return NULL;
        FN(gather)(job, index ? index + lo : NULL, first + lo, n, memory->x + lo * n_in);
        if (augments)
            FN(augment_chunk)(job, memory, position, index, first, lo, n, memory->x + lo * n_in);
    }
    FN(point_at_rows)(rows, n_in, memory->x, memory->x_rows);
    return memory->x_rows;
}

static void FN(fill_ones)(ptrdiff_t n, REAL *x)
{
    for (ptrdiff_t i = 0; i < n; i++)
        x[i] = 1;
}

/* The fetched rows by feature, with a row of ones behind them; a table with one entry. */
static const REAL *const *FN(transpose_rows)(const fnn_job *job, const FN(memory) * memory, const REAL *const *x,
                                             ptrdiff_t rows)
{
    KERNELS(job)->transpose(rows, job->plan->n_in, x, memory->x_by_feature);
    FN(fill_ones)(rows, memory->x_by_feature + job->plan->n_in * rows);
    memory->x_rows[0] = memory->x_by_feature;
    return memory->x_rows;
}
