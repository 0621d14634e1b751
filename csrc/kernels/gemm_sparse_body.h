/* Products with rows in which much is zero, as in those of images, counts and one-hot categories: x W and xᵀ δ.
 *
 * A register tile of gemm takes those k alone where its elements of A are not all zero; they are listed first. What is
 * left out would have added 0 b = 0 to sums whose order stays the same, so that the results are equal to gemm's
 * wherever b is finite. Forward, a tile is a few samples high, and its list is of features. Backward it is a few
 * features high, and its list is of samples: bit j of a row of `bits` says whether x_j is zero, and a block of 64 rows
 * by 64 features of it is transposed at a time. These features are `apart`, 1 or a greater power of 2, as are those
 * that are zero together: neighbours, or pixels above each other. A tile 4 high is as wide as gemm's. Where few zeros
 * are next to each other one 2 high and up to twice as wide skips more of them, if its panel of B stays in the
 * first-level cache.
 */
#define ZEROS_PANEL_BYTES (32 * 1024)
#define ZEROS_MOST_ROWS 256

/* out = base plus the places of the bits, in order; up to 15 elements behind them are overwritten. */
FNN_INLINE ptrdiff_t FN(list_bits)(uint64_t bits, int32_t base, int32_t *restrict out)
{
    ptrdiff_t n = 0;
#if defined(__AVX512F__)
    const __m512i first = _mm512_set1_epi32(base);
    const __m512i places = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#pragma GCC unroll 4
    for (int part = 0; part < 64; part += 16) {
        const __mmask16 few = (__mmask16)(bits >> part);
        const __m512i all = _mm512_add_epi32(first, _mm512_add_epi32(places, _mm512_set1_epi32(part)));
        _mm512_storeu_si512(out + n, _mm512_maskz_compress_epi32(few, all));
        n += __builtin_popcount(few);
    }
#else
    for (; bits; bits &= bits - 1)
        out[n++] = base + FNN_FIRST_BIT(bits);
#endif
    return n;
}

/* Bit j: x[j] != 0, for j < n <= 64. */
FNN_INLINE uint64_t FN(nonzero_word)(ptrdiff_t n, const REAL *x)
{
    uint64_t bits = 0;
    ptrdiff_t j = 0;
    if (n == 64) {
#pragma GCC unroll 16
        for (; j < 64; j += LANES)
            bits |= (uint64_t)FN(v_nonzero)(FN(v_load)(x + j)) << j;
        return bits;
    }
    for (; j < n; j += LANES)
        bits |= (uint64_t)FN(v_nonzero)(n - j < LANES ? FN(v_load_n)(x + j, (int)(n - j)) : FN(v_load)(x + j)) << j;
    return bits;
}

void FN(nonzero_bits)(ptrdiff_t rows, ptrdiff_t k, const REAL *x, uint64_t *bits)
{
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t j = 0; j < k; j += 64)
            *bits++ = FN(nonzero_word)(k - j < 64 ? k - j : 64, x + i * k + j);
}

