"""Probes: what a gradient does on its way back through time and depth."""

from rnnlab.probes.bounds import Bounds, omega, recurrent_bounds
from rnnlab.probes.fits import DecayFit, fit_decay
from rnnlab.probes.flossing import flossing_loss
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
from rnnlab.probes.lyapunov import LyapunovSpectrum, kaplan_yorke_dimension, largest_exponent, lyapunov_spectrum
from rnnlab.probes.products import (
    DenseProduct,
    Estimate,
    EstimatedProduct,
    dense_product,
    hutchinson,
    power_iteration,
    product_norms,
)

__all__ = [
    "Bounds", "DecayFit", "DenseProduct", "Estimate", "EstimatedProduct", "GradientNorms", "LyapunovSpectrum",
    "Measured", "Summary", "dense_product", "fit_decay", "flossing_loss", "gradient_norms", "hutchinson",
    "kaplan_yorke_dimension", "largest_exponent", "log_norm", "log_norms", "lyapunov_spectrum", "omega",
    "power_iteration", "product_norms", "product_singular_values", "recurrent_bounds", "step_jacobians", "summarise",
    "value_and_grad",
]  # fmt: skip
