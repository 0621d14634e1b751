/* Rows of the data, gathered and augmented. */

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

/* Change gathered rows of a batch, from its row `first` on, at random as update `number` does, by the augmentations
 * begin .. end but mixup. */
static void FN(augment)(const fnn_job *job, int begin, int end, int64_t number, ptrdiff_t first, ptrdiff_t rows,
                        REAL *scratch, REAL *x)
{
    for (int i = begin; i < end; i++) {
        if (job->train.augmentations[i].kind == FNN_AUGMENT_MIXUP)
            continue;
        const fnn_augmentation *how = job->train.augmentations + i;
        KERNELS(job)->augment_rows(rows, how->kind, how->height, how->width, how->channels, how->amount,
                                   how->probability, how->fill, job->train.augmentation_seed, (uint64_t)number, i,
                                   first, scratch, x);
    }
}
