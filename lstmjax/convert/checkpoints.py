"""Files of PyTorch as people have them: a `state_dict`, or a checkpoint with one among much else.

What is no part of a model stays behind: by its structure (states of optimizers), by its class (settings), or because
the format says so (Lightning). What may be one, an unknown object or the scale of the inputs, is refused by name.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lstmjax.claims import archive
from lstmjax.convert.layouts import ConvertError
from lstmjax.convert.names import DEPTH, LEAVES, Beside, Contents, Object, Unread
from lstmjax.convert.pickled import Reader, StandIn, Storage, Tensor, check_memo, read_arrays

HARMLESS = re.compile(
    r"(argparse|pathlib|datetime|types|omegaconf|torch\.(Size|device))\b.*|numpy\.(_core|core)\.multiarray\.scalar|"
    r"(pytorch_)?lightning\b.*|.*\.(Attribute|Attr|Easy)Dict|.*\.\w*(Config|Args|Arguments|Options|Hparams)"
)
"""Classes of objects that are settings and bookkeeping, and no part of a model."""
SCALES = re.compile(r"((in|out)puts?_|[xy]_|features?_|data_|targets?_)?(means?|stds?|scales?|scaler|offsets?|norm\w*)")
"""Names of numbers beside the weights by which a model scales what it reads or gives: not to be dropped silently."""
STATES = ({"state", "param_groups"}, {"growth_factor", "backoff_factor"})
"""What stands in every state of an optimizer, and of a scaler of gradients."""
REMEDY = "Save the module's state_dict: torch.save(module.state_dict(), path)"


def read_torch(path: Path) -> Contents:
    """Read the tensors that `torch.save` wrote: a `state_dict`, or a checkpoint with one in it.

    Of a checkpoint, everything that is no weight becomes `Beside`: what Lightning keeps beside its `state_dict`,
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
            if not isinstance(tree, Mapping):
                if isinstance(tree, StandIn):
                    raise ConvertError(
                        f"holds {tree}, and to read that is to run code; only tensors are read. {REMEDY}"
                    )
                kind = "tensor" if isinstance(tree, Tensor) else type(tree).__name__
                raise ConvertError(f"holds a {kind}, expected a state_dict. {REMEDY}")
            claims = _flat(tree)
            if reader.others and not any(isinstance(claim, Tensor) for claim in claims.values()):
                raise ConvertError(
                    f"holds {reader.others[0]}, and to read that is to run code; only tensors are read. {REMEDY}"
                )
            return Contents(read_arrays(parts, root, claims, path.stat().st_size))


def _flat(tree: Mapping[Any, Any]) -> dict[str, Any]:
    """Return what a checkpoint holds by names such as model.lstm.bias_ih_l0; what is beside the weights as one name."""
    tree = {str(key): value for key, value in tree.items()}
    lightning = "pytorch-lightning_version" in tree and isinstance(tree.get("state_dict"), Mapping)
    nested = any(isinstance(value, Mapping) for value in tree.values())
    found: dict[str, Any] = {}
    waiting: list[tuple[str, Any, int]] = [("", tree, 0)]
    while waiting:
        name, value, depth = waiting.pop()
        if depth > DEPTH:
            raise ConvertError(f"{name[:60]!r}… has more than {DEPTH} folders")
        if len(found) + len(waiting) > LEAVES:
            raise ConvertError(f"holds more than {LEAVES:,} names")
        top = depth == 1 and name in tree
        if top and lightning and name != "state_dict":
            found[name] = Beside("what Lightning keeps beside weights")
        elif isinstance(value, Mapping):
            if any(names <= value.keys() for names in STATES):
                found[name] = Beside("state of an optimizer")
            else:
                waiting += reversed([(_join(name, key), each, depth + 1) for key, each in value.items()])
        elif isinstance(value, list | tuple) and not isinstance(value, Tensor | Storage) and _has_folders(value):
            waiting += reversed([(_join(name, n), each, depth + 1) for n, each in enumerate(value)])
        elif isinstance(value, Tensor):
            number = value.shape == () or "float" not in value.dtype
            found[name] = Beside("a number") if top and nested and number else value
        else:
            found[name] = _beside(name, value)
    return found


def _join(name: str, key: Any) -> str:
    return f"{name}.{key}" if name else str(key)


def _has_folders(values: list[Any] | tuple[Any, ...]) -> bool:
    return any(isinstance(value, Mapping | list | tuple) for value in values)


def _beside(name: str, value: Any) -> Any:
    """Return what a file says beside its tensors: `Beside` if it is no part of a model, else what is to be refused."""
    if isinstance(value, StandIn):
        return Beside(value.name) if HARMLESS.fullmatch(value.name) else Object(value.name, REMEDY)
    kind = type(value).__name__
    if SCALES.fullmatch(name.rpartition(".")[2].lower()):
        return Unread(kind)
    return value if value is None or isinstance(value, int | float | str) else Beside(kind)
