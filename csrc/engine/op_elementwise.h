/* Activation, dropout, standardisation and scale as ops of their own. All read and write whole rows of a chunk, and
 * their deltas share the buffer of their input's delta, so that backward works in place. */

/* -- activation: a = σ(z), ∂ℓ/∂z = σ'(z) ⊙ ∂ℓ/∂a, ȧ = σ' ż ----------------------------------------------------------
 */

static int FN(activation_forward)(const FN(view) * v)
{
    const ptrdiff_t n = v->rows * v->op->n_out;
    if (v->own->pre)
        FN(copy)(n, v->x, v->own->pre);
    KERNELS(v->job)->activation_forward(v->op->activation, v->op->negative_slope, n, v->x, v->out);
    return 0;
}

static int FN(activation_backward)(const FN(view) * v)
{
    KERNELS(v->job)->activation_backward(v->op->activation, v->op->negative_slope, v->rows * v->op->n_out,
                                         v->own->pre ? v->own->pre : v->own->out, v->own->delta);
    return 0;
}

static int FN(activation_linearize)(const FN(linear_view) * v)
{
    if (v->slope)
        KERNELS(v->job)->activation_derivatives(v->op->activation, v->op->negative_slope, v->n, v->x, v->out, v->slope,
                                                v->bend ? v->bend : v->memory->scratch);
    else
        FN(copy)(v->n, v->x, v->out);
    return 0;
}

static int FN(activation_linearize_backward)(const FN(linear_view) * v)
{
    if (v->slope)
        KERNELS(v->job)->activation_linearize(v->n, v->slope, v->bend, v->delta);
    if (v->dx)
        FN(copy)(v->n, v->delta, v->dx);
    return 0;
}

static int FN(activation_jvp)(const FN(linear_view) * v)
{
    if (v->own->tangent_pre)
        FN(copy)(v->n, v->tangent_x, v->own->tangent_pre);
    if (v->slope)
        KERNELS(v->job)->activation_tangent(v->n, v->slope, v->tangent_x, v->own->tangent_out);
    else
        FN(copy)(v->n, v->tangent_x, v->own->tangent_out);
    return 0;
}

static int FN(activation_jvp_of_vjp)(const FN(linear_view) * v)
{
    FN(activation_delta_tangent)(v);
    if (v->tangent_dx)
        FN(copy)(v->n, v->own->tangent_delta, v->tangent_dx);
    return 0;
}

/* -- dropout --------------------------------------------------------------------------------------------------------
 */

/* Forward and backward are the same map; the mask depends on the row's place in the batch and the number of the update,
 * not on the worker. Outside of training, and in linearizations, it is the identity. */
static void FN(dropout_apply)(const FN(view) * v, const REAL *x, REAL *out)
{
    const fnn_op *op = v->op;
    if (v->position->dropping)
        KERNELS(v->job)->dropout(v->rows, op->n_out, (uint64_t)((const REAL *)v->job->buffers)[op->buffer],
                                 (uint64_t)v->position->number, v->i, v->position->first_row, op->dropout_rate, x, out);
    else
        FN(copy)(v->rows * op->n_out, x, out);
}

static int FN(dropout_forward)(const FN(view) * v)
{
    FN(dropout_apply)(v, v->x, v->out);
    return 0;
}

static int FN(dropout_backward)(const FN(view) * v)
{
    FN(dropout_apply)(v, v->own->delta, v->own->delta);
    return 0;
}

/* Shares its input's places, unless that is x. */
static int FN(dropout_linearize)(const FN(linear_view) * v)
{
    if (v->op->input < 0)
        FN(copy)(v->n, v->x, v->out);
    return 0;
}

static int FN(dropout_linearize_backward)(const FN(linear_view) * v)
{
    if (v->dx)
        FN(copy)(v->n, v->delta, v->dx);
    return 0;
}

static int FN(dropout_jvp)(const FN(linear_view) * v)
{
    FN(copy)(v->n, v->tangent_x, v->own->tangent_out);
    return 0;
}

static int FN(dropout_jvp_of_vjp)(const FN(linear_view) * v)
{
    if (v->tangent_dx)
        FN(copy)(v->n, v->own->tangent_delta, v->tangent_dx);
    return 0;
}

/* -- standardisation: out = (x − mean) / scale, with statistics of the training data ---------------------------------
 */

static void FN(standardize)(const fnn_job *job, const fnn_op *op, ptrdiff_t rows, const REAL *x, REAL *out)
{
    const REAL *mean = (const REAL *)job->buffers + op->buffer, *inverse = mean + op->n_out;
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t j = 0; j < op->n_out; j++)
            out[i * op->n_out + j] = (x[i * op->n_out + j] - mean[j]) * inverse[j];
}

/* out = x ⊙ factor, a factor per feature; in place allowed */
static void FN(times)(ptrdiff_t rows, ptrdiff_t cols, const REAL *x, const REAL *factor, REAL *out)
{
    for (ptrdiff_t i = 0; i < rows; i++) {
        FNN_INDEPENDENT
        for (ptrdiff_t j = 0; j < cols; j++)
            out[i * cols + j] = x[i * cols + j] * factor[j];
    }
}

