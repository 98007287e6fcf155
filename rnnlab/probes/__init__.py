"""Probes: what a gradient does on its way back through time and depth."""

from rnnlab.probes.bounds import Bounds, omega, recurrent_bounds
from rnnlab.probes.clipping import ClippingSummary, clipped, clipping_summary
from rnnlab.probes.contributions import Contributions, contributions, product_contributions, step_gradients
from rnnlab.probes.curvature import Sharpness, hessian_product, output_sensitivity, sharpness
from rnnlab.probes.depth import DepthRatios, depth_ratios
from rnnlab.probes.factors import Factors, scalar_factors
from rnnlab.probes.fits import (
    Bootstrap,
    DecayFit,
    Interval,
    Laws,
    PowerFit,
    align,
    bootstrap_decay,
    compare_laws,
    fit_decay,
    fit_power,
)
from rnnlab.probes.flossing import flossing_loss
from rnnlab.probes.gates import Gate, GateStatistics, MemoryPaths, gate_of, gate_statistics, memory_paths
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
from rnnlab.probes.lyapunov import LyapunovSpectrum, kaplan_yorke_dimension, largest_exponent, lyapunov_spectrum
from rnnlab.probes.mean_field import (
    GatedMeanField,
    MeanField,
    critical_line,
    gru_mean_field,
    lstm_mean_field,
    mean_field,
    phase_diagram,
)
from rnnlab.probes.products import (
    DenseProduct,
    Estimate,
    EstimatedProduct,
    dense_product,
    hutchinson,
    power_iteration,
    product_norms,
)
from rnnlab.probes.rtrl import ForwardGradient, TruncationBias, lag_gradients, rtrl, truncation_bias

__all__ = [
    "Bootstrap", "Bounds", "ClippingSummary", "Contributions", "DecayFit", "DenseProduct", "DepthRatios",
    "Estimate", "EstimatedProduct", "Factors", "ForwardGradient", "Gate", "GateStatistics", "GatedMeanField",
    "GradientNorms", "Interval", "Laws", "LogAdjoint", "LyapunovSpectrum", "MeanField", "Measured", "MemoryPaths",
    "PowerFit", "Sharpness", "Summary", "TruncationBias", "align", "bootstrap_decay", "clipped",
    "clipping_summary", "compare_laws", "contributions", "critical_line", "dense_product", "depth_ratios",
    "fit_decay", "fit_power", "flossing_loss", "gate_of", "gate_statistics", "gradient_norms", "gru_mean_field",
    "hessian_product", "hutchinson", "kaplan_yorke_dimension", "lag_gradients", "lag_matrix", "largest_exponent",
    "log_adjoint", "log_gradient_norms", "log_norm", "log_norms", "lstm_mean_field", "lyapunov_spectrum",
    "mean_field", "mean_over_lags", "memory_paths", "omega", "output_sensitivity", "phase_diagram",
    "power_iteration", "product_contributions", "product_norms", "product_singular_values", "recurrent_bounds",
    "rtrl", "scalar_factors", "sharpness", "step_gradients", "step_jacobians", "summarise", "truncation_bias",
    "value_and_grad",
]  # fmt: skip
