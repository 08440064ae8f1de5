"""PyTorch: `torch.nn.LSTM` and `torch.nn.LSTMCell`, by their `state_dict`, files of these, and how they are run."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lstmjax.errors import Named, Option
from lstmjax.frameworks.base.contents import Contents, Leaf
from lstmjax.frameworks.base.framework import Leaves, Order, Pairs
from lstmjax.frameworks.base.guard import optional
from lstmjax.frameworks.base.layouts import (
    ConvertError,
    Fused,
    Layout,
    as_layers,
    check_uniform,
    natural,
    numbers,
    read,
    to_jax,
    write,
)
from lstmjax.frameworks.base.running import Outcome, sizes
from lstmjax.frameworks.torch.folds import fold
from lstmjax.frameworks.torch.objects import arrays_of, call, check_runs_as_lstm, only_lstm, outputs_of
from lstmjax.networks import Dense
from lstmjax.stack import Layers, directions
from lstmjax.types import Bidirectional

LAYOUT = Layout("torch", rows=True, biases=2, projection=True)
NAMES = {"w_x": "weight_ih", "w_h": "weight_hh", "b": "bias_ih", "b_h": "bias_hh", "w_p": "weight_hr"}


def from_torch(source: Any, *, prefix: str | None = None) -> Layers:
    """Return the layers of a `torch.nn.LSTM` or `LSTMCell`, bit by bit.

    Args:
        source: the module, its `state_dict()`, or any mapping of its names to arrays. In a larger model the
            LSTM is searched for. Of a module a parametrised weight is read as the module computes it.
        prefix: what stands before "weight_ih_l0" in the names; needed if there are several LSTMs.

    Returns:
        A tuple of `LSTMParams`, or of `Bidirectional` pairs, from the bottom up, for `stacked`; with
        two biases, as PyTorch stores them, and with w_p for `proj_size`.

    Raises:
        ConvertError: there is no LSTM, or there are several; weights are missing or do not fit; or the LSTM in a
            module has a forward of its own or hooks, so that it may compute something else.

    Example:
        >>> layers = from_torch({"weight_ih_l0": np.ones((8, 3), "f"), "weight_hh_l0": np.ones((8, 2), "f")})
        >>> layers[0].w_x.shape, layers[0].b
        ((3, 4, 2), None)
    """
    if not hasattr(source, "named_modules"):
        arrays = source.state_dict() if hasattr(source, "state_dict") else source
        if not isinstance(arrays, Mapping):
            raise ConvertError(f"source is a {type(source).__name__}, expected a torch.nn.LSTM or its state_dict()")
        return _layers(arrays, prefix)
    arrays = arrays_of(source)
    layers = _layers(arrays, prefix)
    name = (_prefix(fold(_leaves(arrays))) if prefix is None else prefix).rstrip(".")
    check_runs_as_lstm(source.get_submodule(name), name)
    return layers


def _layers(arrays: Mapping[str, Any], prefix: str | None) -> Layers:
    """Return the layers among arrays by PyTorch's names; see `from_torch`."""
    arrays = fold(_leaves(arrays))
    prefix = _prefix(arrays) if prefix is None else prefix
    layers: list[Any] = []
    used: set[str] = set()

    def part(suffix: str) -> Any:
        names = {field: f"{prefix}{name}{suffix}" for field, name in NAMES.items()}
        for field in ("w_x", "w_h"):
            if names[field] not in arrays:
                raise ConvertError(f"{names[field]!r} is missing; there are {', '.join(map(repr, list(arrays)[:20]))}")
        if (names["b"] in arrays) != (names["b_h"] in arrays):
            raise ConvertError(f"of {names['b']!r} and {names['b_h']!r} only one is there; PyTorch keeps both or none")
        fields = {field: np.asarray(arrays[name]) for field, name in names.items() if name in arrays}
        used.update(names.values())
        return read(LAYOUT, Fused(**fields), f"{prefix}{suffix.lstrip('_') or 'LSTMCell'}: ")

    if f"{prefix}weight_ih" in arrays:
        layers.append(part(""))
    else:
        while f"{prefix}weight_ih_l{len(layers)}" in arrays:
            suffix = f"_l{len(layers)}"
            pair = f"{prefix}weight_ih{suffix}_reverse" in arrays
            layers.append(Bidirectional(part(suffix), part(f"{suffix}_reverse")) if pair else part(suffix))
    if not layers:
        raise ConvertError(f"there is no {prefix + 'weight_ih_l0'!r} among {', '.join(map(repr, list(arrays)[:20]))}")
    of_an_lstm = re.compile(re.escape(prefix) + r"(weight|bias)_(ih|hh|hr).*")
    unused = [name for name in arrays if name not in used and of_an_lstm.fullmatch(name)]
    if unused:
        raise ConvertError(f"{', '.join(map(repr, unused))} belong to no layer: one below or one direction is missing")
    return to_jax(tuple(layers))


def _leaves(arrays: Mapping[str, Any]) -> dict[str, Leaf]:
    return {name: a if isinstance(a, Leaf) else Leaf(name, a) for name, a in arrays.items()}


def to_torch(layers: Any, *, prefix: str = "") -> dict[str, Any]:
    """Return the `state_dict` of a `torch.nn.LSTM` with these layers, bit by bit.

    One bias becomes `bias_ih` beside a `bias_hh` of zeros, since PyTorch has both or none. That computes the same, but
    under SGD the sum of two biases learns twice as fast.

    Args:
        layers: a tuple of layers, as `stacked` takes it, or one `LSTMParams`.
        prefix: what the names begin with.

    Raises:
        ConvertError: PyTorch's LSTM has no place for something, such as peepholes or layers of
            different sizes.
    """
    arrays = named(layers, prefix)
    torch = optional("torch")
    return {name: tensor(torch, a) for name, a in arrays.items()}


