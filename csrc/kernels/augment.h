#ifndef FNN_AUGMENT_H
#define FNN_AUGMENT_H

#include <stddef.h>

/* Random changes of rows, as in AUGMENTATIONS (plan.py). */
enum fnn_augmentation_kind {
    FNN_AUGMENT_NOISE = 0,
    FNN_AUGMENT_SHIFT,
    FNN_AUGMENT_FLIP,
    FNN_AUGMENT_ROTATE,
    FNN_AUGMENT_ERASE,
    FNN_AUGMENT_CROP,
    FNN_AUGMENT_MIXUP /* takes a second row: engine/mixup.h */
};

/* One of them, of rows that are images (height, width, channels); see augment_body.h. */
typedef struct {
    int kind;
    ptrdiff_t height, width, channels;
    double amount, probability, fill;
} fnn_augmentation;

/* Elements of scratch that all of `n` need: an image with a border. */
static inline ptrdiff_t fnn_augment_scratch(const fnn_augmentation *all, int n)
{
    ptrdiff_t most = 0;
    for (int i = 0; i < n; i++) {
        const ptrdiff_t size = (all[i].height + 3) * (all[i].width + 3) * all[i].channels;
        most = size > most ? size : most;
    }
    return most;
}

/* The place of the mixup among `n` augmentations, -1 without one. */
static inline int fnn_mixup_place(const fnn_augmentation *all, int n)
{
    for (int i = 0; i < n; i++)
        if (all[i].kind == FNN_AUGMENT_MIXUP)
            return i;
    return -1;
}

#endif
