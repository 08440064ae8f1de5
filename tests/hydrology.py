"""The cells of hydrology once more: NumPy, float64, one sequence, one plain loop, written from the papers.

Every function works on complex numbers, too: with a number moved by i·10⁻³⁰, the imaginary part of what comes out is
the derivative by it (Squire & Trapp 1998), so that gradients are checked without any that were derived by hand.
"""

import jax
import numpy as np

STEP = 1e-30


def sigmoid(z):
    return 0.5 * (1.0 + np.tanh(0.5 * z))


def entity_aware(params, xs, statics, h, c, resets=None):
    """Run Kratzert et al. (2019) over xs `[T, I]`; the sequences of i, f, g, o, c and h, each `[T, H]`, and (h, c).

    resets: bool `[T]`: before a flagged step the state is 0.
    """
    w_x, w_h = params.dynamic.w_x, params.dynamic.w_h
    b = np.zeros(w_x.shape[1:]) if params.dynamic.b is None else params.dynamic.b
    i = sigmoid(statics @ params.w_s + (0.0 if params.b_s is None else params.b_s))
    rows = []
    for t, x in enumerate(xs):
        if resets is not None and resets[t]:
            h, c = np.zeros_like(h), np.zeros_like(c)
        z_f, z_g, z_o = (x @ w_x[:, k] + h @ w_h[:, k] + b[k] for k in range(3))
        f, g, o = sigmoid(z_f), np.tanh(z_g), sigmoid(z_o)
        c = f * c + i * g
        h = o * np.tanh(c)
        rows.append((i, f, g, o, c, h))
    return [np.stack(series) for series in zip(*rows, strict=True)], (h, c)


def derivatives(loss, arguments):
    """The derivative of a real number that `loss` computes of trees of arrays, by each number in them."""
    leaves, structure = jax.tree.flatten(jax.tree.map(lambda a: np.asarray(a, np.float64), arguments))
    results = []
    for n, leaf in enumerate(leaves):
        gradient = np.zeros(leaf.shape)
        for at in np.ndindex(leaf.shape):
            moved = leaf.astype(complex)
            moved[at] += 1j * STEP
            value = loss(*jax.tree.unflatten(structure, [*leaves[:n], moved, *leaves[n + 1 :]]))
            gradient[at] = value.imag / STEP
        results.append(gradient)
    return jax.tree.unflatten(structure, results)


def softmax(z):
    e = np.exp(z - z.real.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def shares_of_sigmoids(z):
    return sigmoid(z) / sigmoid(z).sum(-1, keepdims=True)


def shares_of_relus(z):
    """A unit whose row has nothing above 0 keeps its mass."""
    a = np.where(z.real > 0, z, 0.0)
    rows = [row / row.sum() if row.real.sum() > 0 else np.eye(len(row))[n] for n, row in enumerate(a)]
    return np.stack(rows)


FORMS = {"softmax": (softmax, softmax, 0.0), "hydrology": (shares_of_sigmoids, shares_of_relus, 1e-5)}


def mass_conserving(form, params, mass, aux, c, resets=None):
    """Run Hoedt et al. (2021) over mass `[T, M]` and aux `[T, A]`; sequences of i, R, o, m, c and h, and c."""
    to_units, between_units, least = FORMS[form]
    rows = []

    def gate(p, x, a, share):
        z = p.b
        for w, u in ((p.w_m, x), (p.w_a, a), (p.w_c, share)):
            z = z if w is None else z + np.tensordot(u, w, 1)
        return z

    for t, (x, a) in enumerate(zip(mass, aux, strict=True)):
        if resets is not None and resets[t]:
            c = np.zeros_like(c)
        norm = c.sum() + least
        seen = x, a, c / norm if norm != 0 else c
        i, r, o = to_units(gate(params.i, *seen)), between_units(gate(params.r, *seen)), sigmoid(gate(params.o, *seen))
        m = r.T @ c + i.T @ x
        h, c = o * m, (1 - o) * m
        rows.append((i, r, o, m, c, h))
    return [np.stack(series) for series in zip(*rows, strict=True)], c
