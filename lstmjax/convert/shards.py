"""Weights in several files, as Hugging Face saves large models: an index says which array is in which file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lstmjax.convert.layouts import ConvertError
from lstmjax.convert.names import Contents

PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<end>\.\w+)")
INDEX = 2**26  # bytes; the index of the largest models has a few megabytes


def check_whole(path: Path) -> None:
    """Refuse a single file of a model in several files: it could look like a network of fewer layers.

    >>> check_whole(Path("model-00001-of-00001.safetensors"))
    """
    match = PART.fullmatch(path.name)
    if match is not None and int(match["count"]) > 1:
        raise ConvertError(
            f"is part {int(match['number'])} of {int(match['count'])}, and other layers may stand in the other parts; "
            f"read {match['stem']}{match['end']}.index.json, which names them all"
        )


def read_index(path: Path, read: Callable[[Path], Contents]) -> Contents:
    """Read the arrays of all files that an index names, in the folder of the index.

    Args:
        path: of the index, such as model.safetensors.index.json.
        read: reads one of the files.

    Raises:
        ConvertError: it is no index, or a file does not hold what the index says.
    """
    if path.stat().st_size > INDEX:
        raise ConvertError(f"has {path.stat().st_size:,} bytes; an index has at most {INDEX:,}")
    index = json.loads(path.read_text(encoding="utf-8"))
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise ConvertError("is no index of weights, which has a weight_map: the name of a file for each array")
    arrays: dict[str, Any] = {}
    for name in dict.fromkeys(places.values()):
        if Path(name).name != name or not (path.parent / name).is_file():
            raise ConvertError(f"names the file {name!r}, which does not stand beside it")
        arrays |= read(path.parent / name).arrays
    if missing := sorted(places.keys() - arrays.keys()):
        raise ConvertError(f"says that {missing[0]!r} stands in {places[missing[0]]}, which does not hold it")
    return Contents(arrays)
