/* The table of kernels of one instruction set, for float and for double. */
#ifndef FNN_KERNELS_H
#define FNN_KERNELS_H

#include "kernels/activations.h"
#include "kernels/augment.h"
#include "base/common.h"
#include "kernels/curvature.h"
#include "kernels/data.h"
#include "kernels/gemm.h"
#include "kernels/lanes.h"
#include "kernels/optim.h"

#define KERNEL(result, name, arguments) result(*name) arguments;
#define REAL float
typedef struct {
#include "kernels/kernel_list.h"
} fnn_kernels_f32;
#undef REAL
#define REAL double
typedef struct {
#include "kernels/kernel_list.h"
} fnn_kernels_f64;
#undef REAL
#undef KERNEL

typedef struct {
    const char *name; /* "baseline", "avx2", "avx512" or "generic" */
    fnn_kernels_f32 f32;
    fnn_kernels_f64 f64;
} fnn_kernels;

#endif
