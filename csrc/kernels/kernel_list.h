/* Every kernel that exists once per instruction set: its result, name and arguments, in one list.
 *
 * The list is included with KERNEL and REAL defined, without a guard: kernels.h makes the type of the table of it,
 * kernels.c the prototypes and the table, and tools/kernel_bindings.py, at build time, what Cython sees. Arrays are
 * C-contiguous unless a stride is given; `n` counts elements, `rows` and `cols` a matrix. Inputs are const; outputs
 * come last and may not overlap the inputs unless the comment says "in place".
 */

/* -- math (math_body.h): y[i] = f(x[i]) over the whole real line, in place allowed ------------------------------- */
KERNEL(void, exp, (ptrdiff_t n, const REAL *x, REAL *y))
KERNEL(void, log, (ptrdiff_t n, const REAL *x, REAL *y))
KERNEL(void, tanh, (ptrdiff_t n, const REAL *x, REAL *y))

/* -- activations (activations_body.h) ---------------------------------------------------------------------------- */
/* a = σ(z); in place (a == z) allowed. slope: of leaky_relu below 0 */
KERNEL(void, activation_forward, (int kind, double slope, ptrdiff_t n, const REAL *z, REAL *a))
/* delta *= σ'(z), computed from `saved`: the output σ(z) where σ' is a function of it (`saves_output` in plan.py), else
 * z itself */
KERNEL(void, activation_backward, (int kind, double slope, ptrdiff_t n, const REAL *saved, REAL *delta))
/* value, first and second derivative at z */
KERNEL(void, activation_derivatives, (int kind, double slope, ptrdiff_t n, const REAL *z, REAL *a, REAL *d1, REAL *d2))
/* bend *= delta, unless NULL; then delta *= slope: from ∂ℓ/∂a to ∂ℓ/∂z, and what its own derivative needs */
KERNEL(void, activation_linearize, (ptrdiff_t n, const REAL *slope, REAL *bend, REAL *delta))
/* ta = slope tz */
KERNEL(void, activation_tangent, (ptrdiff_t n, const REAL *slope, const REAL *tz, REAL *ta))
/* tangent of δ = σ' g: delta = slope delta + bend tz; bend NULL: 0 */
KERNEL(void, activation_tangent_backward,
       (ptrdiff_t n, const REAL *slope, const REAL *bend, const REAL *tz, REAL *delta))

/* -- products (gemm_body.h) ------------------------------------------------------------------------------------------
 */
/* c (m, n; row stride ldc) = start + op(A) b (k, n), where start is c itself if `accumulate`, else the row `bias` (n,)
 * or, where that is NULL, zero. a: pointers to rows, of which A is the columns from a_column on: (m, k), or with
 * transpose_a (k, m) and op(A) = Aᵀ. b has a row and a column stride in elements: swap them for the transpose. `pack`
 * is scratch of FNN_GEMM_PACK_BYTES. */
KERNEL(void, gemm,
       (ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const REAL *const *a, ptrdiff_t a_column, int transpose_a, const REAL *b,
        ptrdiff_t brs, ptrdiff_t bcs, const REAL *bias, int accumulate, REAL *pack, REAL *c, ptrdiff_t ldc))
/* The same with a_column 0 and relu of the result, or, with a gate (m, n), the result where that is above 0 and else 0:
 * forward through a relu, and backward with the output of the one before. sums (n,) grow by the sums of c's columns,
 * unless NULL. NaN stays NaN forward; behind a gate that is shut it is 0. With a gate, rows of c are filled up with 0
 * to whole vectors where ldc has room. */
KERNEL(void, gemm_relu,
       (ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const REAL *const *a, int transpose_a, const REAL *b, ptrdiff_t brs,
        ptrdiff_t bcs, const REAL *bias, const REAL *gate, REAL *pack, REAL *c, ptrdiff_t ldc, REAL *sums))
/* c (m, n) (+)= xᵀ δ for x (k, m) and the rows of δ (k, n), where few outputs n would leave much of the last vector
 * empty: as (δᵀ x)ᵀ. Returns 0, and has done nothing, where gemm is no slower. */
