/* Random changes of training rows, in place. A row is an image (height, width, channels) in C order.
 *
 *     noise   x + amount z, z ~ N(0, 1) for every element
 *     shift   out[y, x] = in[y − dy, x − dx], dy and dx uniform on the integers −amount … amount
 *     flip    out[y, x] = in[y, width − 1 − x] with the given probability
 *     rotate  about the centre, by an angle uniform on ±amount (radians), bilinear
 *     erase   with the given probability, a square of side `amount` whose centre is uniform over the pixels
 *     crop    a part of s height · s width, s uniform on amount … 1, at a uniform place, at full size again; bilinear
 *
 * What lies outside of an image, and what is erased, is `fill`. The draws of a row are a function of (seed, step, place
 * in the list of augmentations, row in the batch) alone, so that any split of the batch has the same ones: the four
 * words of the generator's block of the row's number; for noise one word per element, as in dropout. Bit 31 of the
 * counter's third word tells them from those of dropout.
 */

/* uniform on 0 … n − 1 */
FNN_INLINE ptrdiff_t FN(below)(uint32_t word, ptrdiff_t n) { return (ptrdiff_t)((uint64_t)word * (uint64_t)n >> 32); }

/* uniform on (0, 1) */
FNN_INLINE double FN(fraction)(uint32_t word) { return ((double)word + 0.5) * 0x1p-32; }

FNN_INLINE int FN(happens)(uint32_t word, double probability)
{
    return (double)word < ceil(probability * 4294967296.0);
}

static void FN(fill_elements)(ptrdiff_t n, REAL fill, REAL *x)
{
    for (ptrdiff_t i = 0; i < n; i++)
        x[i] = fill;
}

static void FN(shift_image)(ptrdiff_t height, ptrdiff_t width, ptrdiff_t channels, ptrdiff_t dy, ptrdiff_t dx,
                            REAL fill, REAL *x)
{
    const ptrdiff_t line = width * channels, n = height * line;
    if (dy >= height || -dy >= height || dx >= width || -dx >= width) {
        FN(fill_elements)(n, fill, x);
        return;
    }
    /* all at once; what has come from a neighbouring line is filled after that */
    const ptrdiff_t by = dy * line + dx * channels, columns = (dx < 0 ? -dx : dx) * channels;
    if (by > 0)
        memmove(x + by, x, (size_t)(n - by) * sizeof(REAL));
    else if (by < 0)
        memmove(x, x - by, (size_t)(n + by) * sizeof(REAL));
    FN(fill_elements)((dy < 0 ? -dy : dy) * line, fill, dy > 0 ? x : x + n + dy * line);
    for (REAL *at = dx > 0 ? x : x + line - columns, *end = at + n; columns && at != end; at += line)
        FN(fill_elements)(columns, fill, at);
}

static void FN(flip_image)(ptrdiff_t height, ptrdiff_t width, ptrdiff_t channels, REAL *restrict scratch,
                           REAL *restrict x)
{
    const ptrdiff_t line = width * channels;
    memcpy(scratch, x, (size_t)(height * line) * sizeof(REAL));
    if (channels == 1)
        for (ptrdiff_t y = 0; y < height; y++)
            for (ptrdiff_t j = 0; j < width; j++)
                x[y * width + j] = scratch[y * width + width - 1 - j];
    else
        for (ptrdiff_t y = 0; y < height; y++)
            for (ptrdiff_t j = 0; j < width; j++)
                for (ptrdiff_t c = 0; c < channels; c++)
                    x[y * line + j * channels + c] = scratch[y * line + (width - 1 - j) * channels + c];
}

/* The image with a border of `fill`: one pixel before it, and two behind. */
static void FN(pad_image)(ptrdiff_t height, ptrdiff_t width, ptrdiff_t channels, REAL fill, const REAL *restrict x,
                          REAL *restrict padded)
{
    const ptrdiff_t line = width * channels, wide = (width + 3) * channels;
    FN(fill_elements)(wide, fill, padded);
    FN(fill_elements)(2 * wide, fill, padded + (height + 1) * wide);
    for (ptrdiff_t y = 0; y < height; y++) {
        REAL *to = padded + (y + 1) * wide;
        FN(fill_elements)(channels, fill, to);
        memcpy(to + channels, x + y * line, (size_t)line * sizeof(REAL));
        FN(fill_elements)(2 * channels, fill, to + channels + line);
    }
}

