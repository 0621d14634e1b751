/* Mixup: rows of a batch are means of two of its rows, and their loss is the mean of the losses of both targets.
 *
 *     x̃ = λ x_i + (1 − λ) x_j        ℓ̃ = w_i (λ ℓ(z̃, y_i) + (1 − λ) ℓ(z̃, y_j))
 *
 * j is uniform over the rows of the batch and λ ~ Beta(α, α). The draws are those of augment_body.h, of row i. What
 * comes before mixup in the list of augmentations happens to both rows. A row j of weight 0 is not mixed in.
 *
 * λ = ½ + ½ sign(cos) / √(1 + 1 / ((u^(−1/α) − 1) cos²)), cos = cos 2πv, u and v uniform (Devroye 1996, "Random variate
 * generation in one line of code": a symmetric beta variable by way of Student's t).
 */

static double FN(mixing_share)(double alpha, uint32_t u, uint32_t v)
{
    const double turn = cos(6.283185307179586 * (((double)v + 0.5) * 0x1p-32));
    const double odds = expm1(-log(((double)u + 0.5) * 0x1p-32) / alpha) * turn * turn;
    return 0.5 + copysign(0.5, turn) / sqrt(1 + 1 / odds);
}

/* λ of n rows of a chunk from its row `done` on, which is row `first_row` of the batch, and the rows j as rows of the
 * data; `index` and `first` as in fetch(), for the whole chunk. */
static void FN(draw_mixing)(const fnn_job *job, const FN(mixing) * mixing, const FN(position) * position, int place,
                            const int64_t *index, ptrdiff_t first, ptrdiff_t done, ptrdiff_t n)
{
    const REAL *weight = job->data.weight;
    uint32_t words[FNN_TILE];
    for (ptrdiff_t i = done; i < done + n; i++) {
        const ptrdiff_t row = position->first_row + i;
        if (i == done || row % FNN_TILE_BLOCKS == 0)
            fnn_threefry_tile(job->train.augmentation_seed, (uint64_t)position->number, 0x80000000u | (uint32_t)place,
                              (uint64_t)(row / FNN_TILE_BLOCKS), words);
        const uint32_t *word = words + row % FNN_TILE_BLOCKS;
        const ptrdiff_t other = (ptrdiff_t)((uint64_t)word[2 * FNN_TILE_BLOCKS] * (uint64_t)position->batch_rows >> 32);
        const ptrdiff_t at = other - position->first_row; /* seen from the chunk */
        mixing->other[i] = other;
        mixing->source[i] = index ? index[at] : first + at;
        mixing->share[i] =
            weight && weight[mixing->source[i]] == 0
                ? 1
                : (REAL)FN(mixing_share)(job->train.augmentations[place].amount, word[0], word[FNN_TILE_BLOCKS]);
    }
}

/* Mix the other rows into n gathered rows x of a chunk, from its row `done` on. */
static void FN(mix)(const fnn_job *job, const FN(memory) * memory, const FN(position) * position, int place,
                    const int64_t *index, ptrdiff_t first, ptrdiff_t done, ptrdiff_t n, REAL *x)
{
    const FN(mixing) *mixing = &memory->mixing;
    const ptrdiff_t n_in = job->plan->n_in;
    FN(draw_mixing)(job, mixing, position, place, index, first, done, n);
    for (ptrdiff_t i = done; i < done + n; i++, x += n_in) {
        const REAL share = mixing->share[i], rest = 1 - share;
        FN(gather)(job, mixing->source + i, 0, 1, mixing->row);
        FN(augment)(job, 0, place, position->number, mixing->other[i], 1, memory->image, mixing->row);
        for (ptrdiff_t j = 0; j < n_in; j++)
            x[j] = share * x[j] + rest * mixing->row[j];
    }
}
