/* Transposes of rows that lie anywhere. */
/* out[j, i] = x[i, j] for a block of up to LANES rows, and of up to four columns or LANES. */
FNN_INLINE void FN(transpose_block)(const int most, int height, int width, const REAL *const *x, ptrdiff_t j,
                                    REAL *restrict out, ptrdiff_t ldo)
{
    VEC block[LANES];
#pragma GCC unroll 16
    for (int s = 0; s < LANES; s++)
        block[s] = s >= height ? FN(v_zero)() : width < LANES ? FN(v_load_n)(x[s] + j, width) : FN(v_load)(x[s] + j);
    if (most < LANES)
        FN(v_transpose4)(block);
    else
        FN(v_transpose)(block);
#pragma GCC unroll 16
    for (int t = 0; t < most; t++) {
        if (t >= width)
            break;
        if (height < LANES)
            FN(v_store_n)(out + t * ldo, block[t], height);
        else
            FN(v_store)(out + t * ldo, block[t]);
    }
}

void FN(transpose)(ptrdiff_t rows, ptrdiff_t cols, const REAL *const *x, REAL *restrict out)
{
    enum { FEW = LANES < 4 ? LANES : 4 };
    for (ptrdiff_t i = 0; i < rows; i += LANES) {
        const int height = rows - i < LANES ? (int)(rows - i) : LANES;
        for (ptrdiff_t j = 0; j < cols; j += LANES) {
            const int width = cols - j < LANES ? (int)(cols - j) : LANES;
            REAL *to = out + j * rows + i;
            if (width > FEW)
                FN(transpose_block)(LANES, height, width, x + i, j, to, rows);
            else if (height < LANES)
                FN(transpose_block)(FEW, height, width, x + i, j, to, rows);
            else
                FN(transpose_block)(FEW, LANES, width, x + i, j, to, rows);
        }
    }
}