KERNEL(int, weight_gradient,
       (ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const REAL *x, const REAL *const *delta, int accumulate, REAL *pack,
        REAL *c))
/* bits (rows, ceil(k / 64)) of x (rows, k): bit j of a row is set where x_j is not 0 */
KERNEL(void, nonzero_bits, (ptrdiff_t rows, ptrdiff_t k, const REAL *x, uint64_t *bits))
/* Of rows x (rows, k) with many zeros (gemm_sparse_body.h), by tiles 2 or 4 rows high: c (rows, n) = bias + x b, or its
 * relu, for b (k, n) and bias (n,) or NULL; equal to gemm where b is finite. bits (rows, ceil(k / 64)) are written, bit
 * j where x_j is not 0. Scratch: starts, ceil(rows / height) + 1 elements; list, ceil(rows / height) k + 16; pack,
 * FNN_ZEROS_PACK_BYTES */
KERNEL(void, zeros_forward,
       (ptrdiff_t rows, ptrdiff_t n, ptrdiff_t k, int height, const REAL *const *x, const REAL *b, const REAL *bias,
        int relu, REAL *pack, uint64_t *bits, int32_t *starts, int32_t *list, REAL *c))
/* For blocks of rows, and in each for tiles of `height` (2 or 4) features `apart` (a power of 2, up to 64 / height):
 * list[starts[t]] .. list[starts[t + 1]] are the rows of the block where one of the tile's features is not 0. Room for
 * starts: a block has 64 rows or more, and (k + 64) / height tiles at most; list: one for each tile and row, and 16 */
KERNEL(void, zeros_transpose_lists,
       (ptrdiff_t rows, ptrdiff_t n, ptrdiff_t k, int height, int apart, const uint64_t *bits, int32_t *starts,
        int32_t *list))
/* c (m, n) (+)= x[:, at : at + m]ᵀ delta (rows, n; row stride `row`, readable up to there) with these lists; at: a
 * multiple of height times apart, as is m, unless at + m = k */
KERNEL(void, zeros_gradient,
       (ptrdiff_t m, ptrdiff_t n, ptrdiff_t rows, ptrdiff_t k, const REAL *const *x, ptrdiff_t at, int height,
        int apart, const int32_t *starts, const int32_t *list, const REAL *delta, ptrdiff_t row, int accumulate,
        REAL *pack, REAL *c))
/* -- products over samples (inner_products_body.h), transpose (transpose_body.h) ------------------------------------
 */
/* c (m, n) (+)= A Bᵀ for a (m, k) and b (n, k) with m and n small and k large, and sums[j] (+)= Σ_p b[j, p] unless it
 * is NULL */
KERNEL(void, inner_products,
       (ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const REAL *a, const REAL *b, int accumulate, REAL *c, REAL *sums))
/* out (cols, rows) = xᵀ; x: pointers to its rows */
KERNEL(void, transpose, (ptrdiff_t rows, ptrdiff_t cols, const REAL *const *x, REAL *out))
/* sums[j] (+)= Σ_i x[i, j]; the gradient of a bias */
KERNEL(void, column_sums, (ptrdiff_t rows, ptrdiff_t cols, const REAL *x, int accumulate, REAL *sums))

/* -- softmax (softmax_body.h): p = softmax(z) row by row ---------------------------------------------------------- */
KERNEL(void, softmax, (ptrdiff_t rows, ptrdiff_t cols, const REAL *z, REAL *p))
KERNEL(void, log_softmax, (ptrdiff_t rows, ptrdiff_t cols, const REAL *z, REAL *log_p))
/* dz_i = p_i ⊙ (v_i − p_i·v_i) */
KERNEL(void, softmax_vjp, (ptrdiff_t rows, ptrdiff_t cols, const REAL *p, const REAL *v, REAL *dz))

