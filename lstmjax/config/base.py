"""What the sections of the configuration share: their base class, and types of values with limits."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


def _in_float32(value: float) -> float:
    if abs(value) > LARGEST:
        raise ValueError(f"{value} is infinite in float32; it should be at most {LARGEST} in size")
    if 0 < abs(value) < SMALLEST:
        raise ValueError(f"{value} is 0 in float32; it should be at least {SMALLEST} in size")
    return value


SMALLEST, LARGEST = 1.1754944e-38, 3.4028235e38  # of float32: smaller numbers become 0, larger ones infinite
Size = Annotated[int, Field(ge=1)]
Width = Annotated[int, Field(ge=1, le=1_000_000)]  # a square matrix of that many rows takes 4 TB
Depth = Annotated[int, Field(ge=1, le=1_000)]  # each layer is compiled separately
Batch = Annotated[int, Field(ge=1, lt=2**31)]
Count = Annotated[int, Field(ge=1, lt=2**31)]  # steps are int32
Steps = Annotated[int, Field(ge=0, lt=2**31)]
Rate = Annotated[float, Field(ge=0.0, le=1.0)]
Below1 = Annotated[float, Field(ge=0.0, lt=1.0)]
Number = Annotated[float, AfterValidator(_in_float32)]
Above0 = Annotated[float, Field(gt=0.0), AfterValidator(_in_float32)]
AtLeast0 = Annotated[float, Field(ge=0.0), AfterValidator(_in_float32)]


def names_in(word: str) -> tuple[str, ...]:
    """Return the names in a word with commas; brackets around all of them, as in YAML, are left out."""
    if word.startswith("[") and word.find("]") == len(word) - 1:
        word = word[1:-1]
    return tuple(name.strip() for name in word.split(",") if name.strip())


def _split(value: object) -> object:
    """Return a word with commas, as the command line has it, as a list."""
    if isinstance(value, str):
        return names_in(value)
    return tuple(value) if isinstance(value, list) else value


Patterns = Annotated[tuple[str, ...], BeforeValidator(_split)]  # in a file a list, or words with commas


class Section(BaseModel):
    """A part of the configuration: frozen, and strict about keys and types."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )
