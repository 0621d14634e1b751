"""Linear algebra that knows nothing of networks: SciPy and NumPy, and this package's checks of numbers."""
