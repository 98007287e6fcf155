"""Probes: what a gradient does on its way back through time and depth."""

from rnnlab.probes.curvature import Sharpness, hessian_product, output_sensitivity, sharpness
from rnnlab.probes.depth import DepthRatios, depth_ratios
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
from rnnlab.probes.lyapunov import largest_exponent
from rnnlab.probes.mean_field import (
    GatedMeanField,
    MeanField,
    critical_line,
    gru_mean_field,
    lstm_mean_field,
    mean_field,
    phase_diagram,
)
from rnnlab.probes.rtrl import ForwardGradient, TruncationBias, lag_gradients, rtrl, truncation_bias

__all__ = [
    "Bootstrap", "DecayFit", "DepthRatios", "ForwardGradient", "Gate", "GateStatistics", "GatedMeanField",
    "GradientNorms", "Interval", "Laws", "MeanField", "Measured", "MemoryPaths", "PowerFit", "Sharpness", "Summary",
    "TruncationBias", "align", "bootstrap_decay", "compare_laws", "critical_line", "depth_ratios", "fit_decay",
    "fit_power", "gate_of", "gate_statistics", "gradient_norms", "gru_mean_field", "hessian_product",
    "lag_gradients", "largest_exponent", "log_norm", "log_norms", "lstm_mean_field", "mean_field", "memory_paths",
    "output_sensitivity", "phase_diagram", "product_singular_values", "rtrl", "sharpness", "step_jacobians",
    "summarise", "truncation_bias", "value_and_grad",
]  # fmt: skip
