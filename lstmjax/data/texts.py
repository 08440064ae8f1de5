"""Texts to learn from: split by position, as streams for a language model or as windows for a classification."""

from __future__ import annotations

import zlib
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import numpy as np

from lstmjax.config import Data
from lstmjax.data.about import About
from lstmjax.data.fables import fable, fables
from lstmjax.data.sequences import DataError, Parts, Sequences
from lstmjax.data.tokens import Reader, Tokens, Vocabulary, counted, vocabulary_of

BUILT_IN = MappingProxyType({"fables": fables, "fable": fable})
"""The texts in the package, by `data.source`; its keys are `lstmjax.config.TEXTS`."""


class TextParts(NamedTuple):
    """The parts of a text; each begins where the one before ends, unless it is a file of its own."""

    vocabulary: Vocabulary
    train: Tokens
    validation: Tokens
    test: Tokens | None
    notes: tuple[str, ...]


def text_parts(data: Data) -> TextParts:
    """Read a text and split it by position: training, then validation, then test.

    The vocabulary is that of the training part, so that nothing of the others is known.

    Raises:
        DataError: a file cannot be read, or a part has too few tokens.
    """
    assert data.text is not None
    reader = Reader(data.text)
    paths = {"train": data.source, "validation": data.validation, "test": data.test}
    raw: dict[str, np.ndarray] = {}
    for path in paths.values():
        if path is not None and path not in raw:
            text = BUILT_IN[path]() if path in BUILT_IN else None
            raw[path] = reader.read(path, text)
    source = raw[data.source]
    spans = _spans(data, len(source))
    parts = {name: source[start:stop] for name, (start, stop) in spans.items()}
    parts |= {name: raw[path] for name, path in paths.items() if path is not None and name != "train"}
    vocabulary, table, unknown = vocabulary_of(
        reader, parts["train"], [parts[name] for name in parts if name != "train"], data.vocabulary
    )
    least = 2 if data.window is None else data.window + 1
    for name, part in parts.items():
        if len(part) < least:
            raise DataError(
                f"{paths[name] or data.source}: its {name} part has {len(part)} {data.text}, expected {least} or more; "
                "give a longer text, or other fractions"
            )
    tokens = {name: Tokens(part, table, 0, len(part)) for name, part in parts.items()}
    counts = ", ".join(f"{len(part):,} {_verb(name)}" for name, part in parts.items())
    notes = [f"text: {data.text}, {counts}; vocabulary of {len(vocabulary.tokens):,}"]
    others = [name for name in parts if name != "train"]
    for name, count in zip(others, unknown, strict=True):
        if count:
            notes.append(
                f"{name}: {count:,} of {len(parts[name]):,} {data.text} {'is' if count == 1 else 'are'} not in the "
                "vocabulary of training (<unk>)"
            )
        if paths[name] == data.source:
            notes.append(f"{name}: is the text of training itself, so that it measures what was memorised")
    return TextParts(vocabulary, tokens["train"], tokens["validation"], tokens.get("test"), tuple(notes))


def _verb(name: str) -> str:
    return {"train": "train", "validation": "validate", "test": "test"}[name]


def _spans(data: Data, count: int) -> dict[str, tuple[int, int]]:
    """Return where the parts of the source lie: training, then validation and test, if they are no other files."""
    tested = round(count * (data.test_fraction or 0.0))
    validated = 0 if data.validation is not None else round(count * data.validation_fraction)
    end = count - tested
    spans = {"train": (0, end - validated)}
    if data.validation is None:
        spans["validation"] = (end - validated, end)
    if tested:
        spans["test"] = (end, count)
    return spans


def load_stream(data: Data) -> tuple[Parts, About]:
    """Return the parts of a text for a language model, `Tokens` in place of `Sequences`, and what a run remembers."""
    parts = text_parts(data)
    crc = 0
    for part in (parts.train, parts.validation):
        for block in part.blocks():
            crc = zlib.crc32(block.tobytes(), crc)
        crc = zlib.crc32(str(part.count).encode(), crc)
    about = About(
        input_size=1,
        output_size=len(parts.vocabulary.tokens),
        per_step=True,
        classes=parts.vocabulary.tokens,
        offset=(0.0,),
        scale=(1.0,),
        features=None,
        fingerprint=crc,
        text=data.text,
    )
    train, validation, test = (cast(Any, part) for part in (parts.train, parts.validation, parts.test))
    return Parts(train, validation, test, notes=parts.notes), about


def text_of(path: str, about: About) -> Tokens:
    """Read a text in the vocabulary of a run.

    Raises:
        DataError: it cannot be read, it is too short, or a token is unknown and the vocabulary has none for those.
    """
    assert about.text is not None
    assert about.classes is not None
    reader, vocabulary = Reader(about.text), Vocabulary(about.classes, about.text)
    raw = reader.read(path, BUILT_IN[path]() if path in BUILT_IN else None)
    if len(raw) < 2:
        raise DataError(f"{path}: has {len(raw)} {about.text}, expected 2 or more")
    present = np.flatnonzero(counted(raw, reader.size))
    number_of = {token: n for n, token in enumerate(vocabulary.tokens)}
    table = np.zeros(reader.size, np.int32)
    for place, token in zip(present.tolist(), reader.names(present), strict=True):
        number = number_of.get(token, vocabulary.unknown)
        if number is None:
            raise DataError(
                f"{path}: {token!r} is none of the {len(vocabulary.tokens)} {about.text} that the network knows; "
                "remove it"
            )
        table[place] = number
    return Tokens(raw, table, 0, len(raw))


def windows(data: Data) -> tuple[Parts, tuple[str, ...]]:
    """Return a text as a classification: the numbers of `data.window` tokens as x `[N, window, 1]`, the next one as y.

    The numbers are those by frequency, from 0 on, as in the tutorial "LSTM by Example" (Atienza 2017).

    Returns:
        (the parts, with words as y; the vocabulary in the order of its numbers).
    """
    assert data.window is not None
    parts = text_parts(data)
    names = np.array(parts.vocabulary.tokens, object)

    def sequences(part: Tokens) -> Sequences:
        numbers = part.read(0, part.count)
        rows = np.lib.stride_tricks.sliding_window_view(numbers[:-1], cast(int, data.window))
        return Sequences(rows[..., None].astype(np.float32), names[numbers[data.window :]])

    test = None if parts.test is None else sequences(parts.test)
    of_windows = Parts(sequences(parts.train), sequences(parts.validation), test, notes=parts.notes)
    return of_windows, parts.vocabulary.tokens
