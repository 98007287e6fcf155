"""Mean field: what a wide network at random initialisation does to its signal and gradient, without building it.

The weights are taken as drawn anew at every step (untied), so that a pre-activation is Gaussian and independent of what
it multiplies: exact for an infinitely wide feed-forward net (Poole et al. 2016; Schoenholz et al. 2017). A recurrent
net has the same weights at every step. For a plain one that changes little (Chen, Pennington & Schoenholz 2018; row
R8); one with gates keeps a part of its state, and there it changes much: see `lstm_mean_field`.

Expectations are sums over an even grid of z in [-10, 10]. At the variances met here that converges faster than
Gauss-Hermite, for the poles of tanh(sqrt(q) z) are near: of chi at sigma_w = 3 (q = 6.3, tanh), 101, 128 and 256 points
of Gauss-Hermite are off by 6e-3, 2e-3 and 1.5e-5, and 128 and 256 of the grid by 2e-7 and 2e-16.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

Sigma = Float[Array, "..."] | Float[np.ndarray, "..."] | float | int
Activation = Callable[[Array], Array]

# An even number has no point at 0, the kink of a ReLU: its sums are then exact, by symmetry.
POINTS = 256
GATE_POINTS = 96  # the GRU's sums have two axes of them
HALVINGS = 64
CRITICAL = 1e-3  # nats a step within which a phase is called critical


class MeanField(NamedTuple):
    """q: variance of a pre-activation where it has settled, inf where it never does.
    chi: factor by which E delta^2 changes in one step back: the norm changes by sqrt(chi).
    xi: depth scale 1 / |ln chi|, steps in which E delta^2 changes by e; inf at chi = 1.
    phase: -1 gradients vanish, 0 critical (|ln chi| < 1e-3), 1 they explode."""

    q: Float[Array, "..."]
    chi: Float[Array, "..."]
    xi: Float[Array, "..."]
    phase: Int[Array, "..."]


class GatedMeanField(NamedTuple):
    """q: variance of a gate's pre-activation. hidden: E h^2. memory: E c^2 (of a GRU the same as hidden).
    untied: the chi of weights drawn anew at every step. chi: of weights that are the same at every step, as they are.
    xi, phase: as in `MeanField`, of chi."""

    q: Float[Array, "..."]
    hidden: Float[Array, "..."]
    memory: Float[Array, "..."]
    untied: Float[Array, "..."]
    chi: Float[Array, "..."]
    xi: Float[Array, "..."]
    phase: Int[Array, "..."]


def mean_field(
    activation: Activation, sigma_w: Sigma, sigma_v: Sigma = 0.0, sigma_b: Sigma = 0.0, *, points: int = POINTS
) -> MeanField:
    """Of h_t = activation(x_t V + h_{t-1} W + b), for any elementwise activation:

        q = sigma_w^2 E activation(sqrt(q) z)^2 + sigma_v^2 + sigma_b^2,   chi = sigma_w^2 E activation'(sqrt(q) z)^2

    with z of N(0, 1) (Chen, Pennington & Schoenholz 2018, equations 5 and 7). The entries of W are N(0, sigma_w^2 / N),
    x_t V has variance sigma_v^2 a unit (V of N(0, sigma_v^2 / D), inputs of N(0, 1)), b of N(0, sigma_b^2).
    The sigmas are numbers or arrays, broadcast: `phase_diagram` is a grid of them. The q that is found is the largest,
    by bisection; the only stable one where E activation^2 is concave in q, as for tanh, erf and relu.
    Cost: 150 x points activations a setting, float32 or float64 by the sigmas (Python numbers: the default type). Holds
    for a wide net with dense random weights (N >= 256: 4 %, row R8); measure `gradient_norms` for anything else.
    """
    sigma_w, sigma_v, sigma_b = _floats(sigma_w, sigma_v, sigma_b)
    z, weight = _gauss(points, sigma_w.dtype)
    slope = jax.vmap(jax.grad(lambda a: activation(a)))

    def expected(function: Activation, q: Array) -> Array:
        return (weight * function(jnp.sqrt(q)[..., None] * z) ** 2).sum(-1)

    drive = sigma_v**2 + sigma_b**2
    settle = lambda q: sigma_w**2 * expected(activation, q) + drive  # noqa: E731
    high = _bounded(settle, 1 + drive)
    q = _crossing(settle, high)
    flat = lambda a: slope(a.ravel()).reshape(a.shape)  # noqa: E731
    return MeanField(jnp.where(settle(high) < high, q, jnp.inf), *_scales(sigma_w**2 * expected(flat, q)))


def phase_diagram(
    activation: Activation, sigma_w: Float[Array, " N"], sigma_v: Float[Array, " M"], sigma_b: Sigma = 0.0
) -> MeanField:
    """`mean_field` over a grid: every field [M, N], a row a sigma_v and a column a sigma_w. Cost: M N settings."""
    return mean_field(activation, sigma_w[None, :], sigma_v[:, None], sigma_b)


def critical_line(activation: Activation, sigma_v: Sigma, sigma_b: Sigma = 0.0) -> Float[Array, "..."]:
    """The sigma_w at which chi = 1, for an activation whose chi grows with it, as that of tanh, erf and relu.

    It must lie below 64, and is 64 where it does not. Cost: 60 times `mean_field`. `initializers.critical` draws the
    weights of a tanh network with it.
    """
    sigma_v, sigma_b = _floats(sigma_v, sigma_b)
    explodes = lambda sigma_w: mean_field(activation, sigma_w, sigma_v, sigma_b).chi > 1  # noqa: E731
    halve = lambda _, ends: _halved(explodes, *ends)  # noqa: E731
    high = jnp.full_like(sigma_v + sigma_b, 1 / 16)
    # From below: far above the line q is so large that no grid resolves the activation.
    high = lax.fori_loop(0, 10, lambda _, high: jnp.where(explodes(high), high, 2 * high), high)
    return lax.fori_loop(0, 50, halve, (high / 2, high))[1]


def lstm_mean_field(
    sigma_w: Sigma, sigma_v: Sigma = 0.0, forget_bias: Sigma = 1.0, sigma_b: Sigma = 0.0, *, points: int = GATE_POINTS
) -> GatedMeanField:
    """Of `cells.lstm` whose four gates have weights as in `mean_field`; `forget_bias` is the mean of the forget gate's.

    Gates are independent of each other and of the carry, all of variance q = sigma_w^2 E h^2 + sigma_v^2 + sigma_b^2,
    and c is Gaussian. With the weights drawn anew at every step (the setting of Gilboa et al. 2019; derived here, their
    text was not at hand):

        E c^2 = E f^2 E c^2 + E i^2 E g^2,   E h^2 = E o^2 E tanh(c)^2

    and back in time, with d the total derivative by c_t, E d^2 = E dc^2 + E o^2 E tanh'(c)^2 E dh^2:

        E dc^2 <- E f^2 E d^2,   E dh^2 <- sigma_w^2 (B E d^2 + E o'^2 E tanh(c)^2 E dh^2)
        B = E c^2 E f'^2 + E g^2 E i'^2 + E i^2 E g'^2

    of which `untied` is the larger eigenvalue. With the same weights at every step f I + G, of which G is random but
    the same, is what a step does on average, and its powers grow by (E f + s)^2 and not by (E f)^2 + s^2, where
    s = sigma_w E i E g' E o E tanh'(c) is the size of G; `_tied` has the rest. Networks of 256 units (biases 0 to 5,
    sigma_w .5 to 2, sigma_v .3 and 1, lags 5 to 60) are within 4.2 % of `chi`, and at up to 1.67 times `untied`. Past
    chi = 1, where c grows for hundreds of steps, its moments are rough.
    Cost: 80 x 30 x points sigmoids a setting.
    """
    sigma_w, sigma_v, forget_bias, sigma_b = _floats(sigma_w, sigma_v, forget_bias, sigma_b)
    gauss, drive = _gauss(points, sigma_w.dtype), sigma_v**2 + sigma_b**2

    def moments(memory: Array) -> tuple:
        squashed = _moments(gauss, memory, jnp.tanh)

        def shown(_: Array, hidden: Array) -> Array:
            return _moments(gauss, sigma_w**2 * hidden + drive, jax.nn.sigmoid).square * squashed.square

        hidden = lax.fori_loop(0, 12, shown, jnp.zeros_like(memory))  # a gate hardly feels it: each leaves a tenth
        q = sigma_w**2 * hidden + drive
        gate, f = _moments(gauss, q, jax.nn.sigmoid), _moments(gauss, q, jax.nn.sigmoid, forget_bias)
        g = _moments(gauss, q, jnp.tanh)
        same = (sigma_w * gate.mean * g.mean_slope * gate.mean * squashed.mean_slope) ** 2
        return q, hidden, squashed, gate, f, g, same

    def settle(memory: Array) -> Array:
        _, _, _, gate, f, g, same = moments(memory)
        return _settled(gate.square * g.square, f, same)

    high = jnp.ones_like(sigma_w + drive + forget_bias)
    memory = _crossing(settle, _bounded(settle, high))
    q, hidden, squashed, gate, f, g, same = moments(memory)
    A, C = gate.square * squashed.square_slope, gate.square_slope * squashed.square * sigma_w**2
    B = memory * f.square_slope + g.square * gate.square_slope + gate.square * g.square_slope
    # The map [[F, F A], [B, A B + C]]: its eigenvalues have this half sum and this product.
    half, product = (f.square + A * B * sigma_w**2 + C) / 2, f.square * C
    untied = half + jnp.sqrt(jnp.maximum(half**2 - product, 0))
    return GatedMeanField(q, hidden, memory, untied, *_scales(_tied(untied, f, same)))


def gru_mean_field(
    sigma_w: Sigma, sigma_v: Sigma = 0.0, update_bias: Sigma = 0.0, sigma_b: Sigma = 0.0, *, points: int = GATE_POINTS
) -> GatedMeanField:
    """Of `cells.gru` (reset after the product, bn = 0); weights and assumptions as in `lstm_mean_field`.

    `update_bias` is the mean of the update gate's. With s = h_{t-1} U_n of variance sigma_w^2 E h^2, u = x_t W_n + b_n
    + r s and n = tanh(u), untied:

        E h^2 = E z^2 E h^2 + E (1-z)^2 E n^2
        chi = E z^2 + sigma_w^2 (E z'^2 (E h^2 + E n^2) + E (1-z)^2 (E (n' r)^2 + E (n' s r')^2))

    with n' = 1 - n^2 and r', z' the slopes of the sigmoids. With tied weights f is z, and s is sigma_w E (1-z) E n' r.
    Nothing is taken as Gaussian but the pre-activations. Cost: 64 x points^2 activations a setting.
    """
    sigma_w, sigma_v, update_bias, sigma_b = _floats(sigma_w, sigma_v, update_bias, sigma_b)
    drive = sigma_v**2 + sigma_b**2
    gauss = z, weight = _gauss(points, sigma_w.dtype)

    def candidate(hidden: Array) -> tuple[Array, Array, Array]:
        """E n^2, E n' r, E (n' r)^2 + E (n' s r')^2: over r, and over u given r; s^2 given both in closed form."""
        q = sigma_w**2 * hidden + drive
        r = jax.nn.sigmoid(jnp.sqrt(q)[..., None] * z)[..., None]
        outside, inside = (jnp.broadcast_to(a, q.shape)[..., None, None] for a in (drive, sigma_w**2 * hidden))
        variance = outside + r**2 * inside
        safe = jnp.where(variance > 0, variance, 1)
        n = jnp.tanh(jnp.sqrt(variance) * z)
        s_squared = inside * outside / safe + r**2 * inside**2 / safe * z**2
        slope = 1 - n**2
        found = n**2, slope * r, slope**2 * (r**2 + s_squared * (r * (1 - r)) ** 2)
        return tuple((weight[:, None] * weight * one).sum((-1, -2)) for one in found)

    def moments(hidden: Array) -> tuple:
        q = sigma_w**2 * hidden + drive
        kept, written = (_moments(gauss, q, jax.nn.sigmoid, mean) for mean in (update_bias, -update_bias))  # 1 - z
        n_squared, through, square = candidate(hidden)
        return q, kept, written, n_squared, square, (sigma_w * written.mean * through) ** 2

    def settle(hidden: Array) -> Array:
        _, kept, written, n_squared, _, same = moments(hidden)
        return _settled(written.square * n_squared, kept, same)

    high = jnp.ones_like(sigma_w + drive + update_bias)
    hidden = _crossing(settle, high)
    q, kept, written, n_squared, square, same = moments(hidden)
    untied = kept.square + sigma_w**2 * (kept.square_slope * (hidden + n_squared) + written.square * square)
    return GatedMeanField(q, hidden, hidden, untied, *_scales(_tied(untied, kept, same)))


class _Moments(NamedTuple):
    """E f, E f^2, E f', E f'^2."""

    mean: Array
    square: Array
    mean_slope: Array
    square_slope: Array


def _tied(untied: Array, keep: _Moments, same: Array) -> Array:
    """Growth of E delta^2 under J_t = (E f) I + G + noise: G random but the same at every step, noise new at each.

    Two copies of a path may pass through G at different times, if as often: K(k) = sum_j C(k, j)^2 x^(k-j) y^j with
    x = (E f)^2 and y = s^2 in k steps without noise, sum_k K(k) / chi^k = chi / sqrt((chi - x - y)^2 - 4 x y). Noise,
    of variance `untied` - x - y a step, sets both to one time again, and the sum over how often it does so diverges at
    chi = x + y + sqrt((untied - x - y)^2 + 4 x y). At x = 0, a plain tanh network, that is `untied`.
    """
    x = keep.mean**2
    return x + same + jnp.sqrt((untied - x - same) ** 2 + 4 * x * same)


def _settled(written: Array, keep: _Moments, same: Array) -> Array:
    """E c^2 of c_t = f c_{t-1} + G c_{t-1} + noise, by the same sum at chi = 1; `written` is E (i g)^2.

    Infinite where (E f + s) >= 1: nothing but the bend of the nonlinearity then holds it, at a larger c.
    """
    x = keep.mean**2
    inside = (1 - x - same) ** 2 - 4 * x * same
    left = jnp.sqrt(jnp.maximum(inside, 0)) + x + same - keep.square
    holds = (inside > 0) & (x + same < 1) & (left > 0)
    return jnp.where(holds, written / jnp.where(holds, left, 1), jnp.inf)


def _moments(gauss: tuple[Array, Array], q: Array, function: Activation, mean: Array | float = 0.0) -> _Moments:
    """Of a sigmoid or tanh of N(mean, q)."""
    z, weight = gauss
    a = function(jnp.asarray(mean, q.dtype)[..., None] + jnp.sqrt(q)[..., None] * z)
    slope = a * (1 - a) if function is jax.nn.sigmoid else 1 - a * a
    return _Moments(*((weight * one).sum(-1) for one in (a, a**2, slope, slope**2)))


def _gauss(points: int, dtype) -> tuple[Array, Array]:
    """Points and weights of E f(z), z of N(0, 1)."""
    z = (np.arange(points) - (points - 1) / 2) * (20 / points)
    weight = np.exp(-(z**2) / 2)
    return jnp.asarray(z, dtype), jnp.asarray(weight / weight.sum(), dtype)


def _floats(*sigmas: Sigma) -> list[Array]:
    """All of one float type: that of the arrays, or the default one for numbers."""
    arrays = [s for s in sigmas if not isinstance(s, float | int)]
    dtype = jnp.result_type(*arrays) if arrays else jnp.result_type(float)
    return [jnp.asarray(s, dtype) for s in sigmas]


def _bounded(settle: Activation, start: Array) -> Array:
    """A q above the last fixed point, found by steps of a factor 4; where there is none, 4^20 times the first guess."""
    grow = lambda _, q: jnp.where(settle(q) < q, q, 4 * q)  # noqa: E731
    return lax.fori_loop(0, 20, grow, jnp.broadcast_to(start, jax.eval_shape(settle, start).shape))


def _crossing(settle: Activation, high: Array) -> Array:
    """The q in [0, high] from which on settle(q) < q: bisection, which a slow approach (chi near 1) does not delay."""

    halve = lambda _, ends: _halved(lambda q: settle(q) < q, *ends)  # noqa: E731
    return lax.fori_loop(0, HALVINGS, halve, (jnp.zeros_like(high), high))[1]


def _halved(above: Callable[[Array], Array], low: Array, high: Array) -> tuple[Array, Array]:
    """The half of an interval in which `above` turns true."""
    middle = (low + high) / 2
    over = above(middle)
    return jnp.where(over, low, middle), jnp.where(over, middle, high)


def _scales(chi: Array) -> tuple[Array, Array, Array]:
    """chi, xi and the phase."""
    rate = jnp.log(chi)
    return chi, 1 / jnp.abs(rate), jnp.where(jnp.abs(rate) < CRITICAL, 0, jnp.sign(rate)).astype(jnp.int32)
