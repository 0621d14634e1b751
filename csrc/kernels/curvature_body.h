/* Second-order pieces of dense layers: per sample, from layer to layer, and summed into a Hessian (curvature.h). */

#define LINE (64 / (ptrdiff_t)sizeof(REAL))
#define GEMM_WIDTH (FNN_GEMM_VECTORS * (ptrdiff_t)LANES)
#define SINK_SIZE ((ptrdiff_t)(16384 / sizeof(REAL)))

/* -- outputs that are written once, in order ----------------------------------------------------------------------- */

/* Where the next elements of an output go: to their place, or, when the output is too large for the caches, to a buffer
 * in the first-level cache from which whole lines go past the caches. Stores that fetch no line first write a large
 * array faster, and leave the caches alone. */
typedef struct {
    REAL *out;       /* of the buffer's first element; the beginning of a line if streaming */
    ptrdiff_t begin; /* elements at the buffer's begin that are somebody else's */
    ptrdiff_t filled;
    int stream;
    _Alignas(64) REAL buffer[SINK_SIZE];
} FN(sink);

FNN_INLINE void FN(sink_open)(FN(sink) * s, int stream, REAL *out)
{
    s->stream = stream;
    s->begin = stream ? (ptrdiff_t)((uintptr_t)out % 64 / sizeof(REAL)) : 0;
    s->out = out - s->begin;
    s->filled = s->begin;
}

/* Whole lines go out; the rest moves to the front. */
static void FN(sink_flush)(FN(sink) * s)
{
    ptrdiff_t at = 0;
    if (s->begin && s->filled >= LINE) {
        memcpy(s->out + s->begin, s->buffer + s->begin, (size_t)(LINE - s->begin) * sizeof(REAL));
        s->begin = 0;
        at = LINE;
    }
    for (; at + LINE <= s->filled; at += LINE)
        for (ptrdiff_t j = 0; j < LINE; j += LANES)
            FN(v_stream)(s->out + at + j, FN(v_load)(s->buffer + at + j));
    memcpy(s->buffer, s->buffer + at, (size_t)(s->filled - at) * sizeof(REAL));
    s->out += at;
    s->filled -= at;
}

/* Room for the next n elements, n <= SINK_SIZE - LINE */
FNN_INLINE REAL *FN(sink_next)(FN(sink) * s, ptrdiff_t n)
{
    if (!s->stream) {
        s->out += n;
        return s->out - n;
    }
    if (s->filled + n > SINK_SIZE)
        FN(sink_flush)(s);
    s->filled += n;
    return s->buffer + s->filled - n;
}

FNN_INLINE void FN(sink_close)(FN(sink) * s)
{
    if (!s->stream)
        return;
    FN(sink_flush)(s);
    memcpy(s->out + s->begin, s->buffer + s->begin, (size_t)(s->filled - s->begin) * sizeof(REAL));
    FNN_STREAM_END();
}

/* y = s x, in place allowed; nothing beyond is touched */
FNN_INLINE void FN(scaled)(ptrdiff_t n, REAL s, const REAL *x, REAL *y)
{
    const VEC by = FN(v_set1)(s);
    ptrdiff_t j = 0;
    for (; j + LANES <= n; j += LANES)
        FN(v_store)(y + j, by * FN(v_load)(x + j));
    if (j < n)
        FN(v_store_n)(y + j, by * FN(v_load_n)(x + j, (int)(n - j)), (int)(n - j));
}

/* The same into a sink, in pieces that fit */
FNN_INLINE void FN(scaled_out)(ptrdiff_t n, REAL s, const REAL *x, FN(sink) * out)
{
    for (ptrdiff_t j = 0; j < n; j += SINK_SIZE / 2) {
        const ptrdiff_t piece = n - j < SINK_SIZE / 2 ? n - j : SINK_SIZE / 2;
        FN(scaled)(piece, s, x + j, FN(sink_next)(out, piece));
    }
}

/* -- per sample ------------------------------------------------------------------------------------------------------
 */

