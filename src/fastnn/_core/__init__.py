"""The compiled core: kernels, BLAS and the engine. Checked Python faces are in fastnn.kernels and fastnn.network."""
