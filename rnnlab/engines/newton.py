"""The engine for any cell, all steps at once: Newton's method on the whole trajectory."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from rnnlab.engines.jacobians import Form, Vectors, full
from rnnlab.engines.scan import scan
from rnnlab.types import Cell, Engine, PyTree


class NewtonInfo(NamedTuple):
    """Of every example by itself. iterations: updates made. residual: the largest |step(carry_{t-1}) - carry_t| of what
    they led to, over the largest |carry| or 1. converged: whether the last update was below the tolerance; where it was
    not, the trajectory that is returned is the exact scan's."""

    iterations: Int[Array, "*B"]
    residual: Float[Array, "*B"]
    converged: Bool[Array, "*B"]


def newton(
    tol: float | None = None,
    max_iterations: int = 100,
    *,
    jacobian: Callable[[Cell, Vectors], Form] = full,
    guess: PyTree = None,
) -> Engine:
    """An engine that finds all carries at once, by Newton's method on carry_t = step(carry_{t-1}), t = 1 ... T.

    Every iteration takes all steps side by side, from the last trajectory, and corrects it by the solution of the
    linear recurrence d_t = J_t d_{t-1} + r_t (r: the residuals), one associative scan (Lim et al. 2024, DEER,
    section 3; Danieli et al. 2025). Each example converges by itself: what it gets depends on no other row.

    tol:            an example has converged when its largest correction is below tol times its largest |carry| (or
                    1); by default eps^(7/8), 9e-7 in float32.
    max_iterations: then it has not. Such an example gets the trajectory of `scan`, which then runs too, and
                    `info.converged` is False. So does one whose carries are not finite.
    jacobian:       `full`, all of J; or `diagonal`, what each unit has to do with itself (quasi-Newton), which needs
                    less of everything but more iterations, unless the cell is `diagonal`: then that is all of J.
    guess:          a trajectory like the carries, [T, *B, *event], to start from: the one before a step of training,
                    say. In the order in which the steps are taken: flipped where the cell runs in reverse. It changes
                    how many iterations it takes, and nothing else.

    Gradients, of first and second order and in either mode, are those of the exact recurrence at the trajectory found,
    with no iteration: two associative scans with the transposed Jacobians; where J is not held in full, or an example
    has not converged, one step after another.

    Pays where a step leaves the machine idle and the recurrence forgets: small B H, large T, on an accelerator, with a
    largest Lyapunov exponent below 0. At a positive one the linear recurrence explodes, and it does not converge.
    Memory, as XLA gives it to a GRU's training step on a CPU, S numbers in a carry: `full` 7 to 9 T B S^2 numbers,
    `diagonal` 43 T B S, `scan` 20 T B S. On a CPU it has been slower than `scan` at every size measured, and it is
    never a default.

    Raises ValueError for a tolerance or a number of iterations that is not positive, or a guess of other shapes;
    TypeError for a carry that is not of one float type.
    """
    if tol is not None and not tol > 0:
        raise ValueError(f"newton: expected tol > 0, got {tol}")
    if max_iterations < 1:
        raise ValueError(f"newton: expected max_iterations >= 1, got {max_iterations}")

    def engine(cell: Cell, weights: PyTree, carry: PyTree, inputs: PyTree) -> tuple[PyTree, NewtonInfo]:
        vectors = Vectors(jax.eval_shape(lambda weights: cell.start(weights, ()), weights))
        problem = _Problem(cell, vectors, jacobian(cell, vectors))
        _check_carry(cell, carry)
        length = jax.tree.leaves(inputs)[0].shape[0]
        like = jax.tree.map(lambda c: jax.ShapeDtypeStruct((length, *c.shape), c.dtype), carry)
        first = jax.tree.map(lambda c: jnp.zeros(c.shape, c.dtype), like) if guess is None else _checked(guess, like)
        given = lax.stop_gradient((weights, carry, inputs))
        found, info = _iterated(problem, given, vectors.ravel(lax.stop_gradient(first)), tol, max_iterations)
        found = lax.cond(
            info.converged.all(),
            lambda: found,
            lambda: jnp.where(info.converged[..., None], found, vectors.ravel(scan(cell, *given)[0])),
        )
        return vectors.unravel(_followed(problem, found, info.converged.all(), (weights, carry, inputs))), info

    return engine


class _Problem(NamedTuple):
    """carries = steps(carries before), with all carries as vectors [T, *B, S]."""

    cell: Cell
    vectors: Vectors
    form: Form

    def before(self, carry: PyTree, found: Array) -> Array:
        """The carry that each step starts from."""
        return jnp.concatenate([self.vectors.ravel(carry)[None], found[:-1]])

    def steps(self, weights: PyTree, zs: PyTree, before: Array) -> Array:
        """All of them side by side. Mapped over time, not handed over as one more axis: a noisy step wants one key."""
        return jax.vmap(self.step, (None, 0, 0))(weights, zs, before)

    def step(self, weights: PyTree, z: PyTree, before: Array) -> Array:
        return self.vectors.ravel(self.cell.step(weights, self.vectors.unravel(before), z))


