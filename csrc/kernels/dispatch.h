/* Which instruction sets the build has and this processor can run. */
#ifndef FNN_DISPATCH_H
#define FNN_DISPATCH_H

#include "kernels/kernels.h"

/* The i-th table that this processor can run, the plainest first; NULL beyond the last. */
const fnn_kernels *fnn_kernels_available(int i);

#endif
