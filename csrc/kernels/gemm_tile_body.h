/* A register tile of C: MR x (NV * LANES) elements that are held in registers while k runs. A row of B is NV vectors,
 * an element of A is broadcast.
 */
#define GEMM_NV FNN_GEMM_VECTORS
#if GEMM_NV == 4
#define GEMM_MR 6 /* 24 accumulators, 4 of B, 1 of A: 29 of 32 registers */
#define GEMM_MR3 8
#define GEMM_MR2 12
#define GEMM_MR1 12
#else
#define GEMM_MR2 6 /* 12 accumulators, 2 of B, 1 of A: 15 of 16 registers */
#define GEMM_MR1 6
#endif
#define GEMM_WIDEST (2 * GEMM_NV) /* vectors of a tile two rows high, in gemm_sparse_body.h */
#define GEMM_MOST_ROWS 12
_Static_assert(GEMM_MR1 <= GEMM_MOST_ROWS && GEMM_MR2 <= GEMM_MR1, "accumulators for the highest tile");
_Static_assert(GEMM_MOST_ROWS == 12, "loops over a tile's rows are unrolled 12 times");
_Static_assert(GEMM_WIDEST <= 8, "loops over a tile's vectors are unrolled 8 times");

/* What a tile reads of op(A): element (i, p) is rows[i][at + p], or of a transposed A rows[p][at + i * apart]. */
typedef struct {
    const REAL *const *rows;
    ptrdiff_t at;    /* the first column of A */
    ptrdiff_t apart; /* distance of the columns of A that are the tile's rows, where A is transposed */
    /* Rows of a data set are scattered: those of the next tile are prefetched. `next` are these rows, of which the
     * elements from `next_at` on are fetched, as many as there are k; with a list the first `next_at` of the columns
     * from `at` on. */
    const REAL *const *next;
    ptrdiff_t next_at;
} FN(tile_a);

/* What a tile reads of B: NV vectors of each row, of the last of them `last` elements. */
typedef struct {
    const REAL *rows;
    ptrdiff_t ld;    /* elements from one row to the next */
    ptrdiff_t whole; /* rows before this one may be read up to a whole vector */
    int last;
} FN(tile_b);

/* What C starts from, and what is done to it at the end. */
typedef struct {
    const REAL *bias; /* of the panel; NULL: 0 */
    int accumulate;   /* starts from C itself */
    int rectify;      /* C = relu(C), or, with a gate, 0 wherever that is not above 0 */
    const REAL *gate; /* with as many columns as C, and rows `gate_row` apart */
    ptrdiff_t gate_row;
    int filled; /* the last vector is stored whole; with a gate its elements beyond C's columns are 0 */
    REAL *sums; /* grows by the sums of C's columns at the end, unless NULL */
} FN(ends);

FNN_INLINE FN(ends) FN(ends_at)(const FN(ends) * ends, ptrdiff_t row)
{
    FN(ends) at = *ends;
    if (at.gate)
        at.gate += row * at.gate_row;
    return at;
}

/* Vector j of nv at p, which the row ends in with `last` elements. */
FNN_INLINE VEC FN(tile_load)(const int j, const int nv, int last, const REAL *p)
{
    return j == nv - 1 && last < LANES ? FN(v_load_n)(p + j * LANES, last) : FN(v_load)(p + j * LANES);
}

FNN_INLINE void FN(tile_start)(const int mr, const int nv, const FN(ends) ends, const REAL *c, ptrdiff_t ldc, int last,
                               VEC acc[][GEMM_WIDEST])
{
    if (ends.accumulate) {
#pragma GCC unroll 12
        for (int i = 0; i < mr; i++) {
#pragma GCC unroll 8
            for (int j = 0; j < nv; j++)
                acc[i][j] = FN(tile_load)(j, nv, last, c + i * ldc);
        }
        return;
    }
    VEC start[GEMM_WIDEST];
#pragma GCC unroll 8
    for (int j = 0; j < nv; j++)
        start[j] = ends.bias ? FN(tile_load)(j, nv, last, ends.bias) : FN(v_zero)();
#pragma GCC unroll 12
    for (int i = 0; i < mr; i++) {
#pragma GCC unroll 8
        for (int j = 0; j < nv; j++)
            acc[i][j] = start[j];
    }
}

/* relu or the gate, and the sums of the columns. */
FNN_INLINE void FN(tile_rectify)(const int mr, const int nv, const FN(ends) ends, int last, VEC acc[][GEMM_WIDEST])
{
#pragma GCC unroll 12
    for (int i = 0; i < mr; i++) {
#pragma GCC unroll 8
        for (int j = 0; j < nv; j++) {
            VEC gate = acc[i][j];
            if (ends.gate)
                gate = FN(tile_load)(j, nv, last, ends.gate + i * ends.gate_row);
            acc[i][j] = ends.gate ? FN(v_where_positive)(gate, acc[i][j]) : FN(v_relu)(gate);
        }
    }
    if (ends.sums) {
#pragma GCC unroll 8
        for (int j = 0; j < nv; j++) {
            VEC sum = acc[0][j];
#pragma GCC unroll 12
            for (int i = 1; i < mr; i++)
                sum = sum + acc[i][j];
            if (j == nv - 1 && last < LANES)
                FN(v_store_n)(ends.sums + j * LANES, sum + FN(v_load_n)(ends.sums + j * LANES, last), last);
            else
                FN(v_store)(ends.sums + j * LANES, sum + FN(v_load)(ends.sums + j * LANES));
        }
    }
}

