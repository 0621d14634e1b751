/* Every kernel that exists once per instruction set: its result, name and arguments, in one list.
 *
 * kernels_body.h makes of it the prototypes, the table type and the table's entries. Included without a guard, inside
 * a section opened by real_f32.h or real_f64.h, with KERNEL defined. Arrays are C-contiguous unless a stride
 * is given; `n` counts elements, `rows` and `cols` a matrix. Inputs are const; outputs come last and may not overlap
 * the inputs unless the comment says "in place".
 */

/* -- math (math_body.h): y[i] = f(x[i]) over the whole real line, in place allowed ------------------------------- */
KERNEL(void, exp, (ptrdiff_t n, const REAL *x, REAL *y))
KERNEL(void, log, (ptrdiff_t n, const REAL *x, REAL *y))
KERNEL(void, tanh, (ptrdiff_t n, const REAL *x, REAL *y))

/* -- activations (activations_body.h) ---------------------------------------------------------------------------- */
/* a = σ(z); in place (a == z) allowed */
KERNEL(void, activation_forward, (int kind, ptrdiff_t n, const REAL *z, REAL *a))
/* delta *= σ'(z), computed from `saved`: the output σ(z) where fnn_activation_saves_output(kind), else z itself */
KERNEL(void, activation_backward, (int kind, ptrdiff_t n, const REAL *saved, REAL *delta))
/* value, first and second derivative at z */
KERNEL(void, activation_derivatives, (int kind, ptrdiff_t n, const REAL *z, REAL *a, REAL *d1, REAL *d2))

/* -- gemm (gemm_body.h) ------------------------------------------------------------------------------------------ */
/* c (m, n; row stride ldc) = start + a (m, k) b (k, n), where start is c itself if `accumulate`, else the row `bias`
 * (n,) or, where that is NULL, zero. a and b have a row and a column stride each, in elements: swap them for the
 * transpose. `pack` is scratch of FNN_GEMM_PACK_BYTES. */
KERNEL(void, gemm,
       (ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const REAL *a, ptrdiff_t ars, ptrdiff_t acs, const REAL *b,
        ptrdiff_t brs, ptrdiff_t bcs, const REAL *bias, int accumulate, REAL *pack, REAL *c, ptrdiff_t ldc))
/* sums[j] (+)= Σ_i x[i, j]; the gradient of a bias */
KERNEL(void, column_sums, (ptrdiff_t rows, ptrdiff_t cols, const REAL *x, int accumulate, REAL *sums))

/* -- softmax (softmax_body.h): p = softmax(z) row by row ---------------------------------------------------------- */
KERNEL(void, softmax, (ptrdiff_t rows, ptrdiff_t cols, const REAL *z, REAL *p))
KERNEL(void, log_softmax, (ptrdiff_t rows, ptrdiff_t cols, const REAL *z, REAL *log_p))
/* jacobian[i] (cols, cols) = diag(p_i) − p_i p_iᵀ */
KERNEL(void, softmax_jacobian, (ptrdiff_t rows, ptrdiff_t cols, const REAL *p, REAL *jacobian))
/* dz_i = p_i ⊙ (v_i − p_i·v_i) */
KERNEL(void, softmax_vjp, (ptrdiff_t rows, ptrdiff_t cols, const REAL *p, const REAL *v, REAL *dz))

/* -- losses (losses_body.h) --------------------------------------------------------------------------------------- */
/* Each returns Σ_i w_i ℓ_i and writes delta_i = w_i ∂ℓ_i/∂z_i; weight NULL means ones; no division by Σ w. `correct`,
 * unless NULL, grows by the weight of the rows whose prediction is the target. */
/* labels (rows,) in [0, cols), or, where that is NULL, target (rows, cols): one-hot or soft */
KERNEL(double, cross_entropy,
       (ptrdiff_t rows, ptrdiff_t cols, const REAL *z, const int64_t *labels, const REAL *target, const REAL *weight,
        double *correct, REAL *delta))
KERNEL(double, binary_cross_entropy,
       (ptrdiff_t rows, ptrdiff_t cols, const REAL *z, const REAL *target, const REAL *weight, double *correct,
        REAL *delta))
KERNEL(double, squared_error,
       (ptrdiff_t rows, ptrdiff_t cols, const REAL *z, const REAL *target, const REAL *weight, REAL *delta))

/* -- optim (optim_body.h): the effective gradient and the update rules, on flat arrays ----------------------------- */
/* out[i] = Σ_s shards[s][i], s in order; out may be shards[0] */
KERNEL(void, sum_shards, (ptrdiff_t n, int n_shards, const REAL *const *shards, REAL *out))
/* ½ l2 Σ θ² + l1 Σ |θ| */
KERNEL(double, penalty, (ptrdiff_t n, double l1, double l2, const REAL *theta))
/* Σ g'² before clip_value */
KERNEL(double, gradient_norm2, (ptrdiff_t n, const fnn_terms *terms, const REAL *theta, const REAL *g))
/* g = g' in place */
KERNEL(void, gradient_finish, (ptrdiff_t n, const fnn_terms *terms, const REAL *theta, REAL *g))
/* velocity NULL without momentum */
KERNEL(void, sgd_update,
       (ptrdiff_t n, const fnn_terms *terms, double learning_rate, double momentum, int nesterov, const REAL *g,
        REAL *theta, REAL *velocity))
KERNEL(void, adagrad_update,
       (ptrdiff_t n, const fnn_terms *terms, double learning_rate, double epsilon, const REAL *g, REAL *theta, REAL *s))
KERNEL(void, rmsprop_update,
       (ptrdiff_t n, const fnn_terms *terms, double learning_rate, double rho, double epsilon, const REAL *g,
        REAL *theta, REAL *s))
/* bias1 = 1 − β₁ᵗ, bias2 = 1 − β₂ᵗ for the t-th update; decay is the decoupled one (AdamW) */
KERNEL(void, adam_update,
       (ptrdiff_t n, const fnn_terms *terms, double bias1, double bias2, double learning_rate, double beta1,
        double beta2, double epsilon, double decay, const REAL *g, REAL *theta, REAL *m, REAL *v))

/* -- data (data_body.h) ------------------------------------------------------------------------------------------- */
/* out (rows, cols) = scale · x[index[i], :], or x[i, :] where index is NULL; x is of `type` (enum fnn_source) */
KERNEL(void, gather_rows,
       (ptrdiff_t rows, ptrdiff_t cols, int type, const void *x, const int64_t *index, double scale, REAL *out))
/* the same of a matrix in compressed sparse rows: row i has x[k] in columns[k], k from indptr[i] to indptr[i + 1] */
KERNEL(void, gather_csr,
       (ptrdiff_t rows, ptrdiff_t cols, int type, const void *x, const int64_t *indptr, const int32_t *columns,
        const int64_t *index, double scale, REAL *out))
/* the position of the first element that is not finite, or -1 */
KERNEL(ptrdiff_t, first_not_finite, (ptrdiff_t n, const REAL *x))
