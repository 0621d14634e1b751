/* Panels of B: how wide they are, and their copies. */
/* panel (k, width) = B[:k, :cols], zero beyond cols */
static void FN(gemm_pack)(ptrdiff_t k, ptrdiff_t cols, ptrdiff_t width, const REAL *restrict b, ptrdiff_t brs,
                          ptrdiff_t bcs, REAL *restrict panel)
{
    if (bcs == 1) {
        for (ptrdiff_t p = 0; p < k; p++) {
            const REAL *src = b + p * brs;
            REAL *dst = panel + p * width;
            ptrdiff_t j = 0;
            for (; j + LANES <= cols; j += LANES)
                FN(v_store)(dst + j, FN(v_load)(src + j));
            if (j < cols)
                FN(v_store)(dst + j, FN(v_load_n)(src + j, (int)(cols - j)));
        }
        return;
    }
    /* brs == 1: columns of the panel are rows of b */
    for (ptrdiff_t j = 0; j < width; j += LANES) {
        for (ptrdiff_t p = 0; p < k; p += LANES) {
            const int n = k - p < LANES ? (int)(k - p) : LANES;
            VEC block[LANES];
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++) {
                const REAL *src = b + (j + i) * bcs + p;
                block[i] = j + i >= cols ? FN(v_zero)() : n < LANES ? FN(v_load_n)(src, n) : FN(v_load)(src);
            }
            FN(v_transpose)(block);
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++)
                if (i < n)
                    FN(v_store)(panel + (p + i) * width + j, block[i]);
        }
    }
}

/* Columns of the panel of b from column jc on: those that are left, shared out evenly among as few as hold them. */
FNN_INLINE ptrdiff_t FN(gemm_width)(ptrdiff_t n, ptrdiff_t jc, ptrdiff_t widest)
{
    const ptrdiff_t vectors = (n - jc + LANES - 1) / LANES, panels = (vectors + widest - 1) / widest;
    const ptrdiff_t width = (vectors + panels - 1) / panels * LANES;
    return n - jc < width ? n - jc : width;
}
