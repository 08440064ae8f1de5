"""The published cells once more, in NumPy, each written out on its own from its paper; see `oracle.py`.

Every function works on one unbatched step in float64, or in complex numbers: with a point moved by
i·10⁻³⁰ along a direction, the imaginary part of what comes out is the derivative along it, to the last
bit or two and without a gradient derived by hand (Squire & Trapp 1998). That is how the gradients
of the rows are checked. Clipped numbers have the derivative of the side that they are on.

    steps, state = run("peephole", params, xs, (h, c))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lstmjax.oracle import Steps, sigmoid

Array = np.ndarray


def inner(p: Any, x: Array, h: Array, names: str) -> dict[str, Array]:
    """Return W_k x + R_k h + b_k for each gate of a cell, the gates named in their order in the parameters."""
    z = {}
    for k, name in enumerate(names):
        z[name] = x @ p.w_x[:, k] + h @ p.w_h[:, k]
        for b in (p.b, p.b_h):
            if b is not None:
                z[name] = z[name] + b[k]
    return z


def project(p: Any, m: Array) -> Array:
    """Return h: m, or its projection."""
    if p.w_p is None:
        return m
    return m @ p.w_p if p.b_p is None else m @ p.w_p + p.b_p


def plain(p: Any, x: Array, state: tuple, gate: Callable = sigmoid) -> tuple[Steps, tuple]:
    """Vanilla; with another function for σ, the hard ones."""
    h, c = state
    z = inner(p, x, h, "ifgo")
    i, f, g, o = gate(z["i"]), gate(z["f"]), np.tanh(z["g"]), gate(z["o"])
    c = f * c + i * g
    m = o * np.tanh(c)
    h = project(p, m)
    return Steps(i, f, g, o, z["i"], z["f"], z["g"], z["o"], c, m, h), (h, c)


def no_forget_gate(p: Any, x: Array, state: tuple) -> tuple[Steps, tuple]:
    """C' = c + i ⊙ g."""
    h, c = state
    z = inner(p, x, h, "igo")
    i, g, o = sigmoid(z["i"]), np.tanh(z["g"]), sigmoid(z["o"])
    c = c + i * g
    m = o * np.tanh(c)
    h = project(p, m)
    return Steps(i, np.ones_like(i), g, o, z["i"], None, z["g"], z["o"], c, m, h), (h, c)


def greff(variant: str) -> Callable:
    """Return a variant of Greff et al. (2017, section 3), whose vanilla LSTM has peepholes."""
    missing = {"NIG": "i", "NFG": "f", "NOG": "o", "CIFG": "f", "mirror": "i"}.get(variant)
    names = [k for k in "ifgo" if k != missing]

    def step(p: Any, x: Array, state: tuple) -> tuple[Steps, tuple]:
        y, c, *gates = state
        z = inner(p, x, y, "".join(names))
        peepholes = dict(zip([k for k in names if k != "g"], p.w_c, strict=True))
        if variant == "FGR":
            into = [sum(a @ p.w_r[n * len(c) : (n + 1) * len(c), k] for n, a in enumerate(gates)) for k in range(3)]
            z = {"i": z["i"] + into[0], "f": z["f"] + into[1], "g": z["g"], "o": z["o"] + into[2]}
        for k in "if":
            if k in peepholes:
                z[k] = z[k] + peepholes[k] * c
        one = np.ones(len(c))
        i = one if missing == "i" else sigmoid(z["i"])
        f = one if missing == "f" else sigmoid(z["f"])
        if variant == "CIFG":
            f = 1 - i
        if variant == "mirror":
            i = 1 - f
        g = z["g"] if variant == "NIAF" else np.tanh(z["g"])
        c = g * i + c * f
        if "o" in peepholes:
            z["o"] = z["o"] + peepholes["o"] * c
        o = one if missing == "o" else sigmoid(z["o"])
        m = o * (c if variant == "NOAF" else np.tanh(c))
        y = project(p, m)
        shown = Steps(i, f, g, o, z.get("i"), z.get("f"), z["g"], z.get("o"), c, m, y)
        return shown, (y, c, *((i, f, o) if variant == "FGR" else ()))

    return step


def normal(a: Array, gain: Array, shift: Array, epsilon: float) -> Array:
    """Layer normalisation of all numbers of a, in the shape of a."""
    mean = a.sum() / a.size
    deviation = np.sqrt(((a - mean) ** 2).sum() / a.size + epsilon)
    return gain * ((a - mean) / deviation) + shift


