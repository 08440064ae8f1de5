"""The section `data` of the configuration, and the sources in the package."""

from __future__ import annotations

from types import MappingProxyType
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from lstmjax.config.base import Section


class Source(NamedTuple):
    """A row of `BUILT_IN`: the keys of `data` that do not apply to a source, and why."""

    reason: str  # the beginning of a message
    refuses: tuple[str, ...]  # keys of `data` that do not apply
    endless: bool = False  # every training batch is generated, so that there are no epochs


BUILT_IN = MappingProxyType(
    {
        "digits": Source(
            "the digits bring their validation and test part, their 8 steps and their scale (pixels / 16) with them",
            ("validation", "test", "normalize", "length"),
        ),
        "order": Source(
            "the temporal-order task is generated, with validation and test parts, and its inputs are zeros and ones",
            ("validation", "validation_fraction", "test", "normalize", "shift"),
            endless=True,
        ),
    }
)
"""The sources in the package, by `data.source`; any other name is a file."""
FILE = Source("a file has sequences of its own length", ("length",))


class Data(Section):
    """The data to learn from."""

    source: str = "digits"
    """"digits" (in the package), "order" (the temporal-order task, generated), or an NPZ or CSV file."""
    validation: str | None = None
    """File of the validation part; None: part of the source."""
    test: str | None = None
    """File of the test part; None: no test part (the digits bring one)."""
    validation_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    """Fraction of the source that validates, the same for all seeds (not for the digits, which bring that part)."""
    normalize: Literal["none", "standardize"] = "none"
    """"standardize": mean 0 and standard deviation 1 of each feature over the training part; stored with the run."""
    shift: Annotated[int, Field(ge=0)] = 0
    """Largest random shift of each training image, in pixels; for images given row by row."""
    length: Annotated[int, Field(ge=20, le=100_000_000)] | None = None
    """T of the temporal-order task, whose sequences have T to 1.1 T steps; None: 100, as in the paper."""

    @model_validator(mode="after")
    def _no_key_that_does_not_apply(self) -> Self:
        row = BUILT_IN.get(self.source, FILE)
        fields = type(self).model_fields
        set_keys = [f"data.{key}" for key in row.refuses if getattr(self, key) != fields[key].default]
        if set_keys:
            raise ValueError(f"{row.reason}; remove {' and '.join(set_keys)}")
        return self

    @property
    def endless(self) -> bool:
        """Whether every training batch is generated anew."""
        return BUILT_IN.get(self.source, FILE).endless
