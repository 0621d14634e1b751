/* Every update rule, as RULE(CODE, name). The list makes enum fnn_rule_kind (FNN_CODE) and the table of the functions
 * <name>_rule in rules.h. */
RULE(SGD, sgd)
RULE(NAG, nag)
RULE(ADAGRAD, adagrad)
RULE(RMSPROP, rmsprop)
RULE(ADAM, adam)
RULE(KFAC, kfac)
