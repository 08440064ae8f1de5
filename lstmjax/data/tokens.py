"""Tokens of a text: read in blocks, numbered, and turned into text again. Memory does not grow with the text."""

from __future__ import annotations

import codecs
import io
import itertools
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from lstmjax.data.sequences import DataError

UNKNOWN = "<unk>"
BLOCK = 2**20  # characters that are read at once
IN_MEMORY = 2**26  # bytes of a file from which on its numbers are written to a temporary file
WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]")
CLOSING, OPENING = ",.;:?!)]}%…", "([{"  # marks that stand directly behind a word, or before one


@dataclass(frozen=True, eq=False)
class Tokens:
    """A part of a text as numbers of tokens, from a file on the disk if the text is large.

    Attributes:
        raw: numbers as the text was read, of all of it, in memory or a memory map.
        table: the number in the vocabulary of each of those numbers.
        start, stop: where the part begins and ends in the text.
    """

    raw: np.ndarray
    table: np.ndarray
    start: int
    stop: int

    @property
    def count(self) -> int:
        """N, the number of tokens."""
        return self.stop - self.start

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the numbers of some tokens, int32 `[stop − start]`; positions count from the beginning of the part."""
        if not 0 <= start <= stop <= self.count:
            raise IndexError(f"tokens {start} to {stop} are asked for, but the part has {self.count}")
        return self.table[self.raw[self.start + start : self.start + stop]]

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield all numbers, block by block."""
        for start in range(0, self.count, BLOCK):
            yield self.read(start, min(start + BLOCK, self.count))


@dataclass(frozen=True)
class Vocabulary:
    """The V tokens of a network, in the order of their numbers.

    >>> vocabulary = Vocabulary(("the", "cat", "."), "words")
    >>> vocabulary.numbers("the cat."), "".join(vocabulary.decoder().pieces([0, 1, 2]))
    ([0, 1, 2], 'the cat.')
    """

    tokens: tuple[str, ...]
    kind: str  # "characters", "bytes" or "words"; a byte is written as the character of its number

    def numbers(self, text: str) -> list[int]:
        """Return the numbers of the tokens of a text; unknown ones are `<unk>`, if there is such a token.

        Raises:
            DataError: a token is not in the vocabulary, and there is none for unknown ones.
        """
        number_of = {token: n for n, token in enumerate(self.tokens)}
        unknown = number_of.get(UNKNOWN) if self.kind == "words" else None
        numbers = []
        for token in split(text, self.kind):
            number = number_of.get(token, unknown)
            if number is None:
                what = {"characters": "character", "bytes": "byte", "words": "word"}[self.kind]
                raise DataError(
                    f"the {what} {token!r} does not occur in the text that the network learned; leave it out"
                )
            numbers.append(number)
        return numbers

    @property
    def unknown(self) -> int | None:
        """The number of `<unk>`; None: there is none."""
        return self.tokens.index(UNKNOWN) if UNKNOWN in self.tokens else None

    def decoder(self, before: str = "") -> Decoder:
        """Return what turns numbers into text, one after the other, behind the text `before`."""
        return Decoder(self, before)


class Decoder:
    """Text of numbers as they come; bytes of a character are held until it is complete.

    Args:
        vocabulary: the tokens.
        before: the text before the first one, on which the space between words depends.
    """

    def __init__(self, vocabulary: Vocabulary, before: str = ""):
        self.vocabulary, self._last = vocabulary, before[-1:]
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")

    def piece(self, number: int) -> str:
        """Return the text that a token adds."""
        token = self.vocabulary.tokens[number]
        if self.vocabulary.kind == "bytes":
            return self._bytes.decode(token.encode("latin-1"))
        begins = not self._last or self._last.isspace() or self._last in OPENING
        if self.vocabulary.kind == "words" and not begins and token not in CLOSING:
            token = f" {token}"
        self._last = token[-1:]
        return token

    def pieces(self, numbers: Iterable[int]) -> Iterator[str]:
        """Yield the text that each token adds, and at last what is left of an incomplete character."""
        for number in numbers:
            yield self.piece(number)
        if incomplete := self._bytes.decode(b"", final=True):
            yield incomplete


def split(text: str, kind: str) -> Sequence[str]:
    """Return the tokens of a text: its characters, its bytes in UTF-8, or its words and punctuation marks.

    >>> split("Don't! A hare-bell.", "words")
    ["Don't", '!', 'A', 'hare-bell', '.']
    """
    if kind == "words":
        return WORD.findall(text)
    return text.encode("utf-8").decode("latin-1") if kind == "bytes" else text


