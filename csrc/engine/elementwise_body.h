/* Activation, dropout and standardisation as ops of their own. All read and write whole rows of a chunk, and their
 * deltas share the buffer of their input's delta, so that backward works in place. */

static void FN(activate_forward)(const JOB *job, const fnn_op *op, ptrdiff_t rows, const REAL *x, REAL *pre, REAL *out)
{
    if (pre)
        memcpy(pre, x, (size_t)(rows * op->n_out) * sizeof(REAL));
    job->kernels->activation_forward(op->activation, rows * op->n_out, x, out);
}

static void FN(activate_backward)(const JOB *job, const fnn_op *op, ptrdiff_t rows, const REAL *pre, const REAL *out,
                                  REAL *delta)
{
    job->kernels->activation_backward(op->activation, rows * op->n_out, pre ? pre : out, delta);
}

/* Forward and backward of dropout are the same map; the mask depends on the row's place in the batch and the number of
 * the update, not on who computes it. Outside of training it is the identity. */
static void FN(dropout_apply)(const JOB *job, const fnn_op *op, int layer, ptrdiff_t rows, ptrdiff_t first_row,
                              int64_t number, int dropping, const REAL *x, REAL *out)
{
    if (dropping)
        job->kernels->dropout(rows, op->n_out, (uint64_t)job->statistics[op->state], (uint64_t)number, layer, first_row,
                              op->drop, x, out);
    else if (x != out)
        memcpy(out, x, (size_t)(rows * op->n_out) * sizeof(REAL));
}

/* out = (x − mean) / scale, with what was learnt from the training data. It is the first op: training asks nobody for
 * its input's delta. */
static void FN(standardize_forward)(const JOB *job, const fnn_op *op, ptrdiff_t rows, const REAL *x, REAL *out)
{
    const REAL *mean = job->statistics + op->state, *inverse = mean + op->n_out;
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t j = 0; j < op->n_out; j++)
            out[i * op->n_out + j] = (x[i * op->n_out + j] - mean[j]) * inverse[j];
}

/* Deltas and tangents alike: the map is linear, and diagonal. */
static void FN(standardize_backward)(const JOB *job, const fnn_op *op, ptrdiff_t rows, const REAL *delta, REAL *dx)
{
    const REAL *inverse = job->statistics + op->state + op->n_out;
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t j = 0; j < op->n_out; j++)
            dx[i * op->n_out + j] = delta[i * op->n_out + j] * inverse[j];
}
