"""Cells made for gradients, from their published equations."""

import math

import numpy as np
from equation import Equation, sigmoid


def skew(entries, H):
    """Entry by entry: a[i, j] above the diagonal, -a[i, j] below."""
    A, rest = np.zeros((H, H)), iter(entries)
    for i in range(H):
        for j in range(i + 1, H):
            A[i, j] = next(rest)
            A[j, i] = -A[i, j]
    return A


def mod_relu(z, b):
    return np.sign(z) * np.maximum(np.abs(z) + b, 0)


def cayley(A, negative):
    eye = np.eye(len(A))
    return np.linalg.inv(eye + A) @ (eye - A) @ np.diag([-1.0] * negative + [1.0] * (len(A) - negative))


def exponential(A):
    """Of a skew-symmetric matrix: iA is Hermitian, so exp(A) = V exp(-i values) V*."""
    values, V = np.linalg.eigh(1j * A)
    return (V * np.exp(-1j * values) @ V.conj().T).real


def orthogonal_step(transform):
    def step(p, carry, x):
        return carry._replace(h=mod_relu(x @ p.W + carry.h @ transform(skew(p.A, p.b.size)), p.b))

    return step


def unitary_matrix(p, permutation):
    """D3 R2 F^-1 D2 P R1 F D1, factor by factor, F with e^{-2 pi i jk / H}."""
    H = p.b.size
    D1, D2, D3 = (np.diag(np.exp(1j * angles)) for angles in p.angles)
    vectors = p.reflections[:, 0] + 1j * p.reflections[:, 1]
    R1, R2 = (np.eye(H) - 2 * np.outer(v, v.conj()) / np.vdot(v, v).real for v in vectors)
    F = np.exp(-2j * np.pi * np.outer(np.arange(H), np.arange(H)) / H) / math.sqrt(H)
    P = np.eye(H)[permutation]
    return D3 @ R2 @ F.conj().T @ D2 @ P @ R1 @ F @ D1


def unitary_step(seed):
    def step(p, carry, x):
        H = p.b.size
        W = p.W[:, :H] + 1j * p.W[:, H:]
        z = x @ W + unitary_matrix(p, np.random.default_rng(seed).permutation(H)) @ (carry.re + 1j * carry.im)
        h = np.maximum(np.abs(z) + p.b, 0) * np.where(z == 0, 0, z / np.where(z == 0, 1, np.abs(z)))
        return carry._replace(re=h.real, im=h.imag)

    return step


def ind_rnn_step(activation, bound=np.inf):
    def step(p, carry, x):
        return carry._replace(h=activation(x @ p.W + np.minimum(np.maximum(p.u, -bound), bound) * carry.h + p.b))

    return step


def antisymmetric_step(epsilon, gamma, activation):
    def step(p, carry, x):
        H = carry.h.size
        A = skew(p.U, H) - gamma * np.eye(H)
        return carry._replace(h=carry.h + epsilon * activation(x @ p.W + carry.h @ A + p.b))

    return step


def co_rnn_step(dt, gamma, epsilon):
    def step(p, carry, x):
        H = carry.y.size
        force = np.tanh(x @ p.W + carry.y @ p.U[:H] + carry.z @ p.U[H:] + p.b) - gamma * carry.y
        z = (carry.z + dt * force) / (1 + epsilon * dt)  # z - carry.z = dt (force - epsilon z)
        return carry._replace(y=carry.y + dt * z, z=z)

    return step


def lem_step(dt):
    def step(p, carry, x):
        H = carry.y.size
        W, b, U = np.split(p.W, 4, axis=1), np.split(p.b, 4), np.split(p.U, 3, axis=1)
        fast, slow = (dt * sigmoid(x @ W[k] + carry.y @ U[k] + b[k]) for k in (0, 1))
        z = (1 - fast) * carry.z + fast * np.tanh(x @ W[2] + carry.y @ U[2] + b[2])
        y = (1 - slow) * carry.y + slow * np.tanh(x @ W[3] + z @ p.V + b[3])
        assert p.V.shape == (H, H)
        return carry._replace(y=y, z=z)

    return step


def legendre(order, theta):
    """A and B of the delay, held for a step: the Taylor series of exp, entries from the paper's equation 2."""
    both = np.zeros((order + 1, order + 1))
    for i in range(order):
        for j in range(order):
            both[i, j] = (2 * i + 1) / theta * (-1 if i < j else (-1) ** (i - j + 1))
        both[i, order] = (2 * i + 1) * (-1) ** i / theta
    term = found = np.eye(order + 1)
    for k in range(1, 60):
        term = term @ both / k
        found = found + term
    return found[:order, :order], found[:order, order]


def lmu_step(theta):
    def step(p, carry, x):
        A, B = legendre(carry.m.size, theta)
        u = x @ p.x + carry.h @ p.h + carry.m @ p.m
        m = A @ carry.m + B * u
        return carry._replace(h=np.tanh(x @ p.W + carry.h @ p.U + m @ p.V), m=m)

    return step


def position(p, carry, x):
    return carry.y


def above(H):
    return H * (H - 1) // 2


def relu(a):
    return np.maximum(a, 0)


EQUATIONS = {
    "sco_rnn": Equation(orthogonal_step(lambda A: cayley(A, len(A) // 2)), lambda D, H: above(H) + D * H + H),
    "exp_rnn": Equation(orthogonal_step(exponential), lambda D, H: above(H) + D * H + H),
    "unitary_rnn": Equation(
        unitary_step(0), lambda D, H: 3 * H + 2 * 2 * H + 2 * D * H + H + 2 * H + 2 * H * H,
        lambda p, carry, x: np.concatenate([carry.re, carry.im]) @ p.V,
    ),
    "ind_rnn": Equation(ind_rnn_step(relu), lambda D, H: D * H + 2 * H),
    "antisymmetric_rnn": Equation(antisymmetric_step(0.1, 0.1, np.tanh), lambda D, H: D * H + above(H) + H),
    "co_rnn": Equation(co_rnn_step(0.05, 1.0, 1.0), lambda D, H: D * H + 2 * H * H + H, position),
    "lem": Equation(lem_step(1.0), lambda D, H: 4 * D * H + 4 * H * H + 4 * H, position),
    "lmu": Equation(lmu_step(100.0), lambda D, H: D * H + 2 * H * H + D + 2 * H),
}  # fmt: skip