/* y (n, cols) = x ⊗ d of fewer columns than a vector has elements: whole vectors, each over the end of the last one */
FNN_INLINE void FN(outer_narrow)(ptrdiff_t n, ptrdiff_t cols, const REAL *restrict x, VEC d, REAL *restrict y)
{
    ptrdiff_t k = 0;
    for (; k * cols + LANES <= n * cols; k++)
        FN(v_store)(y + k * cols, FN(v_set1)(x[k]) * d);
    for (; k < n; k++)
        FN(v_store_n)(y + k * cols, FN(v_set1)(x[k]) * d, (int)cols);
}

FNN_INLINE void FN(outer)(ptrdiff_t n_in, ptrdiff_t n_out, int bias, const REAL *x, const REAL *d, FN(sink) * out)
{
    if (n_out == 1) { /* as long a run as there is */
        FN(scaled_out)(n_in, *d, x, out);
    } else if (n_out < LANES) {
        const VEC row = FN(v_load_n)(d, (int)n_out);
        const ptrdiff_t most = SINK_SIZE / 2 / n_out;
        for (ptrdiff_t k = 0; k < n_in; k += most) {
            const ptrdiff_t piece = n_in - k < most ? n_in - k : most;
            FN(outer_narrow)(piece, n_out, x + k, row, FN(sink_next)(out, piece * n_out));
        }
    } else {
        for (ptrdiff_t k = 0; k < n_in; k++)
            FN(scaled_out)(n_out, x[k], d, out);
    }
    if (bias)
        FN(scaled_out)(n_out, 1, d, out);
}

void FN(per_sample_outer)(ptrdiff_t rows, ptrdiff_t n_in, ptrdiff_t n_out, int bias, const REAL *x, const REAL *d,
                          int stream, REAL *out, ptrdiff_t ldo)
{
    const int together = ldo == (n_in + bias) * n_out;
    FN(sink) s;
    for (ptrdiff_t i = 0; i < rows; i++) {
        if (i == 0 || !together)
            FN(sink_open)(&s, stream, out + i * ldo);
        FN(outer)(n_in, n_out, bias, x + i * n_in, d + i * n_out, &s);
        if (i == rows - 1 || !together)
            FN(sink_close)(&s);
    }
}

void FN(per_sample_hessian_rows)(ptrdiff_t begin, ptrdiff_t end, ptrdiff_t n_in, ptrdiff_t n_out, int bias,
                                 const REAL *a, const REAL *x, int stream, REAL *scratch, REAL *out)
{
    const ptrdiff_t inputs = n_in + bias, width = inputs * n_out;
    FN(sink) s, t;
    FN(sink_open)(&s, stream, out);
    for (ptrdiff_t at = begin; at < end; at++) {
        const ptrdiff_t i = at / inputs, k = at % inputs;
        if (at == begin || k == 0) { /* row j of scratch is x̃ ⊗ a[j] */
            FN(sink_open)(&t, 0, scratch);
            for (ptrdiff_t j = 0; j < n_out; j++)
                FN(outer)(n_in, n_out, bias, x + i * n_in, a + (i * n_out + j) * n_out, &t);
        }
        const REAL by = k < n_in ? x[i * n_in + k] : 1;
        for (ptrdiff_t j = 0; j < n_out; j++)
            FN(scaled_out)(width, by, scratch + j * width, &s);
    }
    FN(sink_close)(&s);
}

void FN(loss_hessian)(ptrdiff_t rows, ptrdiff_t cols, int softmax, const REAL *q, const REAL *weight, int stream,
                      REAL *out)
{
    FN(sink) s;
    FN(sink_open)(&s, stream, out);
    for (ptrdiff_t i = 0; i < rows; i++, q += cols) {
        const REAL w = weight ? weight[i] : 1;
        for (ptrdiff_t a = 0; a < cols; a++) {
            const REAL minus = -q[a];
            for (ptrdiff_t j = 0; j < cols; j += SINK_SIZE / 2) {
                const ptrdiff_t piece = cols - j < SINK_SIZE / 2 ? cols - j : SINK_SIZE / 2;
                REAL *row = FN(sink_next)(&s, piece);
                if (softmax) {
                    FN(scaled)(piece, minus, q + j, row);
                    if (weight)
                        FN(scaled)(piece, w, row, row);
                } else
                    memset(row, 0, (size_t)piece * sizeof(REAL));
                if (a >= j && a < j + piece)
                    row[a - j] = w * (softmax ? q[a] - q[a] * q[a] : q[a]);
            }
        }
    }
    FN(sink_close)(&s);
}

