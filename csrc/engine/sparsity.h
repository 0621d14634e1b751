/* Whether products with x should skip its zeros, and by which tiles: from a sample of rows. */

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

/* A few rows of x or of its subset, spread over all of them, as augmentation may change them: the same for all calls,
 * whatever the order. */
static void FN(sample_bits)(const fnn_job *job, ptrdiff_t n, REAL *sample, uint64_t *bits)
{
    const ptrdiff_t n_in = job->plan->n_in;
    for (ptrdiff_t i = 0; i < n; i++) {
        const fnn_data *data = &job->data;
        const int64_t row = data->subset ? data->subset[data->subset_rows * i / n] : data->x_rows * i / n;
        FN(gather)(job, &row, 0, 1, sample + i * n_in);
        FN(augment)(job, 0, job->train.n_augmentations, 0, i, 1, sample + n * n_in, sample + i * n_in);
    }
    KERNELS(job)->nonzero_bits(n, n_in, sample, bits);
    const ptrdiff_t words = (n_in + 63) / 64;
    if (fnn_mixup_place(job->train.augmentations, job->train.n_augmentations) >= 0)
        for (ptrdiff_t i = 0; i < (n - 1) * words; i++)
            bits[i] |= bits[i + words]; /* as if each were mixed with the next */
}

/* The best tiles of features for the gradient, and the time that they take relative to gemm. */
static double FN(best_gradient_tiles)(fnn_schedule *schedule, const fnn_op *op, ptrdiff_t n, const uint64_t *bits)
{
    double best = 2;
    for (int height = 2; height <= 4; height += 2)
        for (int apart = 1; apart <= (FN(is_narrow)(op) ? 1 : 64 / height); apart *= 2) {
            const double share = FN(filled_features)(n, op->n_in, height, apart, bits);
            const double takes = height == 2 ? 1.1 * share + 0.2 : share + 0.15;
            if (takes < best - (apart > 1 ? 0.02 : 0)) {
                best = takes;
                schedule->zeros_gradient = height;
                schedule->zeros_apart = apart;
            }
        }
    return best;
}

/* See engine.h. Costs are relative to gemm, with what lists and short loops take (measured on digits and MNIST, 64 to
 * 512 outputs). */
static double FN(count_zeros)(fnn_job *job, int lanes, ptrdiff_t n, void *sample, uint64_t *bits)
{
    fnn_schedule *schedule = &job->schedule;
    const fnn_op *op = job->plan->ops;
    const ptrdiff_t n_in = job->plan->n_in;
    schedule->zeros_forward = schedule->zeros_gradient = 0;
    if (op->kind != FNN_DENSE || op->n_out <= lanes || job->blas) /* a tile one vector wide waits for itself */
        return 1;
    FN(sample_bits)(job, n, sample, bits);
    const int small = n_in * (op->n_out < 8 * lanes ? op->n_out : 8 * lanes) * (ptrdiff_t)sizeof(REAL) <= 32768;
    const double two = small ? FN(filled_rows)(n, n_in, 2, bits) + 0.2 : 2;
    const double four = FN(filled_rows)(n, n_in, 4, bits) + 0.15;
    const double gradient = FN(best_gradient_tiles)(schedule, op, n, bits);
    const double cost = ((two < four ? two : four) + gradient) / 2;
    if (cost >= 0.95) {
        schedule->zeros_gradient = 0;
        return 1;
    }
    schedule->zeros_forward = two < four ? 2 : 4;
    return cost;
}
