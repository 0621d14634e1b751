/* What the ops' passes are given. An op has six passes, each for the rows of one chunk; 1 is returned when told to
 * stop:
 *
 *     forward             out from x
 *     backward            ∂ℓ/∂z from ∂ℓ/∂out in delta, ∂ℓ/∂x in dx, and adds to the gradient; a chunk that is a whole
 *                         batch may bring a step, and the op then updates its parameters
 *     linearize           forward for all rows at once, which saves what derivatives of the gradient need
 *     linearize_backward  ∂ℓ/∂x from ∂ℓ/∂z in delta; no gradient
 *     jvp                 the tangent of out from that of x, in the direction v of θ
 *     jvp_of_vjp          the tangents of ∂ℓ/∂x and of the gradient from that of delta: a Hessian-vector product
 *
 * Rows of a chunk of x may lie anywhere in a data set: products read tables of row pointers. Outputs of ops follow each
 * other, so that other ops read from the first row on.
 */

/* Of forward and backward. */
typedef struct {
    fnn_job *job;
    const FN(memory) * memory;
    const FN(position) * position;
    const fnn_op *op, *source; /* the op whose output it reads; NULL: the data */
    int i;                     /* its place in the plan */
    ptrdiff_t rows;
    const REAL *const *x_rows;
    const REAL *x; /* the first of them */
    const FN(op_memory) * own;
    REAL *out;
    /* backward */
    REAL *dx;       /* NULL: not wanted; source: its op */
    REAL *gradient; /* of all of θ; set, or added to */
    int accumulate;
    const fnn_step *step; /* not NULL: the gradient is that of the whole batch, and is used at once */
} FN(view);

/* Of the passes of a linearization. Pointers are NULL where an op has no such thing. */
typedef struct {
    fnn_job *job;
    const FN(memory) * memory;
    const FN(position) * position;
    const fnn_op *op;
    int i;
    ptrdiff_t rows, n; /* rows × outputs */
    const REAL *const *x_rows;
    const REAL *x;
    const FN(op_memory) * own;
    /* saved for all rows of the batch, from this chunk's first on */
    REAL *out, *slope, *bend; /* σ'; σ'' times ∂ℓ/∂out */
    REAL *delta;              /* w ∂ℓ/∂z of dense and activation, w ∂ℓ/∂out of the others */
    REAL *normalised, *inv_std;
    REAL *columns; /* of batch norm, for the whole batch: 1/σ, mean δ, mean û δ */
    REAL *dx;
    /* tangents */
    const REAL *const *tangent_x_rows; /* NULL: x does not move */
    const REAL *tangent_x;
    REAL *tangent_dx;
    const REAL *v;    /* direction of θ; NULL: that of x */
    int moves;        /* the output has a tangent */
    int second_order; /* H v; 0: a Gauss-Newton product has no terms with δ and σ'' */
    REAL *result;     /* v's product, of all of θ; NULL: not wanted */
    int accumulate;
} FN(linear_view);

typedef struct {
    int (*forward)(const FN(view) * v);
    int (*backward)(const FN(view) * v);
    int (*linearize)(const FN(linear_view) * v);
    int (*linearize_backward)(const FN(linear_view) * v);
    int (*jvp)(const FN(linear_view) * v);
    int (*jvp_of_vjp)(const FN(linear_view) * v);
} FN(op_passes);

/* Tangent of δ = σ' ⊙ ∂ℓ/∂a in place: σ' δ̇ + σ'' ∂ℓ/∂a ż. The empirical Fisher matrix has its tangent at z already. */
static void FN(activation_delta_tangent)(const FN(linear_view) * v)
{
    const int at_z = v->job->linear.curvature == FNN_FISHER && v->i == v->job->plan->n_ops - 1;
    if (v->slope && !at_z)
        KERNELS(v->job)->activation_tangent_backward(v->n, v->slope, v->second_order && v->moves ? v->bend : NULL,
                                                     v->own->tangent_pre, v->own->tangent_delta);
}

static void FN(copy)(ptrdiff_t n, const REAL *from, REAL *to)
{
    if (to != from)
        memcpy(to, from, (size_t)n * sizeof(REAL));
}

static void FN(clear)(ptrdiff_t n, REAL *x) { memset(x, 0, (size_t)n * sizeof(REAL)); }