/* -- losses (losses_body.h) --------------------------------------------------------------------------------------- */
/* Returns Σ_i w_i ℓ_i and writes delta_i = w_i ∂ℓ_i/∂z_i (kind: enum fnn_loss); weight NULL means ones; no division by
 * Σ w. `correct`, unless NULL, grows by the weight of the rows whose prediction is the target, where targets are
 * classes. target (rows, cols); cross_entropy takes labels (rows,) in [0, cols) or, where that is NULL, one-hot or soft
 * target, and of either (1 − smoothing) y + smoothing / cols; binary_cross_entropy (1 − smoothing) y + smoothing / 2.
 * poisson is infinite, as is delta, where exp(z) is; a row of weight 0 takes no part even then */
KERNEL(double, loss,
       (int kind, ptrdiff_t rows, ptrdiff_t cols, const REAL *z, const int64_t *labels, const REAL *target,
        const REAL *weight, double smoothing, double *correct, REAL *delta))
/* q of the loss's Hessian with respect to z in row i: diag(q_i) − q_i q_iᵀ of coupled losses (cross_entropy, whose
 * target rows sum to 1), and diag(q_i) of the others. target is used by huber alone; no weights. */
KERNEL(void, loss_curvature, (int kind, ptrdiff_t rows, ptrdiff_t cols, const REAL *z, const REAL *target, REAL *q))
/* out_i = w_i H_i v_i of that Hessian; in place allowed */
KERNEL(void, loss_tangent,
       (int kind, ptrdiff_t rows, ptrdiff_t cols, const REAL *q, const REAL *weight, const REAL *v, REAL *out))
/* out_i = δ_i (δ_i · v_i) / w_i of weighted δ; 0 where w_i is; in place allowed */
KERNEL(void, outer_tangent,
       (ptrdiff_t rows, ptrdiff_t cols, const REAL *delta, const REAL *weight, const REAL *v, REAL *out))

/* -- curvature (curvature_body.h): x̃ = (x, 1) where `bias`; `stream`: outputs too large for the caches --------------
 */
/* out[i] (stride ldo) = x̃_i ⊗ d_i, element k n_out + j */
KERNEL(void, per_sample_outer,
       (ptrdiff_t rows, ptrdiff_t n_in, ptrdiff_t n_out, int bias, const REAL *x, const REAL *d, int stream, REAL *out,
        ptrdiff_t ldo))
/* Of out[i] = (x̃_i x̃_iᵀ) ⊗ a_i, the rows of the inputs from `begin` to `end`, counted through all samples: input k of
 * sample i is i (n_in + bias) + k. out points to the first of them; scratch holds n_out (n_in + bias) n_out elements.
 */
KERNEL(void, per_sample_hessian_rows,
       (ptrdiff_t begin, ptrdiff_t end, ptrdiff_t n_in, ptrdiff_t n_out, int bias, const REAL *a, const REAL *x,
        int stream, REAL *scratch, REAL *out))
/* out[i] (cols, cols) = w_i (diag(q_i) − q_i q_iᵀ), or without `softmax` w_i diag(q_i); weight NULL means ones */
KERNEL(void, loss_hessian,
       (ptrdiff_t rows, ptrdiff_t cols, int softmax, const REAL *q, const REAL *weight, int stream, REAL *out))
/* out[i] (n_in, n_in) = S w a_i wᵀ S + diag(bend_i), S = diag(slope_i); both may be NULL; exactly symmetric.
 * scratch: FNN_GEMM_PACK_BYTES, rows n_out n_in elements, and max(rows n_out, n_in) pointers */
KERNEL(void, curvature_backward,
       (ptrdiff_t rows, ptrdiff_t n_in, ptrdiff_t n_out, const REAL *a, const REAL *w, const REAL *slope,
        const REAL *bend, void *scratch, REAL *out))
/* out[i] (r, n_in) = m_i wᵀ diag(slope_i), m_i (r, n_out) or, if `diagonal`, diag of (n_out,); slope may be NULL.
 * scratch: FNN_GEMM_PACK_BYTES and rows r pointers */
KERNEL(void, cross_backward,
       (ptrdiff_t rows, ptrdiff_t r, ptrdiff_t n_in, ptrdiff_t n_out, int diagonal, const REAL *m, const REAL *w,
        const REAL *slope, void *scratch, REAL *out))
