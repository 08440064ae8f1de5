"""Unpickle a file of `torch.save`: numbers, words and claims about tensors, and nothing else.

PyTorch's reader, `torch.load(weights_only=True)`, is all or nothing: one path or one NumPy scalar among the
hyperparameters of a checkpoint, and it does not read the weights either. Here every other object becomes an
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
from types import MappingProxyType
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from lstmjax.claims import check_claim
from lstmjax.frameworks.base.contents import Unread
from lstmjax.frameworks.base.layouts import ConvertError

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
    negative: bool = False  # its numbers are those of the storage with the other sign


class StandIn:
    """Stand in for any object: accept whatever unpickling does to it, and do nothing."""

    name = "objects"  # of the class that it stands for

    def __new__(cls, *arguments: Any, **options: Any) -> StandIn:
        """Ignore the arguments."""
        return object.__new__(cls)

    def _ignore(*values: Any) -> None:
        pass

    __init__ = __setstate__ = __setitem__ = append = extend = add = _ignore

    def __call__(self, *arguments: Any) -> StandIn:
        """Stand in for the result of a call, too."""
        return self

    def __str__(self) -> str:
        """Return the name of the class: old checkpoints of Lightning have such objects as keys."""
        return self.name


class Folder(dict):
    """Stand in for an OrderedDict, whose attributes (`_metadata` of a state_dict) are dropped."""

    def __setstate__(self, state: Any) -> None:
        """Ignore the attributes."""


def _tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any, metadata: Any = None, *_: Any
) -> Tensor:
    # Its negative bit; the conjugate bit is for complex numbers, which are not read. Source: `set_tensor_metadata` in
    # torch/_utils.py.
    negative = isinstance(metadata, Mapping) and bool(metadata.get("neg"))
    return Tensor(storage, storage.dtype, offset, tuple(shape), tuple(strides), negative)


def _typed(
    storage: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any, dtype: Any, *more: Any
) -> Tensor:
    return _tensor(storage, offset, shape, strides, grad, hooks, *more)._replace(dtype=dtype)


BUILDERS: MappingProxyType[tuple[str, str], Callable[..., Any]] = MappingProxyType(
    {
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch._utils", "_rebuild_tensor_v3"): _typed,
        ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
        ("torch._utils", "_rebuild_parameter_with_state"): lambda data, *_: data,
        ("torch._tensor", "_rebuild_from_type_v2"): lambda build, kind, arguments, state: build(*arguments),
        ("collections", "defaultdict"): lambda *_: Folder(),
    }
)
"""The functions that a pickle may call, each replaced by a function that only returns a claim."""


class Builder:
    """A function of `BUILDERS` behind an object, so that no instruction of a pickle can change the function."""

    __slots__ = ("build",)

    def __init__(self, build: Callable[..., Any]):
        self.build = build

    def __call__(self, *arguments: Any) -> Any:
        """Return the claim."""
        return self.build(*arguments)

    def __setstate__(self, state: Any) -> None:
        """Ignore attributes."""


class Reader(pickle.Unpickler):
    """Unpickle claims about tensors; the names of all other classes and functions are collected in `others`."""

    def __init__(self, data: bytes):
        super().__init__(io.BytesIO(data), encoding="utf-8")
        self.others: list[str] = []

    def find_class(self, module: str, name: str) -> Any:
        """Return a stand-in for a class or function; nothing is imported."""
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
        """Return a claim about where the archive holds the numbers of a storage."""
        kind, dtype, key, *_ = pid
        if kind != "storage":
            raise ConvertError("is no file of torch.save: its data.pkl points to what is no storage")
        return Storage(dtype if isinstance(dtype, str) else "bytes", str(key))


def check_memo(data: bytes) -> None:
    """Refuse places in the unpickler's memo far beyond what the file can fill: it would reserve memory up to there."""
    for code, place, _ in pickletools.genops(data):
        if code.name in ("PUT", "BINPUT", "LONG_BINPUT") and isinstance(place, int) and place > len(data):
            raise ConvertError(f"claims to hold {place:,} objects in {len(data):,} bytes; it is damaged")


def read_arrays(parts: zipfile.ZipFile, root: str, claims: Mapping[str, Any], stored: int) -> dict[str, Any]:
    """Return the arrays that claims are about, or refuse claims for which the archive has too few numbers.

    Args:
        parts: the archive.
        root: the folder in it, with its slash.
        claims: by name; what is no claim about a tensor is returned as it is.
        stored: the size of the archive in bytes.

    Raises:
        ConvertError: a tensor reaches beyond its storage, or all of them are far larger than the archive.
    """
    tensors = [claim for claim in claims.values() if isinstance(claim, Tensor) and claim.dtype in DTYPES]
    big = f"{root}byteorder" in parts.namelist() and parts.read(f"{root}byteorder") == b"big"
    data = {key: parts.read(f"{root}data/{key}") for key in {claim.storage.key for claim in tensors}}
    arrays = {name: _array(name, claim, data, big) for name, claim in claims.items()}
    # Views of one storage cost nothing here, but whoever reads them makes an array of each.
    check_claim(sum(a.nbytes for a in arrays.values() if isinstance(a, np.ndarray)), stored)
    return arrays


def _array(name: str, claim: Any, data: Mapping[str, bytes], big: bool) -> Any:
    """Return a tensor as a view of its storage; `big`: the bytes of its numbers are big-endian."""
    if not isinstance(claim, Tensor):
        return claim
    if claim.dtype not in DTYPES:
        return Unread(claim.dtype)
    dtype = np.dtype(DTYPES[claim.dtype])
    stored = len(data[claim.storage.key]) // dtype.itemsize
    counts = (claim.offset, *claim.shape, *claim.strides)
    reach = claim.offset + sum((size - 1) * stride for size, stride in zip(claim.shape, claim.strides, strict=True))
    if min(counts) < 0 or math.prod(claim.shape) > stored or (0 not in claim.shape and reach >= stored):
        raise ConvertError(f"{name!r} claims shape {claim.shape}, for which there are too few numbers")
    numbers = np.frombuffer(data[claim.storage.key], dtype, stored)[claim.offset :]
    strides = tuple(stride * dtype.itemsize for stride in claim.strides)
    view = np.lib.stride_tricks.as_strided(numbers, claim.shape, strides, writeable=False)
    view = view.byteswap() if big else view
    return np.negative(view) if claim.negative and dtype != np.bool_ else view
