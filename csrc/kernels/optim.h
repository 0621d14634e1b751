/* The objective's terms. With g the sum of w_i ∂ℓ_i over the batch, the update rules step along the effective gradient
 *     g' = clip(factor · (scale · g + l2 · θ), ±clip_value),
 * where scale is 1/Σw and factor comes from the global norm: min(1, clip_norm / ‖·‖). They take l1 ‖θ‖₁ by its proximal
 * operator: where a rule moves θ by −h g', the new θ then moves towards 0 by h · factor · l1, and no further.
 * gradient_finish and gradient_norm2 add l1 · sign θ to l2 · θ instead. l1 and l2 are zero for a range of parameters
 * that is not a weight.
 */
#ifndef FNN_OPTIM_H
#define FNN_OPTIM_H

typedef struct {
    double scale, l1, l2, factor, clip_value; /* clip_value: INFINITY for none */
} fnn_terms;

/* The numbers of an update rule, those of UpdateRule in plan.py, as they are for one update, number t; a rule reads
 * those that it has. */
typedef struct {
    double momentum, beta1, beta2, rho, epsilon;
    double bias1, bias2; /* 1 − beta1ᵗ, 1 − beta2ᵗ */
    int nesterov, epsilon_hat;
} fnn_numbers;

#define FNN_MOMENTS 3 /* the most moments of a rule */

#endif