/* -- from layer to layer ---------------------------------------------------------------------------------------------
 */

void FN(symmetrize)(ptrdiff_t n, ptrdiff_t begin, ptrdiff_t end, REAL *h)
{
    const ptrdiff_t whole = begin + (end - begin) / LANES * LANES;
    for (ptrdiff_t j = 0; j + LANES <= whole; j += LANES)
        for (ptrdiff_t i = begin; i < whole; i += LANES) {
            if (i < j + LANES)
                continue;
            VEC block[LANES];
#pragma GCC unroll 16
            for (int r = 0; r < LANES; r++)
                block[r] = FN(v_load)(h + (j + r) * n + i);
            FN(v_transpose)(block);
#pragma GCC unroll 16
            for (int r = 0; r < LANES; r++)
                FN(v_store)(h + (i + r) * n + j, block[r]);
        }
    for (ptrdiff_t i = begin; i < end; i++) {
        const ptrdiff_t tile = i < whole ? begin + (i - begin) / LANES * LANES : i;
        for (ptrdiff_t c = i < whole ? tile / LANES * LANES : 0; c < i; c++)
            h[i * n + c] = h[c * n + i];
    }
}

void FN(curvature_backward)(ptrdiff_t rows, ptrdiff_t n_in, ptrdiff_t n_out, const REAL *a, const REAL *w,
                            const REAL *slope, const REAL *bend, void *scratch, REAL *out)
{
    REAL *pack = scratch, *b = pack + FNN_GEMM_PACK_BYTES / sizeof(REAL);
    const REAL **table = (const REAL **)((char *)b + fnn_lines((size_t)(rows * n_out * n_in) * sizeof(REAL)));
    for (ptrdiff_t i = 0; i < rows * n_out; i++)
        table[i] = a + i * n_out;
    FN(gemm)(rows * n_out, n_in, n_out, table, 0, 0, w, 1, n_out, NULL, 0, pack, b, n_in);
    for (ptrdiff_t k = 0; k < n_in; k++)
        table[k] = w + k * n_out;
    for (ptrdiff_t i = 0; i < rows; i++) {
        REAL *restrict h = out + i * n_in * n_in;
        FN(gemm)(n_in, n_in, n_out, table, 0, 0, b + i * n_out * n_in, n_in, 1, NULL, 0, pack, h, n_in);
        if (slope) {
            const REAL *restrict s = slope + i * n_in;
            for (ptrdiff_t r = 0; r < n_in; r++) {
                const REAL by = s[r];
                for (ptrdiff_t c = 0; c < n_in; c++)
                    h[r * n_in + c] *= by * s[c];
            }
        }
        if (bend)
            for (ptrdiff_t r = 0; r < n_in; r++)
                h[r * n_in + r] += bend[i * n_in + r];
        FN(symmetrize)(n_in, 0, n_in, h);
    }
}

void FN(cross_backward)(ptrdiff_t rows, ptrdiff_t r, ptrdiff_t n_in, ptrdiff_t n_out, int diagonal, const REAL *m,
                        const REAL *w, const REAL *slope, void *scratch, REAL *out)
{
    REAL *pack = scratch;
    const REAL **table = (const REAL **)((char *)scratch + FNN_GEMM_PACK_BYTES);
    if (!diagonal) {
        for (ptrdiff_t i = 0; i < rows * r; i++)
            table[i] = m + i * n_out;
        FN(gemm)(rows * r, n_in, n_out, table, 0, 0, w, 1, n_out, NULL, 0, pack, out, n_in);
    }
    for (ptrdiff_t i = 0; i < rows; i++) {
        const REAL *restrict s = slope ? slope + i * n_in : NULL;
        for (ptrdiff_t j = 0; j < r; j++) {
            REAL *restrict y = out + (i * r + j) * n_in;
            if (diagonal) {
                const REAL by = m[i * n_out + j];
                for (ptrdiff_t k = 0; k < n_in; k++)
                    y[k] = by * w[k * n_out + j];
            }
            if (s)
                for (ptrdiff_t k = 0; k < n_in; k++)
                    y[k] *= s[k];
        }
    }
}

