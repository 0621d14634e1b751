/* Rows of the data: where they lie, gathered, or transposed. */

/* Whether rows can be used where they lie: not if they must be converted, scaled or made dense, or if BLAS or an op
 * that is no product needs picked rows to follow each other. */
static int FN(reads_in_place)(const fnn_job *job, const int64_t *index)
{
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

/* Pointers to the rows first .. first + rows of the pass, whose rows `index` names unless it is NULL. NULL when told to
 * stop. */
static const REAL *const *FN(fetch)(fnn_job *job, const FN(memory) * memory, int worker, const int64_t *index,
                                    ptrdiff_t first, ptrdiff_t rows)
{
    const ptrdiff_t n_in = job->plan->n_in, block = (ptrdiff_t)(BLOCK_WORK / 64) / n_in + 1;
    if (index)
        index += first;
    if (FN(reads_in_place)(job, index)) {
        const REAL *x = job->data.x;
        if (!index)
            FN(point_at_rows)(rows, n_in, x + first * n_in, memory->x_rows);
        for (ptrdiff_t i = 0; index && i < rows; i++)
            memory->x_rows[i] = x + index[i] * n_in;
        return memory->x_rows;
    }
    for (ptrdiff_t lo = 0, n; lo < rows; lo += n) {
        n = rows - lo < block ? rows - lo : block;
        if (lo > 0 && fnn_stopped(job, worker, BLOCK_WORK))
            return NULL;
        FN(gather)(job, index ? index + lo : NULL, first + lo, n, memory->x + lo * n_in);
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
