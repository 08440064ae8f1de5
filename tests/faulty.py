"""Random parameters, and an LSTM in NumPy with places for faults: the other side of a verdict."""

import jax
import numpy as np

from lstmjax import LSTMParams, Norms, oracle

B, T, H = 3, 6, 4  # I = H, so that matrices can be transposed


def draw(rng, inputs=H, biases=2, peepholes=False, norm=False):
    """Random LSTMParams of NumPy float64 arrays, at the scale at which every gate matters."""
    b = [rng.normal(size=(4, H)) * 0.5 if n < biases else None for n in range(2)]
    w = [rng.normal(size=(n, 4, H)) * 0.5 for n in (inputs, H)]
    norms = Norms(*(rng.normal(size=shape) for _ in range(2) for shape in ((4, H), (4, H), (H,)))) if norm else None
    return LSTMParams(*w, *b, w_c=rng.normal(size=(3, H)) if peepholes else None, norm=norms)


def turn(a, lengths=None):
    """Every sequence backwards, within its length."""
    a = np.array(a)
    for n, row in enumerate(a):
        count = len(row) if lengths is None else lengths[n]
        row[:count] = row[:count][::-1].copy()
    return a


def hard(slope):
    return lambda z: np.clip(z / slope + 0.5, 0, 1)


def coarse(mantissa):
    """Rounds to that many bits behind the first."""

    def rounded(a):
        fraction, exponent = np.frexp(a)
        return np.ldexp(np.round(fraction * 2 ** (mantissa + 1)) / 2 ** (mantissa + 1), exponent)

    return rounded


def half(a):
    return np.where(np.abs(a) < 2.0**-14, 0, a.astype(np.float16).astype(float))


def numpy_lstm(p, xs, state=None, sigma=oracle.sigmoid, g=np.tanh, squash=np.tanh, old=False, fewer=lambda a: a):
    """The equations over a batch once more, with places for faults."""
    h, c = state or (np.zeros((len(xs), H)),) * 2
    w_c, ys = np.zeros((3, H)) if p.w_c is None else p.w_c, []
    for x in xs.swapaxes(0, 1):
        z = np.einsum("bi,igh->gbh", fewer(x), fewer(p.w_x)) + np.einsum("bp,pgh->gbh", fewer(h), fewer(p.w_h))
        z = z + sum(b for b in (p.b, p.b_h) if b is not None)[:, None]
        before = c
        c = sigma(z[1] + w_c[1] * c) * c + sigma(z[0] + w_c[0] * c) * g(z[2])
        h = sigma(z[3] + w_c[2] * (before if old else c)) * squash(c)
        ys.append(h)
    return np.stack(ys, axis=1)


def moved(p, by):
    return p._replace(b=p.b + np.eye(4)[1][:, None] * by)


def single(dtype=np.float32, **how):
    return jax.tree.map(lambda a: a.astype(dtype), draw(np.random.default_rng(5), biases=1, **how))
