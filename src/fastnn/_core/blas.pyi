"""SciPy's BLAS behind row-major signatures: for compiled code only."""
