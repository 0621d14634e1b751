/* Codes of the losses (losses_body.h), which are part of the plan and of the Cython layer, and their facts. */
#ifndef FNN_LOSSES_H
#define FNN_LOSSES_H

#define LOSS(CODE, name, elementwise, coupled) FNN_##CODE,
enum fnn_loss {
#include "kernels/loss_list.h"
};
#undef LOSS

#define LOSS(CODE, name, elementwise, coupled) elementwise,
static inline int fnn_loss_is_elementwise(int loss)
{
    static const unsigned char facts[] = {
#include "kernels/loss_list.h"
    };
    return facts[loss];
}
#undef LOSS

#define LOSS(CODE, name, elementwise, coupled) coupled,
static inline int fnn_loss_is_coupled(int loss)
{
    static const unsigned char facts[] = {
#include "kernels/loss_list.h"
    };
    return facts[loss];
}
#undef LOSS

#endif