class Reader:
    """Reads texts as numbers: characters by their code points, bytes, words by the order in which they first occur.

    Several texts of one reader have the same numbers.

    Args:
        kind: "characters", "bytes" or "words".
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._words: dict[str, int] = {}

    @property
    def size(self) -> int:
        """The number of different numbers there can be so far."""
        return {"characters": 0x110000, "bytes": 256, "words": len(self._words)}[self.kind]

    def names(self, numbers: np.ndarray) -> tuple[str, ...]:
        """Return the tokens of numbers."""
        if self.kind == "words":
            words = tuple(self._words)
            return tuple(words[n] for n in numbers.tolist())
        return tuple(map(chr, numbers.tolist()))

    def read(self, source: str | Path, text: str | None = None) -> np.ndarray:
        """Return the numbers of a text, `[N]`; those of a large file are a memory map of a file that has no name.

        Args:
            source: the file, in UTF-8 unless tokens are bytes; or a folder, whose files .txt are read one behind the
                other in the order of their names.
            text: the text itself; None: it is read from the file.

        Raises:
            DataError: the file cannot be read, or is not UTF-8.
        """
        if text is not None:
            return self._stored(self._numbers(self._in_blocks(io.StringIO(text))), large=False)
        path = Path(source)
        files = _files(path)
        try:
            size = sum(file.stat().st_size for file in files)
            if self.kind == "bytes" and not path.is_dir():
                return np.memmap(path, np.uint8, "r") if size else np.zeros(0, np.uint8)
            blocks = itertools.chain.from_iterable(map(self._of_file, files))
            return self._stored(blocks, large=size > IN_MEMORY)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None

    def _of_file(self, path: Path) -> Iterator[np.ndarray]:
        """Yield the numbers of a file in blocks."""
        if self.kind == "bytes":
            with path.open("rb") as binary:
                while content := binary.read(BLOCK):
                    yield np.frombuffer(content, np.uint8)
            return
        try:
            with path.open(encoding="utf-8-sig") as file:
                yield from self._numbers(self._in_blocks(file))
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}: is not UTF-8 (byte {error.start} of a block); convert it, for example by "
                f"iconv -f latin1 -t utf-8, or say data.text: bytes"
            ) from None

    def _in_blocks(self, file: IO[str]) -> Iterator[str]:
        """Yield the text in blocks; no word is cut in two."""
        word = ""
        while block := file.read(BLOCK):
            if self.kind == "words":
                block = word + block
                end = max((block.rfind(space) for space in " \n\t"), default=-1) + 1
                block, word = block[:end], block[end:]
            yield block
        yield word

    def _numbers(self, blocks: Iterable[str]) -> Iterator[np.ndarray]:
        for block in blocks:
            if self.kind == "characters":
                yield np.frombuffer(block.encode("utf-32-le", "surrogatepass"), np.uint32)
            elif self.kind == "bytes":
                yield np.frombuffer(block.encode("utf-8"), np.uint8)
            else:
                known = self._words
                words = WORD.findall(block)
                yield np.fromiter((known.setdefault(word, len(known)) for word in words), np.uint32, len(words))

    def _stored(self, blocks: Iterable[np.ndarray], *, large: bool) -> np.ndarray:
        if not large:
            return np.concatenate([np.zeros(0, np.uint8 if self.kind == "bytes" else np.uint32), *blocks])
        with tempfile.TemporaryFile() as file:  # the map keeps it open; it vanishes with the process
            count, dtype = 0, np.dtype(np.uint32)
            for block in blocks:
                file.write(block.tobytes())
                count, dtype = count + len(block), block.dtype
            file.flush()
            return np.memmap(file, dtype, "r", shape=(count,))


def _files(path: Path) -> list[Path]:
    """Return the file, or the texts in a folder, in the order of their names."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path}: no such file; give the path of a text")
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() == ".txt" and file.is_file())
    files = [file for file in files if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    if not files:
        raise DataError(f"{path}: is a folder without texts; expected files that end in .txt")
    return files


def vocabulary_of(reader: Reader, train: np.ndarray, others: Sequence[np.ndarray], size: int | None) -> Any:
    """Number the tokens of the training part by their frequency, of equal ones in the order of their first numbers.

    Where a part has a token that has no number, `<unk>` is the last token of the vocabulary.

    Args:
        reader: what has read the parts.
        train: numbers of the training part.
        others: those of the other parts.
        size: number of tokens that get a number; None: all of the training part.

    Returns:
        (the vocabulary, the table for `Tokens`, for each of the others how many of its tokens are unknown).
    """
    counts = counted(train, reader.size)
    if reader.kind == "bytes":
        return Vocabulary(tuple(map(chr, range(256))), "bytes"), np.arange(256, dtype=np.int32), [0] * len(others)
    order = np.argsort(-counts, kind="stable")
    chosen = order[: min(int((counts > 0).sum()), size or len(order))]
    table = np.full(reader.size, len(chosen), np.int32)
    table[chosen] = np.arange(len(chosen), dtype=np.int32)
    missing = table == len(chosen)
    unknown = [int(counted(part, reader.size)[missing].sum()) for part in (train, *others)]
    names = reader.names(chosen)
    if any(unknown):
        names = (*names, UNKNOWN)
    return Vocabulary(names, reader.kind), table, unknown[1:]


def counted(raw: np.ndarray, size: int) -> np.ndarray:
    """Count each number below `size`, block by block."""
    counts = np.zeros(size, np.int64)
    for start in range(0, len(raw), BLOCK):
        counts += np.bincount(np.asarray(raw[start : start + BLOCK]).astype(np.int64), minlength=size)
    return counts
