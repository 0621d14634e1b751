/* Every activation but linear, as ACTIVATION(CODE, name), or LEAKY(CODE, name) if it has a slope below 0, in the order
 * of ACTIVATIONS in src/fastnn/plan.py. The list makes enum fnn_activation (activations.h) and the loops of the kernels
 * (activations_body.h), of a_<name>, a_<name>_d1, a_<name>_d2 and a_<name>_d1_saved, which of a LEAKY take the slope as
 * their second argument. Linear, code 0, has no loops. */
ACTIVATION(RELU, relu)
LEAKY(LEAKY_RELU, leaky_relu)
ACTIVATION(TANH, tanh)
ACTIVATION(HARD_TANH, hard_tanh)
ACTIVATION(LEAKY_TANH, leaky_tanh)
ACTIVATION(SIGMOID, sigmoid)
ACTIVATION(SOFTPLUS, softplus)
ACTIVATION(ELU, elu)
ACTIVATION(SELU, selu)
ACTIVATION(GELU, gelu)
ACTIVATION(SILU, silu)
ACTIVATION(MISH, mish)
ACTIVATION(SIGN, sign)
