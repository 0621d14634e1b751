/* The table of the ops' passes, and their order forward and backward through a plan. */

#define OP(CODE, name)                                                                              \
    {FN(name##_forward), FN(name##_backward),  FN(name##_linearize), FN(name##_linearize_backward), \
     FN(name##_jvp),     FN(name##_jvp_of_vjp)},
static const FN(op_passes) FN(passes)[] = {
#include "engine/op_list.h"
};
#undef OP

static FN(view) FN(view_of)(fnn_job *job, const FN(memory) * memory, const FN(position) * position, int i,
                            const REAL *const *x, ptrdiff_t rows)
{
    const fnn_plan *plan = job->plan;
    const fnn_op *op = plan->ops + i, *source = op->input < 0 ? NULL : plan->ops + op->input;
    const FN(op_memory) *input = source ? memory->ops + op->input : NULL;
    return (FN(view)){.job = job,
                      .memory = memory,
                      .position = position,
                      .op = op,
                      .source = source,
                      .i = i,
                      .rows = rows,
                      .x_rows = input ? input->out_rows : x,
                      .x = input  ? input->out
                           : rows ? x[0]
                                  : NULL,
                      .own = memory->ops + i,
                      .out = memory->ops[i].out,
                      .dx = input ? input->delta : NULL};
}

/* The last op's output, which goes to `result` unless that is NULL; NULL when told to stop. */
static const REAL *FN(forward)(fnn_job *job, const FN(memory) * memory, const FN(position) * position,
                               const REAL *const *x, ptrdiff_t rows, REAL *result)
{
    const int last = job->plan->n_ops - 1;
    REAL *out = NULL;
    for (int i = 0; i <= last; i++) {
        FN(view) v = FN(view_of)(job, memory, position, i, x, rows);
        if (result && i == last)
            v.out = result;
        out = v.out;
        if (FN(passes)[v.op->kind].forward(&v))
            return NULL;
        if (job->schedule.by_feature)
            FN(fill_ones)(rows, out + v.op->n_out * rows);
        if (rows > fnn_block_rows(v.op, rows) && fnn_stopped(job, position->worker, BLOCK_WORK))
            return NULL;
    }
    return out;
}

/* The last op's delta holds ∂ℓ/∂output. accumulate: to the gradient of earlier chunks. Returns 1 when told to stop. */
static int FN(backward)(fnn_job *job, const FN(memory) * memory, const FN(position) * position, const REAL *const *x,
                        ptrdiff_t rows, int accumulate, const fnn_step *step)
{
    for (int i = job->plan->n_ops - 1; i >= 0; i--) {
        FN(view) v = FN(view_of)(job, memory, position, i, x, rows);
        v.gradient = memory->gradient;
        v.accumulate = accumulate;
        v.step = step;
        if (FN(passes)[v.op->kind].backward(&v))
            return 1;
        /* a step is not left half done */
        if (!step && rows > fnn_block_rows(v.op, rows) && fnn_stopped(job, position->worker, BLOCK_WORK))
            return 1;
    }
    return 0;
}
