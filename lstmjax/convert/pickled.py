"""Read what `torch.save` has written, without unpickling anything but numbers, words and tensors.

PyTorch's reader, `torch.load(weights_only=True)`, is all or nothing: one path or one NumPy scalar among the
hyperparameters of a checkpoint, and the weights beside it cannot be had. Here every other object becomes an
inert stand-in, as the documentation of `pickle` advises ("Restricting Globals"): its class is never imported,
nothing is called, and what it holds is dropped.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from lstmjax.convert.guard import archive
from lstmjax.convert.layouts import ConvertError
from lstmjax.convert.names import DEPTH, LEAVES, Beside, Contents, Unread

DTYPES: MappingProxyType[str, Any] = MappingProxyType(
    {
        "float64": np.float64, "float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16,
        "int64": np.int64, "int32": np.int32, "int16": np.int16, "int8": np.int8, "uint8": np.uint8, "bool": np.bool_,
    }
)  # fmt: skip
STORAGES = MappingProxyType(
    {
        "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
        "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
        "ByteStorage": "uint8", "BoolStorage": "bool",
    }
)  # fmt: skip
"""PyTorch's names of typed storages, and the dtypes of their numbers."""
REMEDY = "Save the module's state_dict: torch.save(module.state_dict(), path)"


class Storage(NamedTuple):
    """A claim: these bytes of the archive are numbers of this dtype."""

    dtype: str
    key: str


class Tensor(NamedTuple):
    """A claim: a view of a storage; offset and strides count numbers, not bytes."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class StandIn:
    """Stand in the place of any object: take what unpickling does to it, and do nothing."""

    name = "objects"  # of the class that it stands for

    def __new__(cls, *arguments: Any, **options: Any) -> StandIn:
        """Ignore the arguments."""
        return object.__new__(cls)

    def _ignore(*values: Any) -> None:
        pass

    __init__ = __setstate__ = __setitem__ = append = extend = add = _ignore

    def __call__(self, *arguments: Any) -> StandIn:
        """Be what a function would return, too."""
        return self

    def __str__(self) -> str:
        """Return the name of the class, which old checkpoints of Lightning have as keys."""
        return self.name


class Folder(dict):
    """Stand in the place of an OrderedDict, whose attributes (`_metadata` of a state_dict) are dropped."""

    def __setstate__(self, state: Any) -> None:
        """Ignore the attributes."""


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    return Tensor(storage, storage.dtype, offset, tuple(shape), tuple(strides))


def _typed(storage: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any, dtype: Any, *_: Any) -> Tensor:
    return Tensor(storage, dtype, offset, tuple(shape), tuple(strides))


def _of_type(build: Any, kind: Any, arguments: Any, state: Any) -> Any:
    return build(*arguments)


BUILDERS: MappingProxyType[tuple[str, str], Callable[..., Any]] = MappingProxyType(
    {
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch._utils", "_rebuild_tensor_v3"): _typed,
        ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
        ("torch._utils", "_rebuild_parameter_with_state"): lambda data, *_: data,
        ("torch._tensor", "_rebuild_from_type_v2"): _of_type,
        ("collections", "defaultdict"): lambda *_: Folder(),
    }
)
"""The functions that a pickle may call, each replaced by one that only notes a claim."""


class Builder:
    """A function of `BUILDERS` in a shell, so that no instruction of a pickle can change it."""

    __slots__ = ("build",)

    def __init__(self, build: Callable[..., Any]):
        self.build = build

    def __call__(self, *arguments: Any) -> Any:
        """Note the claim."""
        return self.build(*arguments)

    def __setstate__(self, state: Any) -> None:
        """Ignore attributes."""


class Reader(pickle.Unpickler):
    """Unpickle claims about tensors; the names of all other classes and functions are collected in `others`."""

    def __init__(self, data: bytes):
        super().__init__(io.BytesIO(data), encoding="utf-8")
        self.others: list[str] = []

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands in the place of a class or function; nothing is imported."""
        if (module, name) in BUILDERS:
            return Builder(BUILDERS[module, name])
        if (module, name) == ("collections", "OrderedDict"):
            return Folder
        if module in ("torch", "torch.storage") and name in STORAGES:
            return STORAGES[name]
        if module == "torch" and re.fullmatch(r"bool|(b?float|u?int|complex)\w+", name):
            return name
        where = f"{module}.{name}"
        # A size or a device is a word beside the weights; whoever refuses a file need not name it.
        if where not in ("torch.Size", "torch.device"):
            self.others.append(where)
        return type("StandIn", (StandIn,), {"name": where})

    def persistent_load(self, pid: Any) -> Storage:
        """Note where the numbers of a storage stand in the archive."""
        kind, dtype, key, *_ = pid
        if kind != "storage":
            raise ConvertError("is no file of torch.save: its data.pkl points to what is no storage")
        return Storage(dtype if isinstance(dtype, str) else "bytes", str(key))


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
            _check_memo(data)
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
            order = parts.read(f"{root}byteorder") if f"{root}byteorder" in names else b"little"
            return Contents({name: _array(parts, root, order, name, claim) for name, claim in claims.items()})


