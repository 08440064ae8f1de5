"""Files of PyTorch as people have them: a `state_dict`, or a checkpoint with one among much else.

What is no part of a model is left out: because of its structure (states of optimizers), its class (settings), or the
format (Lightning). What may be a part of one, an unknown object or the scale of the inputs, is refused by name.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lstmjax.claims import archive
from lstmjax.frameworks.base.contents import Beside, Contents, Object, Unread, flat
from lstmjax.frameworks.base.layouts import ConvertError
from lstmjax.frameworks.torch.pickled import Reader, StandIn, Storage, Tensor, check_memo, read_arrays

HARMLESS = re.compile(
    r"(argparse|pathlib|datetime|types|omegaconf|torch\.(Size|device))\b.*|numpy\.(_core|core)\.multiarray\.scalar|"
    r"(pytorch_)?lightning\b.*|.*\.(Attribute|Attr|Easy)Dict|.*\.\w*(Config|Args|Arguments|Options|Hparams)"
)
"""Classes of objects that are settings or bookkeeping, and no part of a model."""
SCALES = re.compile(r"((in|out)puts?_|[xy]_|features?_|data_|targets?_)?(means?|stds?|scales?|scaler|offsets?|norm\w*)")
"""Names of numbers beside the weights by which a model scales what it reads or gives: not to be dropped silently."""
STATES = ({"state", "param_groups"}, {"growth_factor", "backoff_factor"})
"""The names in every state of an optimizer, and of a scaler of gradients."""
REMEDY = "Save the module's state_dict: torch.save(module.state_dict(), path)"


def read_torch(path: Path) -> Contents:
    """Read the tensors that `torch.save` wrote: a `state_dict`, or a checkpoint with a `state_dict` in it.

    Everything in a checkpoint that is no weight becomes `Beside`: what Lightning stores beside its `state_dict`,
    states of optimizers, numbers, words, lists of these, and objects, which are not unpickled.
    """
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise ConvertError(
                "is no whole ZIP archive, as torch.save has written it since PyTorch 1.6; load an older file in "
                "PyTorch, and torch.save its state_dict again"
            )
        with archive(file, path.stat().st_size) as parts:
            names = parts.namelist()
            pickles = [name for name in names if re.fullmatch(r"[^/]*/data\.pkl", name)]
            if len(pickles) != 1:
                raise ConvertError("is no file of torch.save, which has one data.pkl in it")
            root = pickles[0].removesuffix("data.pkl")
            if f"{root}constants.pkl" in names:
                raise ConvertError(
                    "is a program of TorchScript, which is not run. Save its weights: "
                    "torch.save(torch.jit.load(path).state_dict(), path)"
                )
            if damaged := parts.testzip():
                raise ConvertError(f"{damaged} in it is not what was saved: its checksum is wrong")
            data = parts.read(pickles[0])
            check_memo(data)
            reader = Reader(data)
            tree = reader.load()
            if isinstance(tree, StandIn):
                raise _runs_code(tree)
            if not isinstance(tree, Mapping):
                kind = "tensor" if isinstance(tree, Tensor) else type(tree).__name__
                raise ConvertError(f"holds a {kind}, expected a state_dict. {REMEDY}")
            claims = _flat(tree)
            if reader.others and not any(isinstance(claim, Tensor) for claim in claims.values()):
                raise _runs_code(reader.others[0])
            return Contents(read_arrays(parts, root, claims, path.stat().st_size))


def _runs_code(name: object) -> ConvertError:
    """Return the refusal of an object that could only be read by running code."""
    return ConvertError(f"holds {name}, and to read that is to run code; only tensors are read. {REMEDY}")


def _flat(tree: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the entries of a checkpoint by names such as model.lstm.bias_ih_l0, its bookkeeping as single ones."""
    tree = {str(key): value for key, value in tree.items()}
    lightning = "pytorch-lightning_version" in tree and isinstance(tree.get("state_dict"), Mapping)
    nested = any(isinstance(value, Mapping) for value in tree.values())
    for name, value in tree.items():
        if lightning and name != "state_dict":
            tree[name] = Beside("what Lightning keeps beside weights")
        elif nested and isinstance(value, Tensor) and (value.shape == () or "float" not in value.dtype):
            tree[name] = Beside("a number")
    if _is_state(tree):
        return {"": Beside("state of an optimizer")}
    return {name: _entry(name, value) for name, value in flat(tree, ".", _children).items()}


def _children(value: Any) -> Iterable[tuple[Any, Any]] | None:
    """Return what a folder of a checkpoint holds, by name; None of a leaf."""
    if isinstance(value, Mapping) and not _is_state(value):
        return value.items()
    plain = isinstance(value, list | tuple) and not isinstance(value, Tensor | Storage)
    if plain and any(isinstance(item, Mapping | list | tuple) for item in value):
        return enumerate(value)
    return None


def _is_state(tree: Mapping[Any, Any]) -> bool:
    """Return whether this is the state of an optimizer, or of a scaler of gradients."""
    return any(names <= tree.keys() for names in STATES)


def _entry(name: str, value: Any) -> Any:
    """Return a leaf as it is to be read: what is no part of a model as `Beside`, what must be refused as such."""
    if isinstance(value, Tensor | Beside):
        return value
    if isinstance(value, Mapping):
        return Beside("state of an optimizer")
    if isinstance(value, StandIn):
        return Beside(value.name) if HARMLESS.fullmatch(value.name) else Object(value.name, REMEDY)
    kind = type(value).__name__
    if SCALES.fullmatch(name.rpartition(".")[2].lower()):
        return Unread(kind)
    return value if value is None or isinstance(value, int | float | str) else Beside(kind)