/* Bilinear between four pixels of a padded image, at v + 1 and u + 1 in it. */
FNN_INLINE REAL FN(between_pixels)(const REAL *padded, int wide, int step, int channel, REAL v, REAL u)
{
    const int row = (int)(v + 1), column = (int)(u + 1);
    const REAL a = v + 1 - (REAL)row, b = u + 1 - (REAL)column;
    const REAL *p = padded + row * wide + column * step + channel;
    const REAL top = p[0] + b * (p[step] - p[0]), low = p[wide] + b * (p[wide + step] - p[wide]);
    return top + a * (low - top);
}

static void FN(rotate_image)(ptrdiff_t height, ptrdiff_t width, ptrdiff_t channels, double angle, REAL fill,
                             REAL *restrict scratch, REAL *restrict x)
{
    const int wide = (int)((width + 3) * channels), step = (int)channels;
    const REAL c = (REAL)cos(angle), s = (REAL)sin(angle), bottom = (REAL)height, right = (REAL)width;
    const REAL cy = (REAL)(height - 1) / 2, cx = (REAL)(width - 1) / 2;
    FN(pad_image)(height, width, channels, fill, x, scratch);
    for (ptrdiff_t i = 0; i < height; i++) {
        const REAL di = (REAL)i - cy, y0 = c * di + cy, x0 = s * di + cx;
        for (int channel = 0; channel < step; channel++)
            for (int j = 0; j < (int)width; j++) {
                const REAL dj = (REAL)j - cx;
                REAL v = y0 - s * dj, u = x0 + c * dj;
                v = v < -1 ? -1 : v > bottom ? bottom : v;
                u = u < -1 ? -1 : u > right ? right : u;
                x[(i * width + j) * channels + channel] = FN(between_pixels)(scratch, wide, step, channel, v, u);
            }
    }
}

/* Where the part of length `share` · n that begins at `start` of what is free has the centre of its pixel i of n. */
FNN_INLINE REAL FN(crop_at)(ptrdiff_t n, double share, double start, ptrdiff_t i)
{
    const REAL at = (REAL)(start * (double)n * (1 - share) + share / 2 - 0.5 + share * (double)i), last = (REAL)(n - 1);
    return at < 0 ? 0 : at > last ? last : at;
}

static void FN(crop_image)(ptrdiff_t height, ptrdiff_t width, ptrdiff_t channels, double share, double top, double left,
                           REAL *restrict scratch, REAL *restrict x)
{
    const int wide = (int)((width + 3) * channels), step = (int)channels;
    FN(pad_image)(height, width, channels, 0, x, scratch);
    for (ptrdiff_t i = 0; i < height; i++) {
        const REAL v = FN(crop_at)(height, share, top, i);
        for (ptrdiff_t j = 0; j < width; j++) {
            const REAL u = FN(crop_at)(width, share, left, j);
            for (int channel = 0; channel < step; channel++)
                x[(i * width + j) * channels + channel] = FN(between_pixels)(scratch, wide, step, channel, v, u);
        }
    }
}

static void FN(erase_square)(ptrdiff_t height, ptrdiff_t width, ptrdiff_t channels, ptrdiff_t side, ptrdiff_t y,
                             ptrdiff_t x, REAL fill, REAL *image)
{
    const ptrdiff_t top = y - side / 2 > 0 ? y - side / 2 : 0, left = x - side / 2 > 0 ? x - side / 2 : 0;
    const ptrdiff_t end = y - side / 2 + side < height ? y - side / 2 + side : height;
    const ptrdiff_t right = x - side / 2 + side < width ? x - side / 2 + side : width;
    for (ptrdiff_t i = top; i < end; i++)
        FN(fill_elements)((right - left) * channels, fill, image + (i * width + left) * channels);
}

/* The quantile of the standard normal distribution at (word + ½) / 2³², by the rational functions PPND7 of Wichura 1988
 * ("Algorithm AS 241", Applied Statistics 37), relative error about 1e-7; its third one begins beyond these words. */