/* The tile of C (mr, nv vectors; rows `ldc` apart) = start + op(A) B, and its end. `transpose`: op(A) = Aᵀ. The sum is
 * over p = 0 ... k - 1 or, if `listed`, over the k numbers p in `list`. mr, nv, transpose and listed are constants. */
FNN_INLINE void FN(gemm_tile)(const int mr, const int nv, const int transpose, const int listed, ptrdiff_t k,
                              const int32_t *restrict list, const FN(tile_a) A, const FN(tile_b) B, const FN(ends) ends,
                              REAL *restrict c, ptrdiff_t ldc)
{
    enum { LINE = 64 / (int)sizeof(REAL) };
    const REAL *restrict b = B.rows;
    const REAL *row_of_a[GEMM_MOST_ROWS];
    if (!transpose) {
#pragma GCC unroll 12
        for (int i = 0; i < mr; i++)
            row_of_a[i] = A.rows[i] + A.at;
    }
    VEC acc[GEMM_MOST_ROWS][GEMM_WIDEST];
    FN(tile_start)(mr, nv, ends, c, ldc, B.last, acc);
    for (ptrdiff_t q = 0; q < k; q++) {
        const ptrdiff_t p = listed ? list[q] : q;
        if (!listed && !transpose && nv == GEMM_NV && q % LINE == 0)
#pragma GCC unroll 12
            for (int i = 0; i < mr; i++)
                FNN_PREFETCH(A.next[i] + A.next_at + q);
        if (listed && !transpose && q / mr * LINE < A.next_at)
            FNN_PREFETCH(A.next[q % mr] + A.at + q / mr * LINE);
        VEC row[GEMM_WIDEST];
        const REAL *column_of_a = transpose ? A.rows[p] + A.at : NULL;
        const REAL *row_of_b = listed ? b + p * B.ld : b;
#pragma GCC unroll 8
        for (int j = 0; j < nv; j++)
            row[j] = j == nv - 1 && p >= B.whole ? FN(v_load_n)(row_of_b + j * LANES, B.last)
                                                 : FN(v_load)(row_of_b + j * LANES);
#pragma GCC unroll 12
        for (int i = 0; i < mr; i++) {
            VEC x = FN(v_set1)(transpose ? column_of_a[i * A.apart] : row_of_a[i][p]);
#pragma GCC unroll 8
            for (int j = 0; j < nv; j++)
                acc[i][j] = FN(v_fma)(x, row[j], acc[i][j]);
        }
        if (!listed)
            b += B.ld;
    }
    if (ends.rectify)
        FN(tile_rectify)(mr, nv, ends, B.last, acc);
#pragma GCC unroll 12
    for (int i = 0; i < mr; i++) {
#pragma GCC unroll 8
        for (int j = 0; j < nv; j++) {
            if (j == nv - 1 && B.last < LANES && !ends.filled)
                FN(v_store_n)(c + i * ldc + j * LANES, acc[i][j], B.last);
            else
                FN(v_store)(c + i * ldc + j * LANES, acc[i][j]);
        }
    }
}

/* All m rows of one panel, tile by tile. After the last tile comes the first one, at the next k. */
#define GEMM_ROWS_(MR, NV, T)                                                               \
    {                                                                                       \
        const int more = m >= 2 * (MR);                                                     \
        const FN(tile_a) A = {a, at, 1, more ? a + (MR) : first, more ? at : at + k};       \
        FN(gemm_tile)(MR, NV, T, 0, k, NULL, A, B, FN(ends_at)(ends, i), c + i * ldc, ldc); \
        m -= MR, a += T ? 0 : MR, at += T ? MR : 0, i += MR;                                \
    }
#define GEMM_PANEL_(NAME, NV, MR, T)                                                                             \
    static void FN(NAME)(ptrdiff_t m, ptrdiff_t k, const REAL *const *a, ptrdiff_t at, const FN(tile_b) * panel, \
                         const FN(ends) * ends, REAL * c, ptrdiff_t ldc)                                         \
    {                                                                                                            \
        ptrdiff_t i = 0;                                                                                         \
        const REAL *const *const first = a;                                                                      \
        const FN(tile_b) B = *panel;                                                                             \
        while (m >= MR)                                                                                          \
            GEMM_ROWS_(MR, NV, T)                                                                                \
        while (m >= 4)                                                                                           \
            GEMM_ROWS_(4, NV, T)                                                                                 \
        if (m >= 2)                                                                                              \
            GEMM_ROWS_(2, NV, T)                                                                                 \
        if (m)                                                                                                   \
            GEMM_ROWS_(1, NV, T)                                                                                 \
    }
#define GEMM_PANEL(NV, MR)                 \
    GEMM_PANEL_(gemm_panel##NV, NV, MR, 0) \
    GEMM_PANEL_(gemm_panel##NV##_transposed, NV, MR, 1)
#if GEMM_NV == 4
GEMM_PANEL(4, GEMM_MR)
GEMM_PANEL(3, GEMM_MR3)
#endif
GEMM_PANEL(2, GEMM_MR2)
GEMM_PANEL(1, GEMM_MR1)