def _check_memo(data: bytes) -> None:
    """Refuse places in the unpickler's memory far beyond what the file can fill: it would reserve all up to there."""
    for code, place, _ in pickletools.genops(data):
        if code.name in ("PUT", "BINPUT", "LONG_BINPUT") and isinstance(place, int) and place > len(data):
            raise ConvertError(f"claims to hold {place:,} objects in {len(data):,} bytes; it is damaged")


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
            if {"state", "param_groups"} <= value.keys():
                found[name] = Beside("state of an optimizer")
            else:
                waiting += reversed([(_join(name, key), each, depth + 1) for key, each in value.items()])
        elif isinstance(value, list | tuple) and not isinstance(value, Tensor | Storage) and _has_folders(value):
            waiting += reversed([(_join(name, n), each, depth + 1) for n, each in enumerate(value)])
        elif isinstance(value, Tensor):
            number = value.shape == () or "float" not in value.dtype
            found[name] = Beside("a number") if top and nested and number else value
        else:
            found[name] = _beside(value)
    return found


def _join(name: str, key: Any) -> str:
    return f"{name}.{key}" if name else str(key)


def _has_folders(values: list[Any] | tuple[Any, ...]) -> bool:
    return any(isinstance(value, Mapping | list | tuple) for value in values)


def _beside(value: Any) -> Any:
    """Return a number or a word as it is, and of anything else what it is."""
    if isinstance(value, StandIn):
        return Beside(value.name, REMEDY)
    return value if value is None or isinstance(value, int | float | str) else Beside(type(value).__name__)


def _array(parts: zipfile.ZipFile, root: str, order: bytes, name: str, claim: Any) -> Any:
    """Return the array that a claim is about, after a look at whether the archive has numbers for it."""
    if not isinstance(claim, Tensor):
        return claim
    if claim.dtype not in DTYPES:
        return Unread(claim.dtype)
    data = parts.read(f"{root}data/{claim.storage.key}")
    dtype = np.dtype(DTYPES[claim.dtype])
    counts = (claim.offset, *claim.shape, *claim.strides)
    reach = claim.offset + sum((size - 1) * stride for size, stride in zip(claim.shape, claim.strides, strict=True))
    stored = len(data) // dtype.itemsize
    if min(counts, default=0) < 0 or math.prod(claim.shape) > stored or (0 not in claim.shape and reach >= stored):
        raise ConvertError(f"{name!r} claims shape {claim.shape}, for which there are too few numbers")
    flat = np.frombuffer(data, dtype, stored)[claim.offset :]
    if order == b"big":
        flat = flat.byteswap()
    strides = tuple(stride * dtype.itemsize for stride in claim.strides)
    return np.ascontiguousarray(np.lib.stride_tricks.as_strided(flat, claim.shape, strides)).reshape(claim.shape)