/* -- sums over samples: pairs ----------------------------------------------------------------------------------------
 */

/* First pair (k, k') of a part */
FNN_INLINE void FN(first_pair)(ptrdiff_t inputs, ptrdiff_t pair, ptrdiff_t *k, ptrdiff_t *k2)
{
    *k = 0;
    while (pair >= inputs - *k) {
        pair -= inputs - *k;
        ++*k;
    }
    *k2 = *k + pair;
}

/* y = x̃[k] x̃[k'] of `height` pairs from (k, k') on, of one sample. */
FNN_INLINE void FN(pair_products)(ptrdiff_t n_in, ptrdiff_t inputs, ptrdiff_t height, ptrdiff_t k, ptrdiff_t k2,
                                  const REAL *x, REAL *y)
{
    for (ptrdiff_t todo = height; todo > 0; k++, k2 = k) {
        const ptrdiff_t run = inputs - k2 < todo ? inputs - k2 : todo;
        const ptrdiff_t products = n_in - k2 < run ? n_in - k2 : run;
        const REAL by = k < n_in ? x[k] : 1;
        if (products > 0)
            FN(scaled)(products, by, x + k2, y);
        if (products < run)
            y[run - 1] = by;
        y += run;
        todo -= run;
    }
}

/* y = the upper triangle of rows j0 to j1 of a sample's A, at a. */
FNN_INLINE void FN(upper_rows)(const fnn_block *block, ptrdiff_t j0, ptrdiff_t j1, const REAL *a, REAL *y)
{
    const ptrdiff_t n = block->n_out;
    for (ptrdiff_t j = j0; j < j1; j++) {
        const REAL *from = a + j * block->a_row + j * block->a_column;
        for (ptrdiff_t c = 0; c < n - j; c += LINE) /* the next sample's: every part reads A with large strides */
            FNN_PREFETCH(from + block->a_sample + c);
        if (block->a_column == 1)
            FN(scaled)(n - j, 1, from, y);
        else
            for (ptrdiff_t o = 0; o < n - j; o++)
                y[o] = from[o * block->a_column];
        y += n - j;
    }
}

/* Adds the panel (pairs, width), which begins with the pair (k, k'), to the tiles (k, k') of H. Row r of a tile is, of
 * this part: columns j0 to min(j1, r), mirrored, and where r < j1 columns r to n. */
FNN_INLINE void FN(unfold_pairs)(const fnn_block *block, const fnn_pairs *part, ptrdiff_t k, ptrdiff_t k2,
                                 const REAL *panel, ptrdiff_t width)
{
    const ptrdiff_t n = block->n_out, inputs = block->n_in + block->bias, j0 = part->j0, j1 = part->j1;
    const REAL scale = (REAL)block->scale;
    for (ptrdiff_t p = 0; p < part->n_pairs; p++) {
        const REAL *restrict from = panel + p * width;
        REAL *tile = (REAL *)block->h + k * n * block->ldh + k2 * n;
        const REAL *upper = from; /* row r of the triangle */
        for (ptrdiff_t r = j0; r < n; r++) {
            REAL *restrict to = tile + r * block->ldh;
            if (k < k2) {
                const ptrdiff_t end = r < j1 ? r : j1;
                const REAL *restrict element = from + (r - j0);
                for (ptrdiff_t c = j0; c < end; c++) {
                    to[c] += scale * *element;
                    element += n - c - 1;
                }
            }
            if (r < j1) {
                for (ptrdiff_t c = r; c < n; c++)
                    to[c] += scale * upper[c - r];
                upper += n - r;
            }
        }
        if (++k2 == inputs)
            k2 = ++k;
    }
}

