/* Every kind of op, as OP(CODE, name). The list makes enum fnn_op_kind (FNN_CODE) and, per element type, the table of
 * the ops' passes: <name>_forward, <name>_backward, <name>_linearize, <name>_linearize_backward, <name>_jvp and
 * <name>_jvp_of_vjp, in the file that op_<...>.h of that op is. See ops.h for what a pass is given. */
OP(DENSE, dense)
OP(ACTIVATION, activation)
OP(BATCH_NORM, batch_norm)
OP(LAYER_NORM, layer_norm)
OP(DROPOUT, dropout)
OP(STANDARDIZE, standardize)
OP(SCALE, scale)