def _iterated(
    problem: _Problem, given: tuple, guess: Array, tol: float | None, max_iterations: int
) -> tuple[Array, NewtonInfo]:
    weights, carry, inputs = given
    steps = partial(problem.steps, weights, problem.cell.drive(weights, inputs))
    form, rows = problem.form, guess.shape[1:-1]
    eps = float(jnp.finfo(guess.dtype).eps)
    tolerance = eps**0.875 if tol is None else tol

    def largest(v: Array) -> Array:
        return jnp.abs(v).max((0, -1))

    def going(state: tuple) -> Array:
        _, converged, iterations = state
        return jnp.any(~converged & (iterations < max_iterations))

    def update(state: tuple) -> tuple:
        found, converged, iterations = state
        now, push = jax.linearize(steps, problem.before(carry, found))
        residual = now - found
        by = _solved(form, form.of(push, found), residual)
        by = jnp.where(
            jnp.isfinite(by), by, residual
        )  # exploded: the plain step there, exact for one step more each time
        moved = found + by
        arrived = largest(by) <= tolerance * jnp.maximum(1, largest(moved))
        found = jnp.where(converged[..., None], found, moved)
        return found, converged | arrived, iterations + (~converged).astype(iterations.dtype)

    none = jnp.zeros(rows, bool), jnp.zeros(rows, jnp.int32)
    found, converged, iterations = lax.while_loop(going, update, (guess, *none))
    residual = largest(steps(problem.before(carry, found)) - found) / jnp.maximum(1, largest(found))
    return found, NewtonInfo(iterations, residual, converged)


def _solved(form: Form, J: PyTree, b: Array) -> Array:
    """d_t = J_t d_{t-1} + b_t from d_0 = 0, for all t at once."""

    def compose(earlier: tuple, later: tuple) -> tuple:
        (J, b), (J_, b_) = earlier, later
        return form.compose(J, J_), form.times(J_, b) + b_

    return lax.associative_scan(compose, (J, b))[1]


# The derivative.


def _followed(problem: _Problem, found: Array, converged: Array, given: tuple) -> Array:
    """`found`, with the derivatives of the solution that it is: two Newton steps of no length.

    At a solution one such step has its first derivatives, and the second one those up to the third order. They are
    ordinary code: a rule of our own (custom_jvp) gives wrong second derivatives inside another `lax.scan`, whose
    partial evaluation drops the rule (JAX 0.10.2).
    """
    weights, carry, inputs = given
    zs = problem.cell.drive(weights, inputs)
    for _ in range(2):
        before = problem.before(carry, found)
        off = problem.steps(weights, zs, before) - found
        found = found + _correction(problem, weights, zs, before, off - lax.stop_gradient(off), converged)
    return found


def _correction(problem: _Problem, weights: PyTree, zs: PyTree, before: Array, off: Array, converged: Array) -> Array:
    """d_t = J_t d_{t-1} + off_t; where all of off is 0, as outside of derivatives, nothing is computed."""
    pushed = jax.linearize(partial(problem.steps, weights, zs), before)[1]

    def remainder(d: Array) -> Array:
        return d - pushed(jnp.concatenate([jnp.zeros_like(d[:1]), d[:-1]]))

    def where_needed(at_once: Callable, one_by_one: Callable) -> Callable:
        exactly = (lambda b: lax.cond(converged, at_once, one_by_one, b)) if problem.form.exact else one_by_one
        return lambda _, b: lax.cond(jnp.any(b != 0), exactly, jnp.zeros_like, b)

    form, one_by_one = problem.form, partial(_one_by_one, problem, weights, zs, before)
    forwards = where_needed(lambda b: _solved(form, form.of(pushed, before), b), one_by_one)
    backwards = where_needed(
        lambda b: _solved_backwards(form, form.of(pushed, before), b),
        lambda b: jax.linear_transpose(one_by_one, b)(b)[0],
    )
    return lax.custom_linear_solve(remainder, off, forwards, backwards)


def _solved_backwards(form: Form, J: PyTree, b: Array) -> Array:
    """d_t = J_{t+1}^T d_{t+1} + b_t, from the last step to the first."""
    following = jax.tree.map(lambda j: jnp.concatenate([j[1:], jnp.zeros_like(j[:1])]), form.transpose(J))
    flip = lambda tree: jax.tree.map(lambda a: jnp.flip(a, 0), tree)  # noqa: E731
    return flip(_solved(form, flip(following), flip(b)))


def _one_by_one(problem: _Problem, weights: PyTree, zs: PyTree, before: Array, b: Array) -> Array:
    """d_t = J_t d_{t-1} + b_t, one step after another: no Jacobian is held, and none is multiplied with another."""

    def step(d: Array, inputs: tuple) -> tuple[Array, Array]:
        z, before, b = inputs
        d = jax.jvp(partial(problem.step, weights, z), (before,), (d,))[1] + b
        return d, d

    return lax.scan(step, jnp.zeros_like(b[0]), (zs, before, b))[1]


# Refusals.


def _check_carry(cell: Cell, carry: PyTree) -> None:
    types = {leaf.dtype for leaf in jax.tree.leaves(carry)}
    if len(types) != 1 or not all(jnp.issubdtype(one, jnp.floating) for one in types):
        found = ", ".join(sorted(map(str, types)))
        raise TypeError(f"newton: expected a carry of one float type, got {found} in {cell.name}; use engine=scan")


def _checked(guess: PyTree, like: PyTree) -> PyTree:
    if (given := jax.tree.map(jnp.shape, guess)) != (wanted := jax.tree.map(jnp.shape, like)):
        raise ValueError(f"newton: expected a guess of shapes {wanted} (one carry a step, no chunk), got {given}")
    return jax.tree.map(lambda g, one: jnp.nan_to_num(jnp.asarray(g, one.dtype)), guess, like)
