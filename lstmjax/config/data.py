"""The section `data` of the configuration, and the sources in the package."""

from __future__ import annotations

from types import MappingProxyType
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, model_validator

from lstmjax.config.base import Section, Size


class Source(NamedTuple):
    """A row of `BUILT_IN`: the keys of `data` that do not apply to a source, and why."""

    reason: str  # the beginning of a message
    refuses: tuple[str, ...]  # keys of `data` that do not apply
    endless: bool = False  # every training batch is generated, so that there are no epochs


TABLES_ONLY = ("columns", "layout", "table", "missing", "split", "stream", "cache")
FILES_ONLY = (*TABLES_ONLY, "test_fraction")
TEXTS_ONLY = ("text", "window", "segment", "vocabulary")
TEXT = Source(
    "a text is read in its order, a number for each token", ("length", "shift", "normalize_targets", *TABLES_ONLY)
)
BUILT_IN = MappingProxyType(
    {
        "digits": Source(
            "the digits bring their validation and test part, their 8 steps and their scale (pixels / 16) with them",
            ("validation", "test", "normalize", "length", *FILES_ONLY, *TEXTS_ONLY),
        ),
        "order": Source(
            "the temporal-order task is generated, with validation and test parts, and its inputs are zeros and ones",
            ("validation", "validation_fraction", "test", "normalize", "shift", *FILES_ONLY, *TEXTS_ONLY),
            endless=True,
        ),
        "fables": TEXT,
        "fable": TEXT,
    }
)
"""The sources in the package, by `data.source`; any other name is a file."""
EARLIER = MappingProxyType({"normalize": "none", "normalize_targets": "none", "stream": False})
"""What the first versions did where a key of this section has another default today, or did not exist."""
FILE = Source("a file has sequences of its own length", ("length",))
TEXTS = ("fables", "fable")
"""The sources in the package that are texts."""


def _as_names(value: object) -> object:
    if isinstance(value, str):  # features: temperature
        return (value,)
    return tuple(value) if isinstance(value, list) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_as_names)]


class Columns(Section):
    """What the columns of a table are, in a CSV, Parquet or Arrow file or a data frame."""

    sequence: str = "sequence"
    """Column with the name of the sequence that a row belongs to."""
    step: str = "step"
    """Column with the number of the step, from 0 or 1 without gaps; not used if there is a time."""
    time: str | None = None
    """Column by which the rows of a sequence are ordered instead: numbers, dates or times."""
    features: Names = ()
    """Columns with the inputs, in this order; none: all columns that are nothing else."""
    categorical: Names = ()
    """Those of the features that hold words or codes: each becomes a column of zeros and ones for each category."""
    target: Names = ("label",)
    """Column with the label, or columns with the numbers of a regression."""
    target_of: Literal["sequence", "step"] = "sequence"
    """Whether a sequence has one label, the same in all of its rows, or each step its own."""
    weight: str | None = None
    """Column with the weight of a sequence in the loss and the metric, the same in all of its rows."""
    group: str | None = None
    """Column with what must not be in two parts at once, such as a person; for data.split: group."""
    ignore: Names = ()
    """Columns that are left out."""

    @model_validator(mode="after")
    def _a_column_has_one_purpose(self) -> Self:
        order = ("time", self.time) if self.time is not None else ("step", self.step)
        single = [("sequence", self.sequence), order, ("weight", self.weight)]
        several = [("features", self.features), ("target", self.target), ("ignore", self.ignore)]
        uses = [(name, key) for key, name in single if name is not None]
        uses += [(name, key) for key, names in several for name in names]
        first: dict[str, str] = {}
        for name, key in uses:
            if name in first:
                raise ValueError(
                    f"column {name!r} is in data.columns.{first[name]} and in data.columns.{key}; name it once"
                )
            first[name] = key
        for name in self.categorical:
            if self.features and name not in self.features:
                raise ValueError(
                    f"column {name!r} is in data.columns.categorical, but not in data.columns.features; add it there"
                )
        if not self.target:
            raise ValueError("data.columns.target names no column; name that of the label")
        return self


