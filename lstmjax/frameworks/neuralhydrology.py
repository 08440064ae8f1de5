"""neuralhydrology: the state dicts of `EALSTM`, `MCLSTM`, `CudaLSTM` and `CustomLSTM` (neuralhydrology/modelzoo, 1.13).

Its `CudaLSTM` holds a `torch.nn.LSTM` under PyTorch's names, and is read as such; `CustomLSTM` is the same network with
other names for the arrays. `EALSTM` is a vanilla LSTM with
zeros between its blocks (see `entity.py`): `fold` replaces its arrays by those of that LSTM, so that everything which
reads files of PyTorch reads it. `MCLSTM` is no LSTM with other gates; `from_neuralhydrology` reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lstmjax.arguments import one_of
from lstmjax.entity import EntityParams
from lstmjax.errors import Option
from lstmjax.frameworks.base.contents import Leaf
from lstmjax.frameworks.base.framework import Framework, Leaves
from lstmjax.frameworks.base.layouts import ConvertError, to_jax
from lstmjax.frameworks.torch.checkpoints import read_torch
from lstmjax.frameworks.torch.module import from_torch
from lstmjax.mass import MassGate, MassParams
from lstmjax.networks import Dense
from lstmjax.stack import Layers
from lstmjax.types import LSTMParams

ENTITY = (
    "input_gate.weight",
    "input_gate.bias",
    "dynamic_gates.weight_ih",
    "dynamic_gates.weight_hh",
    "dynamic_gates.bias",
)
"""The arrays of `EALSTM`: [H, S], [H], [I, 3H], [H, 3H] and [3H], with the gates f, o, g side by side."""
MASS = tuple(
    f"mclstm.{gate}.fc.{a}" for gate in ("input_gate", "redistribution", "output_gate") for a in ("weight", "bias")
)
"""The arrays of `MCLSTM`: each gate is a Linear of [mass, auxiliary inputs, share of the stored mass]."""


CUSTOM = {
    "weight_ih_l0": "cell.w_ih",
    "weight_hh_l0": "cell.w_hh",
    "bias_ih_l0": "cell.b_ih",
    "bias_hh_l0": "cell.b_hh",
}
"""The arrays of `CustomLSTM`, by the names that `CudaLSTM` has for them."""


class FromNeuralhydrology(NamedTuple):
    """What `from_neuralhydrology` reads."""

    params: EntityParams | MassParams | Layers  # of EALSTM, MCLSTM, or CudaLSTM and CustomLSTM
    head: Dense | None  # w [H, O], b [O]: of the head "regression", without its output_activation


def from_neuralhydrology(source: Any, *, extra: str = "refuse") -> FromNeuralhydrology:
    """Return the parameters of a model of neuralhydrology, bit by bit: `EALSTM`, `MCLSTM`, `CudaLSTM`, `CustomLSTM`.

    Args:
        source: the path of a checkpoint (`model_epoch030.pt`), the model, its `state_dict()`, or any mapping of its
            names to arrays.
        extra: "refuse" what is neither the layer nor a head of one Linear (an embedding of the inputs, a head CMAL,
            GMM or UMAL), or "drop" it.

    Returns:
        (params, head): `EntityParams` for `entity_aware`, `MassParams` for `mass_conserving` in the form "hydrology",
        or a tuple of layers for `stacked`, whose xs are the dynamic inputs followed by the static attributes; and the
        head: predictions are ys · w + b. `MCLSTM` has no head: its prediction is `outflow(hs)`. The head's
        `output_activation` stands in the configuration of the run alone. `input_gate`, `dynamic_gates` and so on take
        inputs as neuralhydrology's scaler leaves them.

    Raises:
        ConvertError: the names are of another model, there is more in it, or arrays do not fit each other.

    >>> arrays = {"input_gate.weight": np.ones((8, 27), "f"), "input_gate.bias": np.zeros(8, "f")}
    >>> arrays |= {"dynamic_gates.weight_ih": np.ones((5, 24), "f"), "dynamic_gates.weight_hh": np.ones((8, 24), "f")}
    >>> arrays |= {"dynamic_gates.bias": np.zeros(24, "f")}
    >>> params, head = from_neuralhydrology(arrays)
    >>> params.dynamic.w_x.shape, params.w_s.shape, head
    ((5, 3, 8), (27, 8), None)
    """
    one_of("extra", extra, ("refuse", "drop"))
    if isinstance(source, str | Path):
        source = read_torch(Path(source)).arrays
    arrays = source.state_dict() if hasattr(source, "state_dict") else source
    if not isinstance(arrays, Mapping):
        raise ConvertError(f"source is a {type(source).__name__}, expected a model, its state_dict() or a path")
    leaves = {name: Leaf(name, value) for name, value in arrays.items()}
    if leaves.keys() >= {*ENTITY}:
        params: Any = entity_params([np.asarray(leaves[name]) for name in ENTITY])
    elif leaves.keys() >= {*MASS}:
        params = mass_params([np.asarray(leaves[name]) for name in MASS])
    elif "lstm.weight_ih_l0" in leaves:
        params = from_torch({name: leaf for name, leaf in leaves.items() if name.startswith("lstm.")}, prefix="lstm.")
    elif leaves.keys() >= {*CUSTOM.values()}:
        params = from_torch({name: leaves[theirs] for name, theirs in CUSTOM.items()})
    else:
        raise ConvertError(
            "there is no EALSTM, MCLSTM, CudaLSTM or CustomLSTM of neuralhydrology in it; it holds "
            f"{', '.join(leaves) or 'nothing'}"
        )
    head = None
    if {"head.net.0.weight", "head.net.0.bias"} <= leaves.keys():
        w, b = (np.asarray(leaves[f"head.net.0.{name}"]) for name in ("weight", "bias"))
        head = to_jax(Dense(np.ascontiguousarray(w.T), b))  # type: ignore[arg-type]
    others = [name for name, leaf in leaves.items() if not leaf.used and not name.startswith("lstm.")]
    if others and extra == "refuse":
        raise ConvertError(
            f"it holds more than a layer and a head of one Linear: {', '.join(others)}. Pass ",
            Option("extra", "drop"),
            " to leave it behind",
        )
    return FromNeuralhydrology(to_jax(params), head)


def entity_params(arrays: Sequence[np.ndarray]) -> EntityParams:
    """Return the arrays of `ENTITY` as `EntityParams` of NumPy arrays."""
    w_s, b_s, w_x, w_h, b = arrays
    hidden = w_s.shape[0]
    found = tuple(a.shape for a in (b_s, w_h, b, w_x))
    if (
        w_s.ndim != 2
        or w_x.ndim != 2
        or found != ((hidden,), (hidden, 3 * hidden), (3 * hidden,), (len(w_x), 3 * hidden))
    ):
        shapes = ", ".join(f"{name} {a.shape}" for name, a in zip(ENTITY, arrays, strict=True))
        raise ConvertError(f"the arrays do not fit each other as those of an EALSTM of H units do: {shapes}")

    def gates(a: np.ndarray) -> Any:
        """Return an array `[..., 3H]` of f, o, g as one `[..., 3, H]` of f, g, o."""
        return np.ascontiguousarray(a.reshape(*a.shape[:-1], 3, hidden)[..., (0, 2, 1), :])

    transposed: Any = np.ascontiguousarray(w_s.T)
    bias: Any = b_s
    return EntityParams(LSTMParams(gates(w_x), gates(w_h), gates(b)), transposed, bias)


def mass_params(arrays: Sequence[np.ndarray]) -> MassParams:
    """Return the arrays of `MASS` as `MassParams` of NumPy arrays."""
    hidden = arrays[5].shape[0]
    masses = arrays[1].size // hidden if hidden else 0
    seen = arrays[4].shape[-1] if arrays[4].ndim else 0
    expected = ((masses * hidden, seen), (masses * hidden,), (hidden**2, seen), (hidden**2,), (hidden, seen), (hidden,))
    if tuple(a.shape for a in arrays) != expected or masses < 1 or seen <= masses + hidden:
        shapes = ", ".join(f"{name} {a.shape}" for name, a in zip(MASS, arrays, strict=True))
        raise ConvertError(f"the arrays do not fit each other as those of an MCLSTM of H units do: {shapes}")

    def gate(weight: np.ndarray, bias: np.ndarray, shape: tuple[int, ...]) -> MassGate:
        w = np.ascontiguousarray(weight.T).reshape(seen, *shape)
        parts: Any = w[:masses], w[masses:-hidden], w[-hidden:], bias.reshape(shape)
        w_m, w_a, w_c, b = parts
        return MassGate(b, w_a, w_c, w_m)

    i_w, i_b, r_w, r_b, o_w, o_b = arrays
    return MassParams(gate(i_w, i_b, (masses, hidden)), gate(r_w, r_b, (hidden, hidden)), gate(o_w, o_b, (hidden,)))


class OfVanilla(Leaf):
    """An array of the vanilla LSTM that an `EALSTM` is, computed of the arrays of the latter when it is read."""

    def __init__(self, name: str, sources: Sequence[Leaf], compute: Callable[[EntityParams], np.ndarray]):
        super().__init__(name, sources[2].value)
        self.sources, self.compute = tuple(sources), compute
        self.words = f"{name} of the blocks of an entity-aware LSTM, with zeros between them"
        self.assumed = "the inputs as the dynamic ones followed by the static attributes, for an EALSTM"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its sources."""
        return tuple(source.name for source in self.sources)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        a = self.compute(entity_params([np.asarray(source) for source in self.sources]))
        self.used = True
        return a


