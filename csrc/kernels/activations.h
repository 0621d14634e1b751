/* Codes of the element-wise non-linearities (activations_body.h), which are part of the plan and of the Cython layer.
 */
#ifndef FNN_ACTIVATIONS_H
#define FNN_ACTIVATIONS_H

#define ACTIVATION(CODE, name) FNN_##CODE,
#define LEAKY(CODE, name) FNN_##CODE,
enum fnn_activation {
    FNN_LINEAR = 0,
#include "kernels/activation_list.h"
};
#undef ACTIVATION
#undef LEAKY

#endif
