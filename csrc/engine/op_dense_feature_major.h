/* Dense by feature: a chunk of a narrow network is kept transposed, (width, rows), so that vectors run over the samples
 * and are full however few the outputs.
 *
 *     zᵀ = Wᵀ xᵀ + b 1ᵀ,   ∂ℓ/∂xᵀ = W δᵀ,   ∂ℓ/∂W = xᵀ δ by inner products
 * x (n_in, rows) has a row of ones behind it, for b. own.out_rows: pointers to the rows of W, and to b.
 */

static void FN(dense_feature_major_forward)(const FN(view) * v)
{
    const fnn_op *op = v->op;
    REAL *z = v->own->pre ? v->own->pre : v->out, *pack = v->memory->pack;
    const ptrdiff_t n_in = op->n_in + (op->bias >= 0), rows = v->rows;
    const REAL *const *w = v->own->out_rows;
    if (op->activation == FNN_RELU) {
        KERNELS(v->job)->gemm_relu(op->n_out, rows, n_in, w, 1, v->x, rows, 1, NULL, NULL, pack, z, rows, NULL);
        return;
    }
    KERNELS(v->job)->gemm(op->n_out, rows, n_in, w, 0, 1, v->x, rows, 1, NULL, 0, pack, z, rows);
    if (op->activation != FNN_LINEAR)
        KERNELS(v->job)->activation_forward(op->activation, op->negative_slope, rows * op->n_out, z, v->out);
}

static void FN(dense_feature_major_backward)(const FN(view) * v)
{
    const fnn_op *op = v->op;
    REAL *delta = v->own->delta, *pack = v->memory->pack, *gradient = v->gradient;
    const ptrdiff_t rows = v->rows;
    const REAL *const *w = v->own->out_rows;
    if (op->activation != FNN_LINEAR && !op->gated)
        KERNELS(v->job)->activation_backward(op->activation, op->negative_slope, rows * op->n_out,
                                             v->own->pre ? v->own->pre : v->own->out, delta);
    if (v->dx && v->source->gated)
        KERNELS(v->job)->gemm_relu(op->n_in, rows, op->n_out, w, 0, delta, rows, 1, NULL, v->x, pack, v->dx, rows,
                                   NULL);
    else if (v->dx)
        KERNELS(v->job)->gemm(op->n_in, rows, op->n_out, w, 0, 0, delta, rows, 1, NULL, 0, pack, v->dx, rows);
    KERNELS(v->job)->inner_products(op->n_in, op->n_out, rows, v->x, delta, v->accumulate || op->shared_weight,
                                    gradient + op->weight, op->bias >= 0 ? gradient + op->bias : NULL);
    if (!v->step)
        return;
    if (op->bias >= 0)
        FN(update)(v->job, 0, v->step, NULL, op->lr_multiplier, op->bias, op->n_out, gradient + op->bias);
    FN(update)(v->job, 0, v->step, &op->penalties, op->lr_multiplier, op->weight, op->n_in * op->n_out,
               gradient + op->weight);
}
