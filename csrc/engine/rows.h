/* Rows of the data: where they lie, gathered and augmented, or transposed. */

/* Where a chunk of rows stands in its batch. */
typedef struct {
    int worker, dropping;
    int64_t number; /* of updates before; -1: not a step of training */
    ptrdiff_t first_row, batch_rows;
} FN(position);

/* Whether rows can be used where they lie: not if they must be converted, scaled, made dense or augmented, or if BLAS
 * or an op that is no product needs picked rows to follow each other. */
static int FN(reads_in_place)(const fnn_job *job, const int64_t *index, int augments)
{
    if (augments)
        return 0;
    const int own_type = REAL_F32 ? FNN_SOURCE_F32 : FNN_SOURCE_F64;
    return !job->data.indptr && job->data.x_type == own_type && job->plan->input_scale == 1 &&
           !(index && (job->blas || job->plan->gathers));
}

/* `rows` rows from `first` on, or those that `index` names, as REAL and scaled. */
static void FN(gather)(const fnn_job *job, const int64_t *index, ptrdiff_t first, ptrdiff_t rows, REAL *out)
{
    static const size_t size[] = {sizeof(float), sizeof(double), sizeof(uint8_t)};
    const fnn_data *data = &job->data;
    const ptrdiff_t n_in = job->plan->n_in;
    const double scale = job->plan->input_scale;
    const char *x = data->x;
    if (data->indptr)
        KERNELS(job)->gather_csr(rows, n_in, data->x_type, x, index ? data->indptr : data->indptr + first,
                                 data->columns, index, scale, out);
    else
        KERNELS(job)->gather_rows(rows, n_in, data->x_type,
                                  index ? x : x + (size_t)first * (size_t)n_in * size[data->x_type], index, scale, out);
}

/* Change gathered rows of a batch, from its row `first` on, at random as update `number` does. */
static void FN(augment)(const fnn_job *job, int64_t number, ptrdiff_t first, ptrdiff_t rows, REAL *scratch, REAL *x)
{
    for (int i = 0; i < job->train.n_augmentations; i++) {
        const fnn_augmentation *how = job->train.augmentations + i;
        KERNELS(job)->augment_rows(rows, how->kind, how->height, how->width, how->channels, how->amount,
                                   how->probability, how->fill, job->train.augmentation_seed, (uint64_t)number, i,
                                   first, scratch, x);
    }
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
            FN(augment)(job, position->number, position->first_row + lo, n, memory->image, memory->x + lo * n_in);
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
