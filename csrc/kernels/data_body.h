/* Rows on their way into a batch: gathered, converted and scaled in one pass. */

/* Shuffled rows come from memory, and the hardware sees no pattern from one to the next: the lines of the row after
 * next are asked for while this one is copied. */
#define GATHER_(TYPE, NAME)                                                                                          \
    static void FN(gather_##NAME)(ptrdiff_t rows, ptrdiff_t cols, const TYPE *x, const int64_t *index, double scale, \
                                  REAL *restrict out)                                                                \
    {                                                                                                                \
        const ptrdiff_t line = 64 / (ptrdiff_t)sizeof(TYPE);                                                         \
        const REAL s = (REAL)scale;                                                                                  \
        for (ptrdiff_t i = 0; i < rows; i++) {                                                                       \
            const TYPE *restrict row = x + (index ? index[i] : i) * cols;                                            \
            const TYPE *next = x + (index && i + 2 < rows ? index[i + 2] : index ? index[i] : i) * cols;             \
            if (index && cols >= 2 * line)                                                                           \
                for (ptrdiff_t j = 0; j < cols; j += line)                                                           \
                    FNN_PREFETCH(next + j);                                                                          \
            if (scale == 1)                                                                                          \
                for (ptrdiff_t j = 0; j < cols; j++)                                                                 \
                    out[j] = (REAL)row[j];                                                                           \
            else                                                                                                     \
                for (ptrdiff_t j = 0; j < cols; j++)                                                                 \
                    out[j] = s * (REAL)row[j];                                                                       \
            out += cols;                                                                                             \
        }                                                                                                            \
    }
GATHER_(float, float)
GATHER_(double, double)
GATHER_(uint8_t, uint8)

void FN(gather_rows)(ptrdiff_t rows, ptrdiff_t cols, int type, const void *x, const int64_t *index, double scale,
                     REAL *out)
{
    if (type == FNN_SOURCE_F32)
        FN(gather_float)(rows, cols, (const float *)x, index, scale, out);
    else if (type == FNN_SOURCE_F64)
        FN(gather_double)(rows, cols, (const double *)x, index, scale, out);
    else
        FN(gather_uint8)(rows, cols, (const uint8_t *)x, index, scale, out);
}

/* Rows of a sparse matrix, made dense. */
#define GATHER_CSR_(TYPE, NAME)                                                                                       \
    static void FN(gather_csr_##NAME)(ptrdiff_t rows, ptrdiff_t cols, const TYPE *x, const int64_t *indptr,           \
                                      const int32_t *columns, const int64_t *index, double scale, REAL *restrict out) \
    {                                                                                                                 \
        const REAL s = (REAL)scale;                                                                                   \
        for (ptrdiff_t i = 0; i < rows; i++) {                                                                        \
            const ptrdiff_t row = (ptrdiff_t)(index ? index[i] : i);                                                  \
            memset(out, 0, (size_t)cols * sizeof(REAL));                                                              \
            for (int64_t k = indptr[row]; k < indptr[row + 1]; k++)                                                   \
                out[columns[k]] = s * (REAL)x[k];                                                                     \
            out += cols;                                                                                              \
        }                                                                                                             \
    }
GATHER_CSR_(float, float)
GATHER_CSR_(double, double)
GATHER_CSR_(uint8_t, uint8)

void FN(gather_csr)(ptrdiff_t rows, ptrdiff_t cols, int type, const void *x, const int64_t *indptr,
                    const int32_t *columns, const int64_t *index, double scale, REAL *out)
{
    if (type == FNN_SOURCE_F32)
        FN(gather_csr_float)(rows, cols, (const float *)x, indptr, columns, index, scale, out);
    else if (type == FNN_SOURCE_F64)
        FN(gather_csr_double)(rows, cols, (const double *)x, indptr, columns, index, scale, out);
    else
        FN(gather_csr_uint8)(rows, cols, (const uint8_t *)x, indptr, columns, index, scale, out);
}

#undef GATHER_
#undef GATHER_CSR_

/* 0 x is 0 for whatever is finite, and NaN for the rest. */
int FN(all_finite)(ptrdiff_t n, const REAL *x)
{
    enum { PARTS = 64 }; /* so many partial sums that no addition waits for the last one */
    REAL part[PARTS] = {0}, sum = 0;
    ptrdiff_t i = 0;
    for (; i + PARTS <= n; i += PARTS)
        for (int t = 0; t < PARTS; t++)
            part[t] += 0 * x[i + t];
    for (; i < n; i++)
        sum += 0 * x[i];
    for (int t = 0; t < PARTS; t++)
        sum += part[t];
    return sum == 0;
}