/* m rows of C, a tile or what is left of one. */
#define ZEROS_TILE_(HEIGHT, MR, NV, T, I)                                                                 \
    {                                                                                                     \
        const FN(tile_a) part = {T ? A->rows : A->rows + (I), A->at + (T ? (I) * A->apart : 0), A->apart, \
                                 A->next + (I), A->next_at};                                              \
        const FN(tile_b) B = {panel->rows, panel->ld, ZEROS_WHOLE_##HEIGHT, panel->last};                 \
        FN(gemm_tile)(MR, NV, T, 1, n, list, part, B, FN(ends_at)(ends, I), c + (I) * ldc, ldc);          \
    }
#define ZEROS_CASE_4(NV, T)                                  \
    case 4:                                                  \
        ZEROS_TILE_(4, 4, NV, T, 0)                          \
        break;                                               \
    case 3:                                                  \
        ZEROS_TILE_(4, 1, NV, T, 2) /* and the other two: */ \
        FNN_FALLTHROUGH;
#define ZEROS_CASE_2(NV, T)
#define ZEROS_WHOLE_4 panel->whole
#define ZEROS_WHOLE_2 PTRDIFF_MAX /* so wide a panel is a copy, or of whole vectors */
#define ZEROS_PANEL(NAME, HEIGHT, NV, T)                                                           \
    static void FN(NAME)(ptrdiff_t m, ptrdiff_t n, const int32_t *list, const FN(tile_a) * A,      \
                         const FN(tile_b) * panel, const FN(ends) * ends, REAL * c, ptrdiff_t ldc) \
    {                                                                                              \
        switch (m) {                                                                               \
        ZEROS_CASE_##HEIGHT(NV, T) case 2:                                                         \
            ZEROS_TILE_(HEIGHT, 2, NV, T, 0)                                                       \
            break;                                                                                 \
        default:                                                                                   \
            ZEROS_TILE_(HEIGHT, 1, NV, T, 0)                                                       \
        }                                                                                          \
    }
#define ZEROS_PANELS(HEIGHT, NV)                \
    ZEROS_PANEL(zeros_panel##NV, HEIGHT, NV, 0) \
    ZEROS_PANEL(zeros_panel##NV##_transposed, HEIGHT, NV, 1)
typedef void (*FN(zeros_panel))(ptrdiff_t, ptrdiff_t, const int32_t *, const FN(tile_a) *, const FN(tile_b) *,
                                const FN(ends) *, REAL *, ptrdiff_t);
ZEROS_PANELS(4, 1)
ZEROS_PANELS(4, 2)
#if GEMM_NV == 4
ZEROS_PANELS(4, 3)
ZEROS_PANELS(4, 4)
ZEROS_PANELS(2, 5)
ZEROS_PANELS(2, 6)
ZEROS_PANELS(2, 7)
ZEROS_PANELS(2, 8)
#define ZEROS_TABLE(SUFFIX)                                                                                  \
    {FN(zeros_panel1##SUFFIX), FN(zeros_panel2##SUFFIX), FN(zeros_panel3##SUFFIX), FN(zeros_panel4##SUFFIX), \
     FN(zeros_panel5##SUFFIX), FN(zeros_panel6##SUFFIX), FN(zeros_panel7##SUFFIX), FN(zeros_panel8##SUFFIX)}
#else
ZEROS_PANELS(2, 3)
ZEROS_PANELS(2, 4)
#define ZEROS_TABLE(SUFFIX) \
    {FN(zeros_panel1##SUFFIX), FN(zeros_panel2##SUFFIX), FN(zeros_panel3##SUFFIX), FN(zeros_panel4##SUFFIX)}
#endif
static const FN(zeros_panel) FN(zeros_panels)[] = ZEROS_TABLE(), FN(zeros_transposed)[] = ZEROS_TABLE(_transposed);

FNN_INLINE ptrdiff_t FN(zeros_width)(ptrdiff_t n, ptrdiff_t jc, int height)
{
    return FN(gemm_width)(n, jc, height == 2 ? GEMM_WIDEST : GEMM_NV);
}

/* k rows of a panel of b: where they lie, or, where `rows` tiles' products pay for it and there is room, a copy with
 * aligned rows that follow each other. */
FNN_INLINE FN(tile_b)
    FN(zeros_pack)(int copy, ptrdiff_t k, ptrdiff_t n, ptrdiff_t cols, const REAL *b, ptrdiff_t row, REAL *pack)
{
    const ptrdiff_t width = (cols + LANES - 1) / LANES * LANES;
    const int last = (int)((cols - 1) % LANES) + 1;
    if (!copy || (cols == n && row % LANES == 0) || k * width * (ptrdiff_t)sizeof(REAL) > FNN_ZEROS_PACK_BYTES)
        return (FN(tile_b)){b, row, k - (width - cols + row - 1) / row, last};
    FN(gemm_pack)(k, cols, width, b, row, 1, pack);
    return (FN(tile_b)){pack, width, k, last};
}

/* The bits of `height` rows, and the list of the features where one of them is not zero. */
static ptrdiff_t FN(zeros_list)(ptrdiff_t height, ptrdiff_t k, const REAL *const *x, uint64_t *restrict bits,
                                int32_t *restrict list)
{
    const ptrdiff_t words = (k + 63) / 64;
    ptrdiff_t n = 0;
    for (ptrdiff_t w = 0; w < words; w++) {
        const ptrdiff_t width = k - 64 * w < 64 ? k - 64 * w : 64;
        uint64_t any = 0;
        for (ptrdiff_t i = 0; i < height; i++) {
            bits[i * words + w] = FN(nonzero_word)(width, x[i] + 64 * w);
            any |= bits[i * words + w];
        }
        n += FN(list_bits)(any, (int32_t)(64 * w), list + n);
    }
    return n;
}

void FN(zeros_forward)(ptrdiff_t rows, ptrdiff_t n, ptrdiff_t k, int height, const REAL *const *x, const REAL *b,
                       const REAL *bias, int relu, REAL *pack, uint64_t *bits, int32_t *starts, int32_t *list, REAL *c)
{
    const ptrdiff_t words = (k + 63) / 64;
    const int wide = height == 2 && k * GEMM_WIDEST * LANES * (ptrdiff_t)sizeof(REAL) <= FNN_ZEROS_PACK_BYTES;
    starts[0] = 0;
    for (ptrdiff_t jc = 0, cols; jc < n; jc += cols) {
        cols = FN(zeros_width)(n, jc, wide ? 2 : 4);
        const FN(zeros_panel) tile = FN(zeros_panels)[(cols - 1) / LANES];
        const FN(ends) ends = {.bias = bias ? bias + jc : NULL, .rectify = relu};
        const FN(tile_b) panel = FN(zeros_pack)(wide || rows >= 96, k, n, cols, b + jc, n, pack);
        for (ptrdiff_t i = 0, t = 0; i < rows; i += height, t++) {
            const ptrdiff_t m = rows - i < height ? rows - i : height;
            const int more = jc == 0 && i + 2 * height <= rows;
            if (jc == 0)
                starts[t + 1] = starts[t] + (int32_t)FN(zeros_list)(m, k, x + i, bits + i * words, list + starts[t]);
            const FN(tile_a) A = {x + i, 0, 1, x + i + (more ? height : 0), more ? k : 0};
            tile(m, starts[t + 1] - starts[t], list + starts[t], &A, &panel, &ends, c + i * n + jc, n);
        }
    }
}

/* Transposes 64 words of 64 bits: halves of halves change places. */
#define TRANSPOSE_ROUND_(J, LOW)                                   \
    for (int k = 0; k < 64; k += 2 * (J))                          \
        for (int i = k; i < k + (J); i++) {                        \
            const uint64_t t = (a[i] >> (J) ^ a[i + (J)]) & (LOW); \
            a[i] ^= t << (J);                                      \
            a[i + (J)] ^= t;                                       \
        }
static void FN(transpose_bits)(uint64_t *restrict a){
    TRANSPOSE_ROUND_(32, 0x00000000FFFFFFFFu) TRANSPOSE_ROUND_(16, 0x0000FFFF0000FFFFu)
        TRANSPOSE_ROUND_(8, 0x00FF00FF00FF00FFu) TRANSPOSE_ROUND_(4, 0x0F0F0F0F0F0F0F0Fu)
            TRANSPOSE_ROUND_(2, 0x3333333333333333u) TRANSPOSE_ROUND_(1, 0x5555555555555555u)}
#undef TRANSPOSE_ROUND_

/* Rows of a block: a panel of them stays in the first-level cache, beside what is read of x. */
FNN_INLINE ptrdiff_t FN(zeros_block)(ptrdiff_t n, int height)
{
    const ptrdiff_t width = (FN(zeros_width)(n, 0, height) + LANES - 1) / LANES * LANES;
    const ptrdiff_t rows = ZEROS_PANEL_BYTES / (ptrdiff_t)sizeof(REAL) / width / 64 * 64;
    return rows > ZEROS_MOST_ROWS ? ZEROS_MOST_ROWS : rows;
}

void FN(zeros_transpose_lists)(ptrdiff_t rows, ptrdiff_t n, ptrdiff_t k, int height, int apart, const uint64_t *bits,
                               int32_t *starts, int32_t *list)
{
    const ptrdiff_t words = (k + 63) / 64, block = FN(zeros_block)(n, height);
    uint64_t square[ZEROS_MOST_ROWS];
    ptrdiff_t t = 0, listed = 0;
    for (ptrdiff_t from = 0; from == 0 || from < rows; from += block) {
        const ptrdiff_t high = rows - from < block ? rows - from : block;
        for (ptrdiff_t w = 0; w < words; w++) {
            for (ptrdiff_t i = 0; i < high; i++) {
                uint64_t any = bits[(from + i) * words + w];
                any |= any >> apart;
                square[i] = height == 4 ? any | any >> 2 * apart : any;
            }
            for (ptrdiff_t i = high; i % 64; i++)
                square[i] = 0;
            for (ptrdiff_t i = 0; i < high; i += 64)
                FN(transpose_bits)(square + i);
            const ptrdiff_t end = k - 64 * w < 64 ? k - 64 * w : 64;
            for (ptrdiff_t first = 0; first < end; first += height * apart)
                for (ptrdiff_t j = first; j < first + apart && j < end; j++) {
                    starts[t++] = (int32_t)listed;
                    for (ptrdiff_t i = 0; i < high; i += 64)
                        listed += FN(list_bits)(square[i + j], (int32_t)i, list + listed);
                }
        }
    }
    starts[t] = (int32_t)listed;
}

void FN(zeros_gradient)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t rows, ptrdiff_t k, const REAL *const *x, ptrdiff_t at,
                        int height, int apart, const int32_t *starts, const int32_t *list, const REAL *delta,
                        ptrdiff_t row, int accumulate, REAL *pack, REAL *c)
{
    const ptrdiff_t group = (ptrdiff_t)height * apart, block = FN(zeros_block)(n, height);
    const ptrdiff_t tiles = fnn_zeros_tiles(k, height, apart);
    for (ptrdiff_t jc = 0, cols; jc < n; jc += cols) {
        cols = FN(zeros_width)(n, jc, height);
        const FN(zeros_panel) tile = FN(zeros_transposed)[(cols - 1) / LANES];
        const int32_t *block_starts = starts + at / height;
        for (ptrdiff_t from = 0; from == 0 || from < rows; from += block, block_starts += tiles) {
            const ptrdiff_t high = rows - from < block ? rows - from : block;
            const int32_t *place = block_starts;
            const FN(ends) ends = {.accumulate = accumulate || from > 0};
            const FN(tile_b) panel = FN(zeros_pack)(1, high, n, cols, delta + from * row + jc, row, pack);
            for (ptrdiff_t first = 0; first < m; first += group)
                for (ptrdiff_t i = first; i < first + apart && i < m; i++, place++) {
                    const ptrdiff_t left = (m - i + apart - 1) / apart;
                    const FN(tile_a) A = {x + from, at + i, apart, x + from, 0};
                    tile(left < height ? left : height, place[1] - place[0], list + place[0], &A, &panel, &ends,
                         c + i * n + jc, apart * n);
                }
        }
    }
}

#undef ZEROS_TILE_
#undef ZEROS_CASE_4
#undef ZEROS_CASE_2
#undef ZEROS_WHOLE_4
#undef ZEROS_WHOLE_2
#undef ZEROS_PANEL
#undef ZEROS_PANELS
#undef ZEROS_TABLE
