"""The terms of the library: the parameters, a step and a state, as pytrees with names.

Letters, used everywhere: T time steps, B batch, I input features, H hidden units, P width of h
(P = H unless there is a projection), L layers, O outputs, G gate blocks. Leading batch axes are
written `...`; there may be none, one or many.
"""

from __future__ import annotations

from contextlib import suppress
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import jax

Array: TypeAlias = jax.Array
PyTree: TypeAlias = Any

GATES = ("i", "f", "g", "o")
"""The order of the gate blocks: input, forget, candidate, output."""

GATE_WORDS = MappingProxyType({"i": "input gate", "f": "forget gate", "g": "candidate", "o": "output gate"})
"""The gates' names in words."""


class GateParams(NamedTuple):
    """The part of the parameters that belongs to one gate; see `LSTMParams.gate`."""

    w_x: Array  # [I, H]
    w_h: Array  # [P, H]
    b: Array | None  # [H]
    b_h: Array | None  # [H]
    w_c: Array | None = None  # [H]
    gain: Array | None = None  # [H]


class Norms(NamedTuple):
    """Gains and shifts of a cell with layer normalisation (Ba et al. 2016); a shift may be None."""

    x: Array  # [G, H]  gain of the product with x
    h: Array  # [G, H]  gain of the product with the previous h
    c: Array  # [H]     gain of c
    x_shift: Array | None = None  # [G, H]
    h_shift: Array | None = None  # [G, H]
    c_shift: Array | None = None  # [H]


class LSTMParams(NamedTuple):
    """The parameters of one LSTM layer in one direction: a pytree, and nothing else.

    A field that is `None` does not exist: it is no leaf of the tree, gets no gradient and changes
    no equation. `GATES` names the gate axis G; H is the last axis, so that it can be sharded.
    Number of parameters: 4·(I·H + H·H + H) with one bias and no projection. The fields below w_p
    belong to some cells only; see `CELLS`.
    """

    w_x: Array  # [I, G, H]  from the input
    w_h: Array  # [P, G, H]  from the previous h
    b: Array | None = None  # [G, H]
    b_h: Array | None = None  # [G, H]  second bias, as PyTorch and cuDNN keep it
    w_p: Array | None = None  # [H, P]  projection h = m · w_p (Sak et al. 2014)
    w_c: Array | None = None  # [K, H]  peepholes of i, f and o, those that the cell has
    w_r: Array | None = None  # [3H, 3, H]  from the previous i, f and o to i, f and o
    norm: Norms | None = None  # layer normalisation of the products and of c
    gain: Array | None = None  # [G, H]  layer normalisation, each gate by itself, as in TensorFlow Lite
    b_p: Array | None = None  # [P]  bias of the projection

    @property
    def input_size(self) -> int:
        """I, the number of input features of one step."""
        return self.w_x.shape[0]

    @property
    def hidden_size(self) -> int:
        """H, the number of units: the size of every gate, of c and of m."""
        return self.w_x.shape[-1]

    @property
    def output_size(self) -> int:
        """P, the width of h: H, or the width of the projection."""
        return self.w_h.shape[0]

    def gate(self, name: str, blocks: tuple[str, ...] = GATES) -> GateParams:
        """Return the part of the parameters that belongs to one gate.

        Args:
            name: "i", "f", "g" or "o".
            blocks: the names along the gate axis: the `blocks` of the cell.

        Returns:
            `GateParams`: w_x `[I, H]`, w_h `[P, H]`, b, b_h, the peephole w_c and the gain `[H]` or None.

        Raises:
            ValueError: there is no such gate, or the gate axis is not as long as `blocks`.

        >>> import jax.numpy as jnp
        >>> params = LSTMParams(jnp.ones((5, 4, 10)), jnp.ones((10, 4, 10)), jnp.ones((4, 10)))
        >>> params.gate("f").w_x.shape
        (5, 10)
        """
        if name not in blocks:
            raise ValueError(f"gate {name!r} is not one of {', '.join(blocks)}.")
        if self.w_x.shape[1] != len(blocks):
            raise ValueError(
                f"w_x has {self.w_x.shape[1]} gate blocks, but {len(blocks)} names were given: {', '.join(blocks)}."
            )
        k = blocks.index(name)
        bias, bias_h, gain = (None if a is None else a[k] for a in (self.b, self.b_h, self.gain))
        with_peephole = [block for block in blocks if block != "g"]
        peephole = None if self.w_c is None or name == "g" else self.w_c[with_peephole.index(name)]
        return GateParams(self.w_x[:, k], self.w_h[:, k], bias, bias_h, peephole, gain)


AXES: MappingProxyType[type, MappingProxyType[str, str]] = MappingProxyType(
    {
        LSTMParams: MappingProxyType(
            {
                "w_x": "IGH", "w_h": "PGH", "b": "GH", "b_h": "GH", "w_p": "HP", "w_c": "KH", "w_r": "RSH",
                "gain": "GH", "b_p": "P",
            }
        ),
        Norms: MappingProxyType({"x": "GH", "h": "GH", "c": "H", "x_shift": "GH", "h_shift": "GH", "c_shift": "H"}),
    }
)  # fmt: skip
"""The axes of each array of the parameters; a letter is one size, wherever it stands. K peepholes, R = 3H, S = 3."""

LETTERS = MappingProxyType({**AXES[LSTMParams], **{f"norm.{name}": letters for name, letters in AXES[Norms].items()}})
"""The axes of each array of the parameters by its name, those of `Norms` as "norm.x"."""


def leading_axes(params: PyTree) -> tuple[int, ...]:
    """Return the leading axes that `jax.vmap` gave to all parameters; () for a single network.

    Args:
        params: `LSTMParams`, or a tree of them with or without a head.

    >>> import jax.numpy as jnp
    >>> params = LSTMParams(jnp.ones((5, 4, 10)), jnp.ones((10, 4, 10)))
    >>> leading_axes(params), leading_axes(jax.vmap(lambda k: params)(jnp.arange(7)))
    ((), (7,))
    """
    parts = jax.tree.leaves(params, is_leaf=lambda part: isinstance(part, LSTMParams))
    for part in parts:
        if isinstance(part, LSTMParams):
            return tuple(getattr(part.w_x, "shape", ())[: -len(AXES[LSTMParams]["w_x"])])
    return ()


class Step(NamedTuple):
    """Everything that one step of `cell_step` computes.

    All are `[..., H]` but h, which is `[..., P]`. A pre-activation that a cell does not have is None.
    When a wrapper such as zoneout changes h or c after the step, h and c are the changed ones;
    the gates and m are those of the cell.
    """

    i: Array  # input gate, 0 to 1
    f: Array  # forget gate, 0 to 1
    g: Array  # candidate, -1 to 1
    o: Array  # output gate, 0 to 1
    z_i: Array | None  # pre-activations
    z_f: Array | None
    z_g: Array | None
    z_o: Array | None
    c: Array  # cell state
    m: Array  # o ⊙ tanh(c), before a projection
    h: Array  # the step's output, [..., P]


class Bidirectional(NamedTuple):
    """A pair for the two directions of one layer: of parameters, or of states."""

    forward: Any
    reverse: Any


def exported(*trees: type) -> None:
    """Register named tuples with `jax.export`, so that functions which take or return them can be written to files."""
    for tree in trees:
        with suppress(ValueError):  # the module was loaded again: the name stands for its first class
            jax.export.register_namedtuple_serialization(tree, serialized_name=f"lstmjax.{tree.__name__}")


exported(GateParams, Norms, LSTMParams, Step, Bidirectional)
