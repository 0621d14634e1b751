/* Networks side by side, one in each lane of a vector: what an update of theirs needs. */
#ifndef FNN_LANES_H
#define FNN_LANES_H

#define FNN_MOST_LANES 16
#define FNN_LANE_CLASSES 32 /* columns up to which cross_entropy sums as lane_cross_entropy does */

/* One step of all lanes, by rules of the same kind with numbers of their own; without l1 and without clipping. */
typedef struct {
    int adam;        /* 0: sgd */
    int nesterov;    /* of sgd with momentum */
    int epsilon_hat; /* of adam */
    double scale;    /* 1 / Σ w */
    double rate[FNN_MOST_LANES], l2[FNN_MOST_LANES], decay[FNN_MOST_LANES], momentum[FNN_MOST_LANES];
    double beta1[FNN_MOST_LANES], beta2[FNN_MOST_LANES], epsilon[FNN_MOST_LANES];
    double bias1[FNN_MOST_LANES], bias2[FNN_MOST_LANES]; /* 1 − beta1ᵗ, 1 − beta2ᵗ */
} fnn_lane_step;

#endif