/* Of deltas and tangents alike: the map is linear, and diagonal. */
static void FN(unscale)(const FN(linear_view) * v, const REAL *x, REAL *out)
{
    FN(times)(v->rows, v->op->n_out, x, (const REAL *)v->job->buffers + v->op->buffer + v->op->n_out, out);
}

static int FN(standardize_forward)(const FN(view) * v)
{
    FN(standardize)(v->job, v->op, v->rows, v->x, v->out);
    return 0;
}

/* It is the first op: training has no use for its input's delta. */
static int FN(standardize_backward)(const FN(view) * v)
{
    (void)v;
    return 0;
}

static int FN(standardize_linearize)(const FN(linear_view) * v)
{
    FN(standardize)(v->job, v->op, v->rows, v->x, v->out);
    return 0;
}

static int FN(standardize_linearize_backward)(const FN(linear_view) * v)
{
    if (v->dx)
        FN(unscale)(v, v->delta, v->dx);
    return 0;
}

static int FN(standardize_jvp)(const FN(linear_view) * v)
{
    FN(unscale)(v, v->tangent_x, v->own->tangent_out);
    return 0;
}

static int FN(standardize_jvp_of_vjp)(const FN(linear_view) * v)
{
    if (v->tangent_dx)
        FN(unscale)(v, v->own->tangent_delta, v->tangent_dx);
    return 0;
}

/* -- scale: out = s ⊙ x with a parameter s per feature ---------------------------------------------------------------
 *
 *     ∂ℓ/∂s = Σ_rows x ⊙ g,   ∂ℓ/∂x = s ⊙ g                       with g = ∂ℓ/∂out
 *     ȧ = s ⊙ ẋ + ṡ ⊙ x,      ∂ℓ̇/∂s = Σ_rows x ⊙ ġ + ẋ ⊙ g,       ∂ℓ̇/∂x = s ⊙ ġ + ṡ ⊙ g
 */

/* out += x ⊙ factor */
static void FN(add_times)(ptrdiff_t rows, ptrdiff_t cols, const REAL *x, const REAL *factor, REAL *out)
{
    for (ptrdiff_t i = 0; i < rows; i++) {
        FNN_INDEPENDENT
        for (ptrdiff_t j = 0; j < cols; j++)
            out[i * cols + j] += x[i * cols + j] * factor[j];
    }
}

/* sums[j] += Σ_i x[i, j] g[i, j] */
static void FN(add_products)(ptrdiff_t rows, ptrdiff_t cols, const REAL *x, const REAL *g, REAL *sums)
{
    for (ptrdiff_t i = 0; i < rows; i++) {
        FNN_INDEPENDENT
        for (ptrdiff_t j = 0; j < cols; j++)
            sums[j] += x[i * cols + j] * g[i * cols + j];
    }
}

static int FN(scale_forward)(const FN(view) * v)
{
    FN(times)(v->rows, v->op->n_out, v->x, (const REAL *)v->job->theta + v->op->weight, v->out);
    return 0;
}

static int FN(scale_backward)(const FN(view) * v)
{
    const fnn_op *op = v->op;
    REAL *gradient = v->gradient + op->weight, *delta = v->own->delta;
    if (!v->accumulate)
        FN(clear)(op->n_out, gradient);
    FN(add_products)(v->rows, op->n_out, v->x, delta, gradient);
    if (v->source)
        FN(times)(v->rows, op->n_out, delta, (const REAL *)v->job->theta + op->weight, delta);
    if (v->step)
        FN(update)(v->job, 0, v->step, NULL, op->lr_multiplier, op->weight, op->n_out, gradient);
    return 0;
}

static int FN(scale_linearize)(const FN(linear_view) * v)
{
    FN(times)(v->rows, v->op->n_out, v->x, (const REAL *)v->job->theta + v->op->weight, v->out);
    return 0;
}

static int FN(scale_linearize_backward)(const FN(linear_view) * v)
{
    if (v->dx)
        FN(times)(v->rows, v->op->n_out, v->delta, (const REAL *)v->job->theta + v->op->weight, v->dx);
    return 0;
}

static int FN(scale_jvp)(const FN(linear_view) * v)
{
    const ptrdiff_t c = v->op->n_out, at = v->op->weight;
    FN(times)(v->rows, c, v->tangent_x, (const REAL *)v->job->theta + at, v->own->tangent_out);
    if (v->v)
        FN(add_times)(v->rows, c, v->x, v->v + at, v->own->tangent_out);
    return 0;
}

static int FN(scale_jvp_of_vjp)(const FN(linear_view) * v)
{
    const ptrdiff_t c = v->op->n_out, at = v->op->weight;
    const REAL *tdelta = v->own->tangent_delta;
    if (v->result) {
        if (!v->accumulate)
            FN(clear)(c, v->result + at);
        FN(add_products)(v->rows, c, v->x, tdelta, v->result + at);
        if (v->second_order && v->tangent_x)
            FN(add_products)(v->rows, c, v->tangent_x, v->delta, v->result + at);
    }
    if (v->tangent_dx) {
        FN(times)(v->rows, c, tdelta, (const REAL *)v->job->theta + at, v->tangent_dx);
        if (v->second_order && v->v)
            FN(add_times)(v->rows, c, v->delta, v->v + at, v->tangent_dx);
    }
    return 0;
}
