/* The objective's terms as the update rules see them. With g the sum of w_i ∂ℓ_i over the batch, the effective
 * gradient is
 *     g' = clip(factor · (scale · g + l2 · θ + l1 · sign θ), ±clip_value),
 * where scale is 1/Σw and factor comes from the global norm: min(1, clip_norm / ‖·‖). l1 and l2 are zero for a
 * range of parameters that is not a weight.
 */
#ifndef FNN_OPTIM_H
#define FNN_OPTIM_H

typedef struct {
    double scale, l1, l2, factor, clip_value; /* clip_value: INFINITY for none */
} fnn_terms;

#endif