void FN(hessian_pairs)(const fnn_block *block, const fnn_pairs *part, void *workspace)
{
    const ptrdiff_t n_in = block->n_in, n = block->n_out, inputs = n_in + block->bias, height = part->n_pairs;
    const ptrdiff_t j0 = part->j0, j1 = part->j1, used = fnn_triangle(n, j0, j1);
    const ptrdiff_t width = (used + LINE - 1) / LINE * LINE;
    ptrdiff_t ldl = (height + LINE - 1) / LINE * LINE;
    if (ldl % (4 * LINE) == 0) /* not all samples in the same few sets of the cache */
        ldl += LINE;
    char *place = workspace;
    REAL *pack = (REAL *)place;
    place += FNN_GEMM_PACK_BYTES;
    const REAL **table = (const REAL **)place;
    place += fnn_lines(FNN_CURVATURE_ROWS * sizeof *table);
    REAL *left = (REAL *)place, *right = left + FNN_CURVATURE_ROWS * ldl, *line = right + FNN_CURVATURE_ROWS * width;
    REAL *panel = line + width + LINE;
    ptrdiff_t first_k, first_k2;
    FN(first_pair)(inputs, part->pair, &first_k, &first_k2);
    for (ptrdiff_t p = 0; p < FNN_CURVATURE_ROWS; p++)
        table[p] = left + p * ldl;
    for (ptrdiff_t j = used; j < width; j++)
        line[j] = 0;

    for (ptrdiff_t i0 = 0; i0 < block->rows; i0 += FNN_CURVATURE_ROWS) {
        const ptrdiff_t rows = block->rows - i0 < FNN_CURVATURE_ROWS ? block->rows - i0 : FNN_CURVATURE_ROWS;
        for (ptrdiff_t p = 0; p < rows; p++) {
            const REAL *x = (const REAL *)block->x + (i0 + p) * n_in;
            const REAL *a = (const REAL *)block->a + (i0 + p) * block->a_sample;
            FN(pair_products)(n_in, inputs, height, first_k, first_k2, x, left + p * ldl);
            FN(upper_rows)(block, j0, j1, a, line);
            for (ptrdiff_t c = 0; c < width; c += GEMM_WIDTH) {
                const ptrdiff_t cols = width - c < GEMM_WIDTH ? width - c : GEMM_WIDTH;
                REAL *to = right + c * FNN_CURVATURE_ROWS + p * cols;
                for (ptrdiff_t j = 0; j < cols; j += LANES)
                    FN(v_store)(to + j, FN(v_load)(line + c + j));
            }
        }
        for (ptrdiff_t c = 0; c < width; c += GEMM_WIDTH) {
            const ptrdiff_t cols = width - c < GEMM_WIDTH ? width - c : GEMM_WIDTH;
            FN(gemm)(height, cols, rows, table, 0, 1, right + c * FNN_CURVATURE_ROWS, cols, 1, NULL, i0 > 0, pack,
                     panel + c, width);
        }
    }
    FN(unfold_pairs)(block, part, first_k, first_k2, panel, width);
}

/* -- sums over samples: products -------------------------------------------------------------------------------------
 */

/* y[o] = x a[o] + f d[o]; elements up to the next whole vector may be overwritten */
FNN_INLINE void FN(two_terms)(ptrdiff_t n, REAL x, const REAL *restrict a, REAL f, const REAL *restrict d, REAL *y)
{
    for (ptrdiff_t o = 0; o < n; o += LANES)
        FN(v_store)(y + o, FN(v_fma)(FN(v_set1)(x), FN(v_load)(a + o), FN(v_set1)(f) * FN(v_load)(d + o)));
}

FNN_INLINE void FN(one_term)(ptrdiff_t n, REAL x, const REAL *restrict a, REAL *y)
{
    for (ptrdiff_t o = 0; o < n; o += LANES)
        FN(v_store)(y + o, FN(v_set1)(x) * FN(v_load)(a + o));
}