/* The two parts of hessian_block_acc; h points to the corner of the block; see curvature.h */
KERNEL(void, hessian_pairs, (const fnn_block *block, const fnn_pairs *part, void *workspace))
KERNEL(void, hessian_products, (const fnn_block *block, const fnn_products *part, void *workspace))
/* h[i, :i] = h[:i, i] for the rows from `begin` to `end` of h (n, n) */
KERNEL(void, symmetrize, (ptrdiff_t n, ptrdiff_t begin, ptrdiff_t end, REAL *h))

/* -- lanes (lanes_body.h): arrays of vectors, each lane of which is of a network of its own -------------------------
 */
/* c (m, n) = bias (n) + Σ_p a(i, p) b(p, j), NULL: 0; strides of a and b in vectors */
KERNEL(void, lane_products,
       (ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const REAL *a, ptrdiff_t a_row, ptrdiff_t a_step, const REAL *b,
        ptrdiff_t b_column, ptrdiff_t b_step, const REAL *bias, REAL *c))
/* x (rows, cols) = 0 wherever gate is not above 0; sums (cols,) grow by the sums of its columns, as gemm_relu's do */
KERNEL(void, lane_gate, (ptrdiff_t rows, ptrdiff_t cols, const REAL *gate, REAL *x, REAL *sums))
/* cross_entropy with labels, without weights and smoothing: loss and correct grow, one number for each lane; up to
 * FNN_LANE_CLASSES columns, rows: a multiple of 64 unless they are the last */
KERNEL(void, lane_cross_entropy,
       (ptrdiff_t rows, ptrdiff_t cols, const REAL *z, const int64_t *labels, double *loss, double *correct,
        REAL *delta))
/* Σ θ² of each lane, as penalty sums it */
KERNEL(void, lane_squares, (ptrdiff_t n, const REAL *theta, double *squares))
/* A step of sgd or adam; first and second: moments, NULL for those that there are not */
KERNEL(void, lane_update,
       (const fnn_lane_step *step, int penalised, ptrdiff_t n, const REAL *g, REAL *theta, REAL *first, REAL *second))

/* -- optim (optim_body.h): the effective gradient and the update rules, on flat arrays ----------------------------- */
/* out[i] = Σ_s shards[s][i], s in order; out may be shards[0] */
KERNEL(void, sum_shards, (ptrdiff_t n, int n_shards, const REAL *const *shards, REAL *out))
/* ½ l2 Σ θ² + l1 Σ |θ| */
KERNEL(double, penalty, (ptrdiff_t n, double l1, double l2, const REAL *theta))
/* mean += rate · (θ − mean), of an exponential moving average */
KERNEL(void, average, (ptrdiff_t n, double rate, const REAL *theta, REAL *mean))
/* Σ g'² before clip_value, with l1 · sign θ */
KERNEL(double, gradient_norm2, (ptrdiff_t n, const fnn_terms *terms, const REAL *theta, const REAL *g))
/* g = g' in place, with l1 · sign θ */
KERNEL(void, gradient_finish, (ptrdiff_t n, const fnn_terms *terms, const REAL *theta, REAL *g))
/* A step of the rule of this code along g'. moments: those of the rule, in the order of its function in optim_body.h,
 * NULL for those that its options do without; decay is the decoupled one (AdamW) */
KERNEL(void, update,
       (int rule, ptrdiff_t n, const fnn_terms *terms, const fnn_numbers *numbers, double learning_rate, double decay,
        const REAL *g, REAL *theta, REAL *const *moments))
/* The code of the rule of that name, -1 if there is none */
KERNEL(int, rule_code, (const char *name))

/* -- norm (norm_body.h) -------------------------------------------------------------------------------------------- */
/* Of a shard's rows: mean[j] and m2[j] = Σ_i (z[i, j] − mean[j])²; zeros where rows is 0 */
KERNEL(void, batch_norm_moments, (ptrdiff_t rows, ptrdiff_t cols, const REAL *z, REAL *mean, REAL *m2))
/* Mean and variance (with 1/N) of all shards' rows together, s in order; mean may be means[0], variance m2s[0] */
KERNEL(void, batch_norm_combine,
       (ptrdiff_t cols, int n_shards, const ptrdiff_t *counts, const REAL *const *means, const REAL *const *m2s,
        REAL *mean, REAL *variance))
