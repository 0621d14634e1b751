"""Exact curvature of networks: Hessians, Gauss-Newton and Fisher matrices, their blocks, diagonals and products.

All functions take a network, data and the options of ``net.gradient``, and differentiate the same objective
J(θ) = Σ w ℓ / Σ w + ½ l2 ‖W‖². Matrices are in the layout of ``net.theta``; operators are those of SciPy. Per-sample
functions differentiate ℓ_i itself: no sample weight, 1/N or penalty. docs/theory.md has the equations.

==================================  =================================================================================
`hessian`, `ggn`,                   whole matrices (P, P)
`empirical_fisher`
`hessian_operator`,                 products with them, as scipy.sparse.linalg.LinearOperator
`ggn_operator`,
`empirical_fisher_operator`
`hessian_blocks`, `ggn_blocks`      diagonal blocks, layer by layer
`hessian_diagonal`, `ggn_diagonal`  exact diagonals
`per_sample_hessian_blocks`         one layer's block for every row, or its two Kronecker factors
`kfac_factors`                      Kronecker factors of dense layers, and their damped inverse
`preconditioner`                    the diagonal one of docs/theory.md, eq. 5.9
`per_sample_gradients`              (N, P)
`output_jacobian`                   (N, K, P), outputs by parameters
`input_jacobian`, `input_hessian`   (N, K, D) and (N, K, D, D), outputs by inputs; with y (N, D, D), losses by inputs
`softmax_jacobian`                  (N, K, K), probabilities by outputs
`convexity_report`, `spectrum`,     what the curvature says about a network
`trace`
`Laplace`                           Gaussian posterior of the parameters, its evidence and predictions
`standard_errors`, `influence`      of a fitted network's parameters; of its training rows
==================================  =================================================================================
"""

from __future__ import annotations

from ..names import listing
from .blocks import Preconditioner, ggn_blocks, ggn_diagonal, hessian_blocks, hessian_diagonal, preconditioner
from .convexity import ConvexityReport, LayerConvexity, convexity_report
from .jacobians import input_hessian, input_jacobian, output_jacobian, softmax_jacobian
from .kfac import KFACFactors, kfac_factors
from .laplace import Laplace
from .per_sample import per_sample_gradients, per_sample_hessian_blocks
from .predictive import Predictive
from .products import CurvatureOperator, empirical_fisher_operator, ggn_operator, hessian_operator
from .spectrum import Spectrum, spectrum, trace
from .uncertainty import influence, standard_errors
from .whole import empirical_fisher, ggn, hessian

__all__ = [
    "ConvexityReport",
    "CurvatureOperator",
    "KFACFactors",
    "Laplace",
    "LayerConvexity",
    "Preconditioner",
    "Predictive",
    "Spectrum",
    "convexity_report",
    "empirical_fisher",
    "empirical_fisher_operator",
    "ggn",
    "ggn_blocks",
    "ggn_diagonal",
    "ggn_operator",
    "hessian",
    "hessian_blocks",
    "hessian_diagonal",
    "hessian_operator",
    "influence",
    "input_hessian",
    "input_jacobian",
    "kfac_factors",
    "output_jacobian",
    "per_sample_gradients",
    "per_sample_hessian_blocks",
    "preconditioner",
    "softmax_jacobian",
    "spectrum",
    "standard_errors",
    "trace",
]
__dir__ = listing(__all__)