void FN(hessian_products)(const fnn_block *block, const fnn_products *part, void *workspace)
{
    const ptrdiff_t n_in = block->n_in, n_in2 = block->n_in2, n = block->n_out2, inputs2 = n_in2 + block->bias2;
    const ptrdiff_t j = part->j, m0 = part->m0, m1 = part->m1, width = (m1 - m0) * n;
    const ptrdiff_t weights1 = m1 < inputs2 ? m1 : n_in2; /* end of those that are not the bias */
    const ptrdiff_t row = block->n_out * block->ldh;      /* from input k of the first layer to the next */
    const ptrdiff_t padded = (n + LINE - 1) / LINE * LINE;
    const REAL scale = (REAL)block->scale;
    REAL *h = (REAL *)block->h + j * block->ldh + m0 * n;
    char *place = workspace;
    REAL *pack = (REAL *)place;
    place += FNN_GEMM_PACK_BYTES;
    const REAL **table = (const REAL **)place;
    place += fnn_lines(FNN_CURVATURE_ROWS * sizeof *table);
    /* both with zeros up to whole vectors */
    REAL *a = (REAL *)place, *d = a + padded, *t = d + padded;
    REAL *square = t + FNN_CURVATURE_ROWS * width + LINE; /* of one layer: the part with k >= m0 */
    const ptrdiff_t below = block->one_layer ? m0 : n_in, end = m1 < n_in ? m1 : n_in;
    for (ptrdiff_t o = 0; o < 2 * padded; o++)
        a[o] = 0;

    for (ptrdiff_t i0 = 0; i0 < block->rows; i0 += FNN_CURVATURE_ROWS) {
        const ptrdiff_t rows = block->rows - i0 < FNN_CURVATURE_ROWS ? block->rows - i0 : FNN_CURVATURE_ROWS;
        for (ptrdiff_t p = 0; p < rows; p++) {
            const ptrdiff_t i = i0 + p;
            const REAL *x2 = (const REAL *)block->x2 + i * n_in2;
            const REAL *from = (const REAL *)block->a + i * block->a_sample;
            if (block->one_layer) /* only the upper triangle is there */
                for (ptrdiff_t o = 0; o < n; o++)
                    a[o] = scale * from[(o < j ? o : j) * block->a_row + (o < j ? j : o) * block->a_column];
            else if (block->a_column == 1)
                for (ptrdiff_t o = 0; o < n; o += LANES) { /* zeros go behind; a line of each sample: ask early */
                    const REAL *row_of_a = from + j * block->a_row + o;
                    FNN_PREFETCH(row_of_a + 8 * block->a_sample);
                    FN(v_store)(a + o,
                                FN(v_set1)(scale) * FN(v_load_n)(row_of_a, n - o < LANES ? (int)(n - o) : LANES));
                }
            else
                for (ptrdiff_t o = 0; o < n; o++)
                    a[o] = scale * from[j * block->a_row + o * block->a_column];
            REAL *y = t + p * width;
            table[p] = (const REAL *)block->x + i * n_in;
            if (block->jacobian && !block->diagonal) {
                const REAL *jacobian = (const REAL *)block->jacobian + i * block->j_sample + j * block->j_row;
                memcpy(d, (const REAL *)block->delta + i * n, (size_t)n * sizeof(REAL));
                for (ptrdiff_t m = m0; m < weights1; m++, y += n)
                    FN(two_terms)(n, x2[m], a, scale * jacobian[m * block->j_column], d, y);
            } else
                for (ptrdiff_t m = m0; m < weights1; m++, y += n)
                    FN(one_term)(n, x2[m], a, y);
            if (weights1 < m1)
                FN(one_term)(n, 1, a, y);
        }
        if (block->jacobian && block->diagonal && j >= m0 && j < weights1)
            for (ptrdiff_t p = 0; p < rows; p++) {
                const ptrdiff_t i = i0 + p;
                const REAL by = scale * ((const REAL *)block->jacobian)[i * block->j_sample + j * block->j_row];
                const REAL *restrict delta = (const REAL *)block->delta + i * n;
                REAL *restrict y = t + p * width + (j - m0) * n;
                for (ptrdiff_t o = 0; o < n; o++)
                    y[o] += by * delta[o];
            }
        FN(gemm)(below, width, rows, table, 0, 1, t, width, 1, NULL, 1, pack, h, row);
        if (block->one_layer) {
            FN(gemm)(end - m0, width, rows, table, m0, 1, t, width, 1, NULL, i0 > 0, pack, square, width);
            if (m1 > n_in)
                FN(column_sums)(rows, width, t, i0 > 0, square + (n_in - m0) * width);
        } else if (block->bias)
            FN(column_sums)(rows, width, t, 1, h + n_in * row);
    }
    if (block->one_layer)
        for (ptrdiff_t k = m0; k < m1; k++) {
            const REAL *restrict from = square + (k - m0) * width;
            REAL *restrict to = h + k * row;
            for (ptrdiff_t c = (k - m0) * n + j; c < width; c++)
                to[c] += from[c];
        }
}

#undef LINE
#undef GEMM_WIDTH
#undef SINK_SIZE