def rows(of_i: np.ndarray, of_others: np.ndarray) -> np.ndarray:
    """Return the input gate's `[N, H]` and the blocks f, g, o `[N, 3, H]` as PyTorch's `[4H, N]`."""
    wide = np.concatenate([of_i[:, None], of_others], axis=1)
    return np.ascontiguousarray(wide.reshape(len(wide), -1).T)


def _weight_ih(params: EntityParams) -> np.ndarray:
    w_x, w_s = np.asarray(params.dynamic.w_x), np.asarray(params.w_s)
    of_x = rows(np.zeros_like(w_x[:, 0]), w_x)
    return np.concatenate([of_x, rows(w_s, np.zeros((len(w_s), *w_x.shape[1:]), w_s.dtype))], axis=1)


def _weight_hh(params: EntityParams) -> np.ndarray:
    w_h = np.asarray(params.dynamic.w_h)
    return rows(np.zeros_like(w_h[:, 0]), w_h)


def _bias_ih(params: EntityParams) -> np.ndarray:
    return np.concatenate([np.asarray(params.b_s), np.asarray(params.dynamic.b).reshape(-1)])


def _bias_hh(params: EntityParams) -> np.ndarray:
    return np.zeros_like(_bias_ih(params))  # PyTorch keeps both or none


