/* What the rest of csrc must know of the activations (activations_body.h). */
#ifndef FNN_ACTIVATIONS_H
#define FNN_ACTIVATIONS_H

#include "base/common.h"

/* Is σ' a function of σ, so that backward needs the output and not z? */
FNN_INLINE int fnn_activation_saves_output(int kind) { return kind != FNN_GELU && kind != FNN_SILU; }

#endif
