"""Closed forms that the laboratory must reproduce: rows of rnnlab/probes/specs.py, measured as `closed_forms` does."""

import jax.numpy as jnp
import pytest

from experiments import _closed_forms_adjoint as adjoint
from experiments import _closed_forms_exact as exact
from experiments._closed_forms_check import require
from rnnlab.cells import CELLS
from rnnlab.probes.specs import R1, R2, R3, R4, R5, R6, R21

# R1


@pytest.mark.parametrize("seed", R1.seeds)
@pytest.mark.parametrize("gain", R1.setting["gains"])
def test_r1_singular_values_of_a_linear_network(gain, seed):
    require(exact.r1_singular_values(R1, gain, seed))


@pytest.mark.parametrize("seed", R1.seeds)
@pytest.mark.parametrize("gain", R1.setting["gains"])
def test_r1_gradient_norms_of_a_linear_network(gain, seed):
    require(exact.r1_gradients(R1, gain, seed))


# R2

both_types = pytest.mark.parametrize("dtype", [jnp.float64, pytest.param(jnp.float32, marks=pytest.mark.slow)])
two_seeds = pytest.mark.parametrize("seed", [R2.seeds[0], pytest.param(R2.seeds[1], marks=pytest.mark.slow)])


@both_types
@two_seeds
@pytest.mark.parametrize("name", CELLS)
def test_r2_taps_are_the_adjoint(name, seed, dtype):
    require([adjoint.r2_taps(R2, (CELLS[name](R2.setting["H"]),), seed, dtype, name)])


@both_types
@two_seeds
def test_r2_taps_are_the_adjoint_in_a_stack(seed, dtype):
    require([adjoint.r2_taps(R2, adjoint.r2_stack(R2), seed, dtype, "stack")])


# R3


@pytest.mark.parametrize("seed", R3.seeds)
def test_r3_product_of_scalar_factors(seed):
    require(exact.r3_factors(R3, seed))


# R4 and R5


@pytest.mark.parametrize("seed", R4.seeds)
@pytest.mark.parametrize("index", range(len(R4.setting["biases"])))
def test_r4_forget_bias_sets_the_decay(index, seed):
    require(exact.r4_decay(R4, index, seed))


@pytest.mark.parametrize("seed", R5.seeds)
@pytest.mark.parametrize("bias", R5.setting["biases"])
@pytest.mark.parametrize("name", R5.setting["cells"])
def test_r5_update_bias_sets_the_decay(name, bias, seed):
    require(exact.r5_decay(R5, name, bias, seed))


# R6


@pytest.mark.parametrize("seed", R6.seeds)
def test_r6_gradient_over_time_and_depth(seed):
    require(exact.r6_paths(R6, seed))


# R21


@pytest.mark.parametrize("scale", R21.setting["scales"])
def test_r21_the_figure_of_the_book(scale):
    require([exact.r21_norms(R21, scale)])