VANILLA = {"weight_ih_l0": _weight_ih, "weight_hh_l0": _weight_hh, "bias_ih_l0": _bias_ih, "bias_hh_l0": _bias_hh}


class Renamed(Leaf):
    """An array under the name that PyTorch has for it."""

    def __init__(self, name: str, source: Leaf):
        super().__init__(name, source.value)
        self.source = source

    @property
    def names(self) -> tuple[str, ...]:
        """The name of its source."""
        return (self.source.name,)


def fold(leaves: Leaves) -> dict[str, Leaf]:
    """Return the arrays of a file with the vanilla LSTM `lstm` in place of an `EALSTM` or a `CustomLSTM`.

    Raises:
        ConvertError: the file holds an `MCLSTM`.
    """
    folded = dict(leaves)
    for name in leaves:
        prefix = name.removesuffix(ENTITY[0])
        sources = [leaves.get(prefix + other) for other in ENTITY]
        present = [source for source in sources if source is not None]
        if name.endswith(ENTITY[0]) and len(present) == len(ENTITY):
            for source in present:
                del folded[source.name]
            for weight, compute in VANILLA.items():
                target = f"{prefix}lstm.{weight}"
                folded[target] = OfVanilla(target, present, compute)
        before = name.removesuffix(CUSTOM["weight_ih_l0"])
        if before != name and all(before + theirs in leaves for theirs in CUSTOM.values()):
            for weight, theirs in CUSTOM.items():
                folded[f"{before}lstm.{weight}"] = Renamed(f"{before}lstm.{weight}", folded.pop(before + theirs))
        if name.endswith(MASS[0]) and all(name.removesuffix(MASS[0]) + other in leaves for other in MASS):
            raise ConvertError(
                "it holds an MCLSTM of neuralhydrology, which is no LSTM with other gates. from_neuralhydrology(path) "
                "reads it, for mass_conserving"
            )
    return folded


ROW = Framework("neuralhydrology", fold=fold)
