"""Probes: what a gradient does on its way back through time and depth."""

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
from rnnlab.probes.lyapunov import largest_exponent

__all__ = [
    "DecayFit", "GradientNorms", "Measured", "Summary", "fit_decay", "gradient_norms", "largest_exponent", "log_norm",
    "log_norms", "product_singular_values", "step_jacobians", "summarise", "value_and_grad",
]  # fmt: skip
