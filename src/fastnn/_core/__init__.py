"""The compiled core: kernels, BLAS and the engine. The public functions are in fastnn.kernels and fastnn.network."""
