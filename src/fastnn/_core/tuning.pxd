"""Constants of scheduling; see tuning.pyx."""

cdef struct Tuning:
    double min_work          # multiplications per worker of one pass for which waking a second worker pays
    double training_share    # of min_work that a batch takes, as training workers stay awake
    double training_rows     # and the least rows of a batch per worker: each fetches the others' gradients
    double shard_rows        # least rows of a shard, where the number of shards may depend on the threads
    double product_ns        # of a row of one parameter in float32: a training step's time by one worker
    double exchange          # how many times what a pair was measured to cost they must save; 0: it is not asked
    int fixed_shards         # of a batch, when results must not depend on the number of workers
    double chunk_bytes       # of one chunk's rows, with everything that is kept for them
    double chunk_share       # elements of a chunk per parameter, beside chunk_bytes
    double forward_bytes     # of a chunk of a forward pass
    double linearize_bytes   # of a chunk of a linearization
    ptrdiff_t feature_rows   # rows of a shard from which a narrow network runs by feature
    ptrdiff_t feature_chunk  # rows of its chunks
    double feature_margin    # by which padded vectors must lengthen the products by row
    ptrdiff_t zeros_sample   # rows that are looked at for zeros; 0: none are skipped
    int zeros_forward        # heights of the tiles forward and backward, and how far apart the features of the
    int zeros_gradient       # latter are, where zeros are skipped; 0: as the sample says
    int zeros_apart
    double blas_work         # multiplications of a product from which BLAS takes it
    double stream_bytes      # of per-sample results from which on they are written past the caches
    size_t red_zone          # bytes between the parts of a workspace that are checked after each call; 0: none

cdef Tuning tuned
