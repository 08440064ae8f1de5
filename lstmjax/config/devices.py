"""The key `mesh` of the configuration: over how many devices the batch and the hidden units are split."""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple

from pydantic import AfterValidator

AXES = ("data", "model")


class Split(NamedTuple):
    """Over how many devices the axes of a mesh go."""

    data: int | None  # parts of the batch; None: as many as there are devices for
    model: int  # parts of the hidden units


def parse_mesh(text: str) -> Split:
    """Return what the words of a mesh mean.

    Raises:
        ValueError: they are not "auto", or sizes of the axes data and model.

    >>> parse_mesh("data=4,model=2"), parse_mesh("model=2"), parse_mesh("auto")
    (Split(data=4, model=2), Split(data=None, model=2), Split(data=None, model=1))
    """
    sizes: dict[str, int] = {}
    for word in [] if text == "auto" else text.split(","):
        match = re.fullmatch(r"\s*(data|model)\s*=\s*([1-9]\d{0,5})\s*", word)
        if match is None or match[1] in sizes:
            raise ValueError(
                f"mesh is {text!r}; it should be auto, or the sizes of the axes data and model, such as data=4,model=2"
            )
        sizes[match[1]] = int(match[2])
    return Split(sizes.get("data"), sizes.get("model", 1))


def _checked(text: str) -> str:
    parse_mesh(text)
    return text


Mesh = Annotated[str, AfterValidator(_checked)]
