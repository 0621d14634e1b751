/* The engine for one element type, in the order in which its parts build on each other. */

/* The kernels of the job's instruction set and of this element type. */
#define KERNELS(job) ((const FN(kernels) *)(job)->kernels)

#include "engine/workspace.h"
#include "engine/gather.h"
#include "engine/mixup.h"
#include "engine/rows.h"
#include "engine/update.h"

#include "engine/ops.h"
#include "engine/op_dense_feature_major.h"
#include "engine/op_dense.h"
#include "engine/op_elementwise.h"
#include "engine/op_norm.h"
#include "engine/passes.h"

#include "engine/batch_loss.h"
#include "engine/sparsity.h"
#include "engine/reduce.h"
#include "engine/kfac.h"
#include "engine/lbfgs.h"
#include "engine/gradient.h"
#include "engine/train.h"
#include "engine/linearize.h"
#include "engine/lanes.h"

const fnn_engine FN(engine) = {
    .count_zeros = FN(count_zeros),
    .workspace = FN(workspace),
    .guard = FN(guard),
    .broken = FN(broken),
    .forward = FN(run_forward),
    .gradient = FN(run_gradient),
    .train = FN(run_train),
    .linearize = FN(run_linearize),
    .product = FN(run_product),
    .lanes_fit = FN(lanes_fit),
    .lanes_workspace = FN(lanes_workspace),
    .train_lanes = FN(train_lanes),
    .lanes_broken = FN(lanes_broken),
};

#undef KERNELS