class Data(Section):
    """The data to learn from."""

    source: str = "digits"
    """"digits", "fables" or "fable" (in the package), "order" (the temporal-order task, generated), a file (NPZ, CSV,
    Parquet, Arrow or text), or a folder with a file for each sequence, or with the texts of a language model."""
    validation: str | None = None
    """File of the validation part; None: part of the source."""
    test: str | None = None
    """File of the test part; None: no test part (the digits bring one)."""
    validation_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    """Fraction of the source that validates, the same for all seeds (not for the digits, which bring that part)."""
    normalize: Literal["auto", "none", "standardize"] = "auto"
    """"auto": scale the features that are not on a unit scale; "standardize": all of them, to mean 0 and standard
    deviation 1 over the training part. The scale is stored with the run."""
    normalize_targets: Literal["standardize", "none"] = "standardize"
    """Scale the targets of a regression in the same way, and undo it in predictions, metrics and exports; or do not."""
    columns: Columns = Columns()
    """What the columns of a table are."""
    layout: Literal["auto", "long", "wide"] = "auto"
    """"long": a row of the table is a step; "wide": a row is a sequence, with columns such as a_0 and a_1, or lists."""
    table: str | None = None
    """For a folder: table with a row for each file, its name in the column "file", and its label; None: the label of
    a file is the name of its folder."""
    missing: Literal["error", "mask", "forward", "mean"] = "error"
    """Missing values: "error" refuses them; "mean" fills in the mean over the training part, "forward" the last value
    of the sequence (before the first one: the mean), "mask" the mean with a further feature that is 1 where it is."""
    split: Literal["random", "index", "time", "group"] = "random"
    """Which sequences validate and test: random ones, the last ones of the file, the latest ones (data.columns.time),
    or all of some groups (data.columns.group)."""
    test_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Fraction of the source that tests; None: none, or data.test."""
    stream: bool | None = None
    """Read the source from the disk, batch by batch, out of a copy in a form that allows it; None: if its numbers take
    more than 2 GB."""
    cache: str | None = None
    """Folder for that copy, which takes 4 bytes for each number; None: the folder .lstmjax beside the source."""
    shift: Annotated[int, Field(ge=0)] = 0
    """Largest random shift of each training image, in pixels; for images given row by row."""
    length: Annotated[int, Field(ge=20, le=100_000_000)] | None = None
    """T of the temporal-order task, whose sequences have T to 1.1 T steps; None: 100, as in the paper."""

    text: Literal["characters", "bytes", "words"] | None = None
    """Read the source as a text, whose next token is learned: tokens are characters, bytes, or words and punctuation
    marks. The validation and the test part are its end. None: the source is no text."""
    window: Size | None = None
    """Learn each token of a text from so many before it, whose numbers are the input, as a classification; None: from
    all before it, as a language model with an embedding."""
    segment: Size | None = None
    """T of a language model: tokens after which the gradient is cut, while the state goes on; None: 50."""
    vocabulary: Size | None = None
    """Number of tokens of a text that are told apart, the most frequent ones of the training part; None: all of it."""

    @model_validator(mode="after")
    def _keys_of_texts(self) -> Self:
        if self.source in TEXTS and self.text is None:
            raise ValueError(f"data.source {self.source} is a text; say data.text: characters, bytes or words")
        if self.text is None:
            for key in ("window", "segment", "vocabulary"):
                if getattr(self, key) is not None and self.source not in BUILT_IN:
                    raise ValueError(f"data.{key} is for a text; say by data.text what its tokens are, or remove it")
        if self.window is not None and self.segment is not None:
            raise ValueError(
                "data.window and data.segment are both given; a window is for a classification of the next token, a "
                "segment for a language model: remove one of them"
            )
        if self.text == "bytes" and self.vocabulary is not None:
            raise ValueError("data.vocabulary is for characters and words; bytes are always 256, so remove it")
        if self.is_stream and self.normalize not in ("auto", "none"):
            raise ValueError("data.normalize is for numbers, but a language model reads tokens; remove it")
        return self

    @property
    def is_stream(self) -> bool:
        """Whether the data are a text that is read from its beginning to its end, by a language model."""
        return self.text is not None and self.window is None

    @model_validator(mode="after")
    def _no_key_that_does_not_apply(self) -> Self:
        row = BUILT_IN.get(self.source, FILE if self.text is None else TEXT)
        fields = type(self).model_fields
        set_keys = []
        for key in row.refuses:
            default = fields[key].default
            if getattr(self, key) not in (default, EARLIER.get(key, default)):
                set_keys.append(f"data.{key}")
        if set_keys:
            raise ValueError(f"{row.reason}; remove {' and '.join(set_keys)}")
        return self

    @model_validator(mode="after")
    def _parts_that_go_together(self) -> Self:
        if self.split == "time" and self.columns.time is None:
            raise ValueError("data.split is time, but there is no column of times; name it by data.columns.time")
        if self.split == "group" and self.columns.group is None:
            raise ValueError("data.split is group, but there is no column of groups; name it by data.columns.group")
        is_split = self.validation is None or self.test_fraction is not None
        if self.columns.group is not None and self.split != "group" and is_split:
            raise ValueError(
                f"data.columns.group is {self.columns.group}, but data.split is {self.split}, which puts a group into "
                "two parts; set data.split: group, or remove data.columns.group"
            )
        if self.test is not None and self.test_fraction is not None:
            raise ValueError("data.test and data.test_fraction are both given; remove one of them")
        held_out = (0.0 if self.validation else self.validation_fraction) + (self.test_fraction or 0.0)
        if held_out >= 1.0:
            raise ValueError(
                f"data.validation_fraction and data.test_fraction make {held_out:g} together, which leaves nothing for "
                "training; set them lower"
            )
        return self

    @property
    def endless(self) -> bool:
        """Whether every training batch is generated anew."""
        return BUILT_IN.get(self.source, FILE).endless