/* 1 / √(variance + epsilon); in place allowed */
KERNEL(void, inverse_std, (ptrdiff_t n, double epsilon, const REAL *variance, REAL *inv_std))
/* normalised = (z − mean) inv_std, out = gamma normalised + beta; normalised may be NULL; in place (out == z) allowed
 */
KERNEL(void, batch_norm_normalise,
       (ptrdiff_t rows, ptrdiff_t cols, const REAL *z, const REAL *mean, const REAL *inv_std, const REAL *gamma,
        const REAL *beta, REAL *normalised, REAL *out))
/* The three before for a batch that is one shard: mean, variance and inv_std are results as well; in place allowed */
KERNEL(void, batch_norm_forward,
       (ptrdiff_t rows, ptrdiff_t cols, const REAL *z, const REAL *gamma, const REAL *beta, double epsilon, REAL *mean,
        REAL *variance, REAL *inv_std, REAL *out))
/* Column sums of delta and of delta ⊙ û, û = (z − mean) inv_std: the gradients of beta and gamma. mean NULL: z is û */
KERNEL(void, batch_norm_backward_sums,
       (ptrdiff_t rows, ptrdiff_t cols, const REAL *delta, const REAL *z, const REAL *mean, const REAL *inv_std,
        REAL *sum_delta, REAL *sum_delta_normalised))
/* dz = gamma inv_std (delta − mean_delta − û mean_delta_normalised), the means over the rows of the whole batch. mean
 * NULL: z is û; in place (dz == delta) allowed */
KERNEL(void, batch_norm_backward_apply,
       (ptrdiff_t rows, ptrdiff_t cols, const REAL *delta, const REAL *z, const REAL *mean, const REAL *gamma,
        const REAL *inv_std, const REAL *mean_delta, const REAL *mean_delta_normalised, REAL *dz))
/* Both for a batch that is one shard; scratch (3 cols,); dgamma and dbeta are sums; in place allowed */
KERNEL(void, batch_norm_backward,
       (ptrdiff_t rows, ptrdiff_t cols, const REAL *delta, const REAL *z, const REAL *gamma, const REAL *mean,
        const REAL *variance, double epsilon, REAL *scratch, REAL *dgamma, REAL *dbeta, REAL *dz))
/* out[i, j] = scale[j] x[i, j] + shift[j]; in place allowed */
KERNEL(void, scale_shift,
       (ptrdiff_t rows, ptrdiff_t cols, const REAL *x, const REAL *scale, const REAL *shift, REAL *out))
/* Row by row, inv_std (rows,); normalised and inv_std may be NULL; in place (out == z) allowed */
KERNEL(void, layer_norm_forward,
       (ptrdiff_t rows, ptrdiff_t cols, const REAL *z, const REAL *gamma, const REAL *beta, double epsilon,
        REAL *normalised, REAL *inv_std, REAL *out))
/* dgamma_acc and dbeta_acc grow by the sums over the rows; in place (dz == delta) allowed */
KERNEL(void, layer_norm_backward,
       (ptrdiff_t rows, ptrdiff_t cols, const REAL *delta, const REAL *normalised, const REAL *gamma,
        const REAL *inv_std, REAL *dz, REAL *dgamma_acc, REAL *dbeta_acc))

/* Tangents (dots), with s = inv_std, of batch norm: means over the rows of the whole batch, zero for fixed statistics.
 * From ż, with mean = mean ż and mean_product = mean(û ż): û̇ = s (ż − mean − û mean_product), out = γ̇ û + γ û̇ + β̇ */
KERNEL(void, batch_norm_tangent,
       (ptrdiff_t rows, ptrdiff_t cols, const REAL *tz, const REAL *normalised, const REAL *inv_std, const REAL *gamma,
        const REAL *tgamma, const REAL *tbeta, const REAL *mean, const REAL *mean_product, REAL *tnormalised,
        REAL *tout))
