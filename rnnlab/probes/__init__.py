"""Probes: what a gradient does on its way back through time and depth."""

from rnnlab.probes.clipping import ClippingSummary, clipped, clipping_summary
from rnnlab.probes.contributions import Contributions, contributions, product_contributions, step_gradients
from rnnlab.probes.factors import Factors, scalar_factors
from rnnlab.probes.fits import DecayFit, fit_decay
from rnnlab.probes.gradients import (
    GradientNorms,
    Measured,
    Summary,
    gradient_norms,
    log_norm,
    log_norms,
    summarise,
    value_and_grad,
)
from rnnlab.probes.jacobians import product_singular_values, step_jacobians
from rnnlab.probes.lags import lag_matrix, mean_over_lags
from rnnlab.probes.log_adjoint import LogAdjoint, log_adjoint, log_gradient_norms
from rnnlab.probes.lyapunov import largest_exponent

__all__ = [
    "ClippingSummary", "Contributions", "DecayFit", "Factors", "GradientNorms", "LogAdjoint", "Measured", "Summary",
    "clipped", "clipping_summary", "contributions", "fit_decay", "gradient_norms", "lag_matrix", "largest_exponent",
    "log_adjoint", "log_gradient_norms", "log_norm", "log_norms", "mean_over_lags", "product_contributions",
    "product_singular_values", "scalar_factors", "step_gradients", "step_jacobians", "summarise", "value_and_grad",
]  # fmt: skip
