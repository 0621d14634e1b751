/* The prototypes of all kernels of one type, and their bodies; kernels.c includes it for float and for double. */
#define KERNEL(result, name, arguments) result FN(name) arguments;
#include "kernels/kernel_list.h"
#undef KERNEL

#include "base/simd_body.h"

#include "base/math_body.h"

#include "kernels/activations_body.h"

#include "kernels/softmax_body.h"

#include "kernels/losses_body.h"

#include "kernels/gemm_body.h"

#include "kernels/inner_products_body.h"

#include "kernels/transpose_body.h"

#include "kernels/norm_body.h"

#include "kernels/optim_body.h"

#include "kernels/lanes_body.h"

#include "kernels/curvature_body.h"

#include "kernels/dropout_body.h"

#include "kernels/augment_body.h"

#include "kernels/data_body.h"