def layer_norm(carried: bool, epsilon: float) -> Callable:
    """Return the cell of Ba et al. (2016), or the one of TensorFlow Addons, which carries LN(c)."""

    def step(p: Any, x: Array, state: tuple) -> tuple[Steps, tuple]:
        h, c = state
        n = p.norm
        z = normal(np.einsum("i,igh->gh", x, p.w_x), n.x, n.x_shift, epsilon)
        z = z + normal(np.einsum("p,pgh->gh", h, p.w_h), n.h, n.h_shift, epsilon)
        z = z + sum(b for b in (p.b, p.b_h) if b is not None)
        i, f, g, o = sigmoid(z[0]), sigmoid(z[1]), np.tanh(z[2]), sigmoid(z[3])
        c = f * c + i * g
        seen = normal(c, n.c, n.c_shift, epsilon)
        c = seen if carried else c
        m = o * np.tanh(seen)
        h = project(p, m)
        return Steps(i, f, g, o, z[0], z[1], z[2], z[3], c, m, h), (h, c)

    return step


def clipped(a: Array, limit: float) -> Array:
    """Return a limited to [−limit, limit]; 0: as it is, as TensorFlow Lite reads it."""
    if limit == 0:
        return a
    return np.where(a.real > limit, limit, np.where(a.real < -limit, -limit, a))


def tensorflow_lite(
    *, cifg: bool, peephole: bool, layer_norm: bool, cell_clip: float = 0.0, proj_clip: float = 0.0
) -> Callable:
    """Return the cell of TensorFlow Lite (lstm_eval.cc, LstmStepWithAuxInput), gate after gate as it goes on there."""
    names = [k for k in "ifgo" if not (cifg and k == "i")]

    def step(p: Any, x: Array, state: tuple) -> tuple[Steps, tuple]:
        h, c = state
        z: dict[str, Any] = {"i": None}

        def gate(name: str, c: Array) -> Array:
            k = names.index(name)
            raw = x @ p.w_x[:, k] + h @ p.w_h[:, k]
            bias = sum(b[k] for b in (p.b, p.b_h) if b is not None)
            if not layer_norm:
                raw = raw + bias
            if peephole and name != "g":
                raw = raw + p.w_c[[n for n in names if n != "g"].index(name)] * c
            if layer_norm:
                raw = normal(raw, p.gain[k], bias, 1e-8)
            z[name] = raw
            return np.tanh(raw) if name == "g" else sigmoid(raw)

        i = None if cifg else gate("i", c)
        f, g = gate("f", c), gate("g", c)
        i = 1 - f if i is None else i
        c = clipped(f * c + g * i, cell_clip)
        o = gate("o", c)
        m = o * np.tanh(c)
        h = m if p.w_p is None else clipped(project(p, m), proj_clip)
        return Steps(i, f, g, o, z["i"], z["f"], z["g"], z["o"], c, m, h), (h, c)

    return step


def hard(slope: float) -> Callable:
    """Return the vanilla cell with the hard sigmoid of a slope."""

    def gate(z: Array) -> Array:
        line = slope * z + 0.5
        return np.where(line.real < 0, 0.0, np.where(line.real > 1, 1.0, line))

    return lambda p, x, state: plain(p, x, state, gate)


STEPS: dict[str, Callable] = {
    "vanilla": plain,
    "np": plain,
    "peephole": greff("vanilla"),
    "projection": greff("vanilla"),
    "nig": greff("NIG"),
    "nfg": greff("NFG"),
    "nog": greff("NOG"),
    "niaf": greff("NIAF"),
    "noaf": greff("NOAF"),
    "cifg": greff("CIFG"),
    "cifg_mirror": greff("mirror"),
    "fgr": greff("FGR"),
    "no_forget_gate": no_forget_gate,
    "layer_norm": layer_norm(False, 1e-5),
    "layer_norm_carried": layer_norm(True, 1e-3),
    "layer_norm_per_gate": tensorflow_lite(cifg=False, peephole=True, layer_norm=True),
    "hard_sigmoid_fifth": hard(1 / 5),
    "hard_sigmoid_sixth": hard(1 / 6),
}


def run(name: str | Callable, params: Any, xs: Array, state: tuple) -> tuple[Steps, tuple]:
    """Return everything that a cell computes over one sequence, and the state after it.

    Args:
        name: a row of `lstmjax.CELLS`; or a step of this module.
        params: anything with the fields of `LSTMParams`, of NumPy arrays, real or complex.
        xs: inputs `[T, I]`.
        state: what the cell carries: (h `[P]`, c `[H]`), for "fgr" with i, f and o `[H]` behind them.

    Returns:
        (steps, state): `Steps` of arrays `[T, H]`, h `[T, P]`; what a cell does not have is None.
    """
    step = STEPS[name] if isinstance(name, str) else name
    rows = []
    for x in xs:
        shown, state = step(params, x, state)
        rows.append(shown)
    return Steps(*(None if column[0] is None else np.stack(column) for column in zip(*rows, strict=True))), state
