/* The table of kernels of one instruction set, for float and for double. */
#ifndef FNN_KERNELS_H
#define FNN_KERNELS_H

#include "activations.h"
#include "common.h"
#include "curvature.h"
#include "data.h"
#include "gemm.h"
#include "optim.h"

#define KERNEL(result, name, arguments) result(*name) arguments;
#define REAL float
typedef struct {
#include "kernel_list.h"
} fnn_kernels_f32;
#undef REAL
#define REAL double
typedef struct {
#include "kernel_list.h"
} fnn_kernels_f64;
#undef REAL
#undef KERNEL

typedef struct {
    const char *name; /* "baseline", "avx2", "avx512" or "generic" */
    fnn_kernels_f32 f32;
    fnn_kernels_f64 f64;
} fnn_kernels;

#endif