FNN_INLINE REAL FN(normal_of)(uint32_t word)
{
    const int lower = word < 0x80000000u;
    const REAL p = ((REAL)(lower ? word : ~word) + C_(0.5)) * C_(0x1p-32), q = C_(0.5) - p;
    const REAL r = C_(0.180625) - q * q, log = -FN(m_log)(p);
    const REAL t = (REAL_F32 ? (REAL)sqrtf((float)log) : (REAL)sqrt((double)log)) - C_(1.6);
    const REAL middle = q *
                        (((C_(59.109374720) * r + C_(159.29113202)) * r + C_(50.434271938)) * r + C_(3.3871327179)) /
                        (((C_(67.187563600) * r + C_(78.757757664)) * r + C_(17.895169469)) * r + C_(1.0));
    const REAL tail = (((C_(0.17023821103) * t + C_(1.3067284816)) * t + C_(2.7568153900)) * t + C_(1.4234372777)) /
                      ((C_(0.12021132975) * t + C_(0.73700164250)) * t + C_(1.0));
    const REAL z = q <= C_(0.425) ? middle : tail;
    return lower ? -z : z;
}

static void FN(add_noise)(ptrdiff_t n, uint64_t seed, uint64_t step, uint32_t layer, uint64_t first, REAL deviation,
                          REAL *x)
{
    uint32_t words[FNN_TILE];
    REAL z[FNN_TILE];
    ptrdiff_t skip = (ptrdiff_t)(first % FNN_TILE); /* of the first tile */
    uint64_t tile = first / FNN_TILE;
    for (ptrdiff_t i = 0; i < n; tile++) {
        const ptrdiff_t count = n - i < FNN_TILE - skip ? n - i : FNN_TILE - skip;
        fnn_threefry_tile(seed, step, layer, tile, words);
        for (int k = 0; k < FNN_TILE; k++)
            z[k] = FN(normal_of)(words[k]);
        for (ptrdiff_t k = 0; k < count; k++)
            x[i + k] += deviation * z[skip + k];
        i += count;
        skip = 0;
    }
}

static void FN(augment_image)(int kind, ptrdiff_t height, ptrdiff_t width, ptrdiff_t channels, double amount,
                              double probability, REAL fill, const uint32_t *words, REAL *scratch, REAL *x)
{
    const uint32_t first = words[0], second = words[FNN_TILE_BLOCKS], third = words[2 * FNN_TILE_BLOCKS];
    if (kind == FNN_AUGMENT_SHIFT) {
        const ptrdiff_t most = (ptrdiff_t)amount, span = 2 * most + 1;
        FN(shift_image)(height, width, channels, FN(below)(first, span) - most, FN(below)(second, span) - most, fill,
                        x);
    } else if (kind == FNN_AUGMENT_ROTATE) {
        const double angle = (2 * (((double)first + 0.5) * 0x1p-32) - 1) * amount;
        FN(rotate_image)(height, width, channels, angle, fill, scratch, x);
    } else if (kind == FNN_AUGMENT_CROP) {
        FN(crop_image)(height, width, channels, amount + (1 - amount) * FN(fraction)(first), FN(fraction)(second),
                       FN(fraction)(third), scratch, x);
    } else if (FN(happens)(first, probability)) {
        if (kind == FNN_AUGMENT_FLIP)
            FN(flip_image)(height, width, channels, scratch, x);
        else
            FN(erase_square)(height, width, channels, (ptrdiff_t)amount, FN(below)(second, height),
                             FN(below)(third, width), fill, x);
    }
}

void FN(augment_rows)(ptrdiff_t rows, int kind, ptrdiff_t height, ptrdiff_t width, ptrdiff_t channels, double amount,
                      double probability, double fill, uint64_t seed, uint64_t step, int place, ptrdiff_t first_row,
                      REAL *scratch, REAL *x)
{
    const uint32_t layer = 0x80000000u | (uint32_t)place;
    const ptrdiff_t n = height * width * channels;
    if (kind == FNN_AUGMENT_NOISE) {
        FN(add_noise)(rows * n, seed, step, layer, (uint64_t)first_row * (uint64_t)n, (REAL)amount, x);
        return;
    }
    uint32_t words[FNN_TILE];
    for (ptrdiff_t i = 0; i < rows; i++) {
        const ptrdiff_t row = first_row + i;
        if (i == 0 || row % FNN_TILE_BLOCKS == 0)
            fnn_threefry_tile(seed, step, layer, (uint64_t)(row / FNN_TILE_BLOCKS), words);
        FN(augment_image)(kind, height, width, channels, amount, probability, (REAL)fill, words + row % FNN_TILE_BLOCKS,
                          scratch, x + i * n);
    }
}