def named(layers: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """Return what `to_torch` returns, as NumPy arrays."""
    layers = as_layers(layers)
    arrays: dict[str, np.ndarray] = {}
    for n, layer in enumerate(layers):
        for part, suffix in zip(directions(layer), ("", "_reverse"), strict=False):
            fused = write(LAYOUT, part, where=f"layer {n}: ")
            for field, name in NAMES.items():
                array = getattr(fused, field)
                if array is not None:
                    arrays[f"{prefix}{name}_l{n}{suffix}"] = array
    check_uniform(LAYOUT, layers)
    return arrays


def tensor(torch: Any, a: np.ndarray) -> Any:
    """Return an array as a tensor that does not share its memory, bit by bit."""
    if a.dtype.name == "bfloat16":
        return torch.from_numpy(a.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(a.copy())


def prefixes(arrays: Iterable[str]) -> list[str]:
    """Return what the names of each LSTM begin with, in natural order.

    >>> prefixes(["up.weight_ih_l0", "down.weight_ih", "head.weight"])
    ['down.', 'up.']
    """
    ends = ("weight_ih_l0", "weight_ih")
    return sorted({name[: -len(end)] for name in arrays for end in ends if name.endswith(end)}, key=natural)


def prefix_of(arrays: Iterable[str], name: str) -> str:
    """Return what the names begin with of the LSTM that is called `name`, or whose name ends in it.

    Raises:
        ConvertError: there is none, or there are several.
    """
    every = prefixes(arrays)
    if f"{name}." in every:
        return f"{name}."
    matches = [prefix for prefix in every if prefix.endswith(f".{name}.")]
    if len(matches) != 1:
        some = f"{len(matches)} of them end" if matches else "none ends"
        raise ConvertError(f"there are the LSTMs {', '.join(p.rstrip('.') for p in every)}, and {some} in {name!r}")
    return matches[0]


def _prefix(arrays: Mapping[str, Any]) -> str:
    every = prefixes(arrays)
    if len(every) > 1:
        raise ConvertError("there are several LSTMs: ", Named("prefix"), f" can be {', '.join(map(repr, every))}")
    return every[0] if every else ""


def read_names(leaves: Leaves, order: Order, pairs: Pairs) -> Layers:
    """Return the layers among the arrays of a file; `order` names modules, the lowest first."""
    every = prefixes(leaves)
    if order is None and len(every) > 1:
        raise ConvertError(
            "there are several LSTMs: ",
            Named("prefix"),
            f" can be {', '.join(map(repr, every))}. If each of them runs on the outputs of the one before, pass ",
            Option("names"),
            " with all of them, from the bottom up",
        )
    chosen = [None] if order is None else [prefix_of(leaves, name) for name in order]
    return tuple(layer for prefix in chosen for layer in from_torch(leaves, prefix=prefix))


def write_names(layers: Layers, head: Dense | None, sum_biases: bool) -> Contents:
    """Return the arrays of a module with these layers as `lstm` and this head as `head`; of layers alone theirs."""
    if head is None:
        return Contents(named(layers))
    return Contents(named(layers, "lstm.") | {"head.weight": np.asarray(head.w).T, "head.bias": head.b})


def write_torch(contents: Contents, path: Path) -> None:
    """Write a `state_dict` as `torch.save` does."""
    torch = optional("torch")
    image = io.BytesIO()  # PyTorch does not say why it could not write a file
    torch.save({name: tensor(torch, a) for name, a in contents.arrays.items()}, image)
    path.write_bytes(image.getbuffer())


def run(layers: Layers, xs: Any, lengths: Any = None, d_ys: Any = None) -> Outcome:
    """Return what a `torch.nn.LSTM` with these layers computes; see `Peer.run`."""
    module = build(layers)
    inputs = as_tensor(xs, module).requires_grad_()
    ys = call(module, inputs, lengths)
    if d_ys is None:
        return Outcome(numbers(ys))
    ys.backward(as_tensor(d_ys, module))
    gradients = from_torch({name: p.grad for name, p in module.named_parameters()})
    return Outcome(numbers(ys), gradients, numbers(inputs.grad))


def itself(source: Any) -> tuple[Layers, Callable[[Any, Any], np.ndarray]]:
    """Return the layers of the only `torch.nn.LSTM` or `LSTMCell` in a module, and what runs it; see `Peer.itself`."""
    _, lstm = only_lstm(source)
    return _layers(arrays_of(lstm), None), partial(outputs_of, lstm)


def build(layers: Layers) -> Any:
    """Build the `torch.nn.LSTM` with these layers."""
    import torch

    inputs, hidden, count = sizes(layers[0])
    first = directions(layers[0])[0]
    state = to_torch(layers)
    module = torch.nn.LSTM(
        inputs,
        hidden,
        len(layers),
        bias="bias_ih_l0" in state,
        batch_first=True,
        bidirectional=count == 2,
        proj_size=0 if first.w_p is None else first.output_size,
        dtype=state["weight_ih_l0"].dtype,
    )
    module.load_state_dict(state)
    return module


def as_tensor(a: Any, module: Any) -> Any:
    """Return an array as a tensor of the dtype of a module's weights."""
    import torch

    return torch.from_numpy(np.array(a, np.float64)).to(next(module.parameters()).dtype)
