/* Inverted dropout (Srivastava et al. 2014): out = x / (1 − rate) where the element is kept, 0 where it is not.
 *
 * An element is dropped if its word, uniform on 0 … 2³² − 1, is below rate · 2³². The word is a function of (seed,
 * step, layer, row in the batch · cols + column) alone, so that any split of the batch has the same masks, and so has
 * the backward pass, which is this same linear map and stores no mask.
 */

FNN_INLINE void FN(mask)(ptrdiff_t n, uint32_t bound, REAL scale, const uint32_t *words, const REAL *x, REAL *out)
{
    FNN_INDEPENDENT
    for (ptrdiff_t i = 0; i < n; i++) {
        REAL v = scale * x[i];
        out[i] = words[i] >= bound ? v : 0;
    }
}

void FN(dropout)(ptrdiff_t rows, ptrdiff_t cols, uint64_t seed, uint64_t step, int layer, ptrdiff_t first_row,
                 double rate, const REAL *x, REAL *out)
{
    const double below = ceil(rate * 4294967296.0);
    const uint32_t bound = below >= 4294967295.0 ? UINT32_MAX : (uint32_t)below;
    const REAL scale = (REAL)(1 / (1 - rate));
    const ptrdiff_t n = rows * cols;
    uint64_t tile = (uint64_t)first_row * (uint64_t)cols / FNN_TILE;
    ptrdiff_t skip = (ptrdiff_t)((uint64_t)first_row * (uint64_t)cols % FNN_TILE); /* of the first tile */
    uint32_t words[FNN_TILE];
    for (ptrdiff_t i = 0; i < n; tile++) {
        fnn_threefry_tile(seed, step, (uint32_t)layer, tile, words);
        if (skip == 0 && n - i >= FNN_TILE) {
            FN(mask)(FNN_TILE, bound, scale, words, x + i, out + i);
            i += FNN_TILE;
        } else {
            const ptrdiff_t count = n - i < FNN_TILE - skip ? n - i : FNN_TILE - skip;
            FN(mask)(count, bound, scale, words + skip, x + i, out + i);
            i += count;
            skip = 0;
        }
    }
}
