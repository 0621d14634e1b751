/* Every loss, as LOSS(CODE, name, elementwise, coupled), in the order of LOSSES in src/fastnn/losses.py. The list makes
 * enum fnn_loss (losses.h, with the facts) and the tables of the kernels (losses_body.h), of <name> and
 * <name>_curvature.
 *
 *     elementwise  without weights a sum over pairs of elements of z and target, of any shape; counts no hits
 *     coupled      ∂²ℓ/∂z² is diag(q) − q qᵀ instead of diag(q)
 */
LOSS(CROSS_ENTROPY, cross_entropy, 0, 1)
LOSS(BINARY_CROSS_ENTROPY, binary_cross_entropy, 0, 0)
LOSS(SQUARED_ERROR, squared_error, 1, 0)
LOSS(ABSOLUTE_ERROR, absolute_error, 1, 0)
LOSS(HUBER, huber, 1, 0)
LOSS(POISSON, poisson, 1, 0)