/* Column sums of δ̇ and of û δ̇ + û̇ δ: the tangents of the gradients of beta and gamma */
KERNEL(void, batch_norm_tangent_sums,
       (ptrdiff_t rows, ptrdiff_t cols, const REAL *delta, const REAL *tdelta, const REAL *normalised,
        const REAL *tnormalised, REAL *sum, REAL *sum_product))
/* dz = s ((γ̇ − γ s mean_tz) r + γ (δ̇ − mean_tdelta − û̇ mean_product − û mean_tproduct)), r = δ − mean − û mean_product;
 * mean and mean_product of δ and û δ, mean_tz of û ż, the other two of the sums above; in place (dz == tdelta) allowed
 */
KERNEL(void, batch_norm_tangent_backward,
       (ptrdiff_t rows, ptrdiff_t cols, const REAL *delta, const REAL *tdelta, const REAL *normalised,
        const REAL *tnormalised, const REAL *inv_std, const REAL *gamma, const REAL *tgamma, const REAL *mean,
        const REAL *mean_product, const REAL *mean_tz, const REAL *mean_tdelta, const REAL *mean_tproduct, REAL *dz))
/* The same of layer norm, row by row; mean_tz (rows,) is mean(û ż). tgamma or tbeta NULL: zero */
KERNEL(void, layer_norm_tangent,
       (ptrdiff_t rows, ptrdiff_t cols, const REAL *tz, const REAL *normalised, const REAL *inv_std, const REAL *gamma,
        const REAL *tgamma, const REAL *tbeta, REAL *tnormalised, REAL *mean_tz, REAL *tout))
KERNEL(void, layer_norm_tangent_backward,
       (ptrdiff_t rows, ptrdiff_t cols, const REAL *delta, const REAL *tdelta, const REAL *normalised,
        const REAL *tnormalised, const REAL *inv_std, const REAL *gamma, const REAL *tgamma, const REAL *mean_tz,
        REAL *dz, REAL *dgamma_acc, REAL *dbeta_acc))

/* -- dropout (dropout_body.h) -------------------------------------------------------------------------------------- */
/* out = x / (1 − rate) or 0, by a mask that is a function of (seed, step, layer, (first_row + i) cols + j):
 * forward, and backward with delta for x. rate in [0, 1); in place allowed */
KERNEL(void, dropout,
       (ptrdiff_t rows, ptrdiff_t cols, uint64_t seed, uint64_t step, int layer, ptrdiff_t first_row, double rate,
        const REAL *x, REAL *out))

/* -- augmentation (augment_body.h) --------------------------------------------------------------------------------- */
/* x (rows, height · width · channels) is changed at random, in place, by draws that are functions of (seed, step,
 * place, first_row + i); kind: enum fnn_augmentation_kind. scratch: (height + 3) (width + 3) channels */
KERNEL(void, augment_rows,
       (ptrdiff_t rows, int kind, ptrdiff_t height, ptrdiff_t width, ptrdiff_t channels, double amount,
        double probability, double fill, uint64_t seed, uint64_t step, int place, ptrdiff_t first_row, REAL *scratch,
        REAL *x))

/* -- data (data_body.h) ------------------------------------------------------------------------------------------- */
/* out (rows, cols) = scale · x[index[i], :], or x[i, :] where index is NULL; x is of `type` (enum fnn_source) */
KERNEL(void, gather_rows,
       (ptrdiff_t rows, ptrdiff_t cols, int type, const void *x, const int64_t *index, double scale, REAL *out))
/* the same of a matrix in compressed sparse rows: row i has x[k] in columns[k], k from indptr[i] to indptr[i + 1] */
KERNEL(void, gather_csr,
       (ptrdiff_t rows, ptrdiff_t cols, int type, const void *x, const int64_t *indptr, const int32_t *columns,
        const int64_t *index, double scale, REAL *out))
/* whether no element is infinite or NaN */
KERNEL(int, all_finite, (ptrdiff_t n, const REAL *x))
