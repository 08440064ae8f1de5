"""PyTorch: `torch.nn.LSTM` and `torch.nn.LSTMCell`, by their `state_dict`, and files of these."""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lstmjax.convert.guard import archive, optional
from lstmjax.convert.layouts import LAYOUTS, ConvertError, Fused, as_layers, check_uniform, numbers, read, to_jax, write
from lstmjax.convert.names import Contents, flat
from lstmjax.stack import Layers, directions
from lstmjax.types import Bidirectional

LAYOUT = LAYOUTS["torch"]
NAMES = {"w_x": "weight_ih", "w_h": "weight_hh", "b": "bias_ih", "b_h": "bias_hh", "w_p": "weight_hr"}
# All that a pickled state_dict names: its dict, its tensors and the dtypes beside them. None of these runs code.
HARMLESS = re.compile(
    r"collections OrderedDict|torch \w+Storage|torch (Size|device|bool|(b?float|u?int|complex)\d+)|"
    r"torch\._utils _rebuild_(tensor_v2|parameter)"
)


def from_torch(source: Any, *, prefix: str | None = None) -> Layers:
    """Gives the layers of a `torch.nn.LSTM` or `LSTMCell`, bit by bit.

    Args:
        source: the module, its `state_dict()`, or any mapping of its names to arrays. Of a whole model
            the LSTM in it is taken.
        prefix: what stands before "weight_ih_l0" in the names; needed where there are several LSTMs.

    Returns:
        A tuple of `LSTMParams`, or of `Bidirectional` pairs, from the bottom up, for `stacked`; two
        biases as PyTorch keeps them, and w_p with `proj_size`.

    Raises:
        ConvertError: there is no LSTM, or there are several; weights are missing or do not fit.

    Example:
        >>> layers = from_torch({"weight_ih_l0": np.ones((8, 3), "f"), "weight_hh_l0": np.ones((8, 2), "f")})
        >>> layers[0].w_x.shape, layers[0].b
        ((3, 4, 2), None)
    """
    arrays = source.state_dict() if hasattr(source, "state_dict") else source
    if not isinstance(arrays, Mapping):
        raise ConvertError(f"source is a {type(source).__name__}, expected a torch.nn.LSTM or its state_dict()")
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
        found = {field: numbers(arrays[name]) for field, name in names.items() if name in arrays}
        used.update(names.values())
        return read(LAYOUT, Fused(**found), f"{prefix}{suffix.lstrip('_') or 'LSTMCell'}: ")

    if f"{prefix}weight_ih" in arrays:
        layers.append(part(""))
    else:
        while f"{prefix}weight_ih_l{len(layers)}" in arrays:
            suffix = f"_l{len(layers)}"
            pair = f"{prefix}weight_ih{suffix}_reverse" in arrays
            layers.append(Bidirectional(part(suffix), part(f"{suffix}_reverse")) if pair else part(suffix))
    if not layers:
        raise ConvertError(f"there is no {prefix + 'weight_ih_l0'!r} among {', '.join(map(repr, list(arrays)[:20]))}")
    left = [n for n in arrays if n not in used and re.fullmatch(re.escape(prefix) + r"(weight|bias)_(ih|hh|hr).*", n)]
    if left:
        raise ConvertError(f"{', '.join(map(repr, left))} belong to no layer: one below or one direction is missing")
    return to_jax(tuple(layers))


def to_torch(layers: Any, *, prefix: str = "") -> dict[str, Any]:
    """Gives the `state_dict` of a `torch.nn.LSTM` with these layers, bit by bit.

    One bias becomes `bias_ih` beside a `bias_hh` of zeros: PyTorch has both or none. It computes the
    same; under SGD the sum of two biases learns twice as fast.

    Args:
        layers: a tuple of layers, as `stacked` takes it, or one `LSTMParams`.
        prefix: what to put before the names.

    Raises:
        ConvertError: PyTorch's LSTM has no place for something, such as peepholes or layers of
            different sizes.
    """
    torch = optional("torch")
    return {name: tensor(torch, a) for name, a in named(layers, prefix).items()}


def named(layers: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """Gives what `to_torch` gives as NumPy arrays."""
    layers = as_layers(layers)
    found: dict[str, np.ndarray] = {}
    for n, layer in enumerate(layers):
        for part, suffix in zip(directions(layer), ("", "_reverse"), strict=False):
            fused = write(LAYOUT, part, where=f"layer {n}: ")
            for field, name in NAMES.items():
                if getattr(fused, field) is not None:
                    found[f"{prefix}{name}_l{n}{suffix}"] = getattr(fused, field)
    check_uniform(LAYOUT, layers)
    return found


def tensor(torch: Any, a: np.ndarray) -> Any:
    """Gives an array as a tensor of its own, bit by bit."""
    if a.dtype.name == "bfloat16":
        return torch.from_numpy(a.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(a.copy())


def _prefix(arrays: Mapping[str, Any]) -> str:
    ends = ("weight_ih_l0", "weight_ih")
    found = sorted({name[: -len(end)] for name in arrays for end in ends if name.endswith(end)})
    if len(found) > 1:
        raise ConvertError(f"there are several LSTMs: prefix can be {', '.join(map(repr, found))}")
    return found[0] if found else ""


def read_torch(path: Path) -> Contents:
    """Gives the tensors of a file that `torch.save` wrote of a `state_dict`, or of a dict with one in it."""
    torch = optional("torch")
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise ConvertError("is no whole ZIP archive, as torch.save has written it since PyTorch 1.6")
        with archive(file, path.stat().st_size) as parts:
            pickles = [name for name in parts.namelist() if re.fullmatch(r"[^/]*/data\.pkl", name)]
            if len(pickles) != 1:
                raise ConvertError("is no file of torch.save, which has one data.pkl in it")
            if damaged := parts.testzip():  # PyTorch does not look
                raise ConvertError(f"{damaged} in it is not what was saved: its checksum is wrong")
            _check_pickle(parts.read(pickles[0]))
        file.seek(0)
        tree = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(tree, Mapping):
        raise ConvertError(f"holds a {type(tree).__name__}, expected a state_dict")
    arrays = flat(tree, ".")
    for name, a in arrays.items():
        if isinstance(a, torch.Tensor) and a.numel() * a.element_size() > a.untyped_storage().nbytes():
            raise ConvertError(f"{name!r} claims shape {tuple(a.shape)}, for which there are too few numbers")
    return Contents(arrays)


def write_torch(contents: Contents, path: Path) -> None:
    """Writes a `state_dict` as `torch.save` does."""
    torch = optional("torch")
    image = io.BytesIO()  # PyTorch does not say why it could not write a file
    torch.save({name: tensor(torch, a) for name, a in contents.arrays.items()}, image)
    path.write_bytes(image.getbuffer())


def _check_pickle(data: bytes) -> None:
    """Refuses a pickle that names more than tensors, before anything of it is run."""
    for code, named, _ in pickletools.genops(data):
        if code.name in ("INST", "STACK_GLOBAL") or (code.name == "GLOBAL" and not HARMLESS.fullmatch(str(named))):
            what = str(named or "objects").replace(" ", ".")
            raise ConvertError(
                f"holds {what}, and to read that is to run code; only tensors are read. Save the module's state_dict: "
                "torch.save(module.state_dict(), path)"
            )
