"""Copy a file that is larger than the memory, in blocks, into a form that any sequence can be read from.

The copy is a folder: the steps of all sequences as float32, one after the other, and what belongs to each sequence as
arrays. Its name is a checksum of the source's path, size and time of change, and of how it is read, so that it is
written once and is not used when the source has changed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lstmjax import claims
from lstmjax.config import Data
from lstmjax.data.blocks import blocks_of, blocks_of_folder, blocks_of_lines
from lstmjax.data.disk import OnDisk, Steps
from lstmjax.data.form import Form, Table
from lstmjax.data.sequences import FREE, DataError, Sequences
from lstmjax.writing import WriteError, reason_of

VERSION = 1
LARGE = 2**31  # bytes of float32 numbers from which on a file is streamed, if the configuration leaves it open
NAMES = 1_000_000  # sequences whose names are kept
FIELDS = ("lengths", "y", "group", "begin", "end", "weight", "names")


def is_streamed(data: Data) -> bool:
    """Return whether the source is read from the disk batch by batch: by the option, or by the size of the file alone.

    Raises:
        DataError: the option asks for it, but the kind of file does not allow it.
    """
    path = Path(data.source)
    kind = path.suffix.lower()
    known = kind in STREAMED or path.is_dir()
    if data.stream and not known:
        raise DataError(
            f"{path}: data.stream is true, but only folders and {', '.join(STREAMED)} can be streamed; convert it to "
            "Parquet"
        )
    if data.stream is not None or not known or not path.exists():
        return bool(data.stream)
    return sum(map(_size, _files(path))) > LARGE


STREAMED = (".npz", ".parquet", ".arrow", ".feather", ".csv", ".txt")
CHARACTERS = 100  # features of a text, about: one for each character that occurs


def _files(source: Path) -> list[Path]:
    """Return the files of a source: of a folder all but hidden ones."""
    if not source.is_dir():
        return [source]
    files = sorted(file for file in source.rglob("*") if file.is_file())
    return [file for file in files if not any(part.startswith(".") for part in file.relative_to(source).parts)]


def _size(path: Path) -> int:
    """Return about how many bytes the numbers of a file take as float32."""
    if path.suffix.lower() == ".npz" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return sum(member.file_size for member in archive.infolist())
    if path.suffix.lower() == ".csv":
        return path.stat().st_size // 2
    if path.suffix.lower() == ".txt":
        return 4 * CHARACTERS * path.stat().st_size
    return path.stat().st_size  # numbers hardly compress


def streamed(data: Data, form: Form) -> Table:
    """Return the sequences of the source, with x on the disk; copy it first, if there is no copy yet.

    Raises:
        DataError: the content is wrong, or the copy cannot be written.
    """
    source = Path(data.source)
    if not source.exists():
        raise DataError(f"{source}: no such file; relative paths are read from the folder in which the command runs")
    labels = None if data.table is None else Path(data.table)
    folder = (Path(data.cache) if data.cache else source.absolute().parent / ".lstmjax") / _key(source, form, labels)
    if not (folder / "about.json").is_file():
        _write(source, form, labels, folder)
    return _opened(folder)


def _key(source: Path, form: Form, labels: Path | None) -> str:
    text = f"{VERSION} {source.absolute()}"
    for file in _files(source):
        stat = file.stat()
        name = f"{file.relative_to(source).as_posix()} " if file != source else ""
        text += f" {name}{stat.st_size} {stat.st_mtime_ns}"
    if labels is not None and labels.is_file():
        text += f" {labels.absolute()} {labels.stat().st_size} {labels.stat().st_mtime_ns}"
    text += f" {form.model_dump_json()}"
    return f"{source.stem[:40]}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _write(source: Path, form: Form, labels: Path | None, folder: Path) -> None:
    """Write the copy into a new folder, which gets its name when it is complete."""
    draft = folder.with_name(f"{folder.name}.new")
    try:
        shutil.rmtree(draft, ignore_errors=True)  # of a process that was killed
        draft.mkdir(parents=True)
        _copy(source, form, labels, draft)
        if folder.exists():
            shutil.rmtree(folder)
        draft.rename(folder)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise WriteError(
            f"{folder.parent}", f"{reason_of(error)}; name another folder for the copy of {source.name} by data.cache"
        ) from None
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _blocks(source: Path, form: Form, labels: Path | None) -> Iterator[tuple[Table, Form]]:
    if source.is_dir():
        return blocks_of_folder(source, form, labels)
    if labels is not None:
        raise DataError(f"{source}: is a file, but data.table is for a folder with a file for each sequence; remove it")
    kinds = {".npz": _arrays, ".txt": blocks_of_lines}
    return kinds.get(source.suffix.lower(), blocks_of)(source, form)


def _copy(source: Path, form: Form, labels: Path | None, draft: Path) -> None:
    fields: dict[str, list[np.ndarray]] = {name: [] for name in FIELDS}
    words: dict[str, dict[str, int]] = {}
    about: dict[str, Any] = {"source": str(source), "checksum": 0, "steps": 0, "sequences": 0}
    about["notes"] = []
    for table, known in _blocks(source, form, labels):
        x = table.data.valid_steps()
        values = np.ascontiguousarray(x, np.float32)
        with (draft / "x.bin").open("ab") as file:
            file.write(values.data)
        about["checksum"] = zlib.crc32(values.data, about["checksum"])
        about["steps"] += len(values)
        about["width"], about["features"] = values.shape[1], table.data.features
        about["categories"] = known.categories
        about["notes"] += table.notes
        _collect(table, fields, words)
        about["sequences"] += len(table.data.x)
    if not about["sequences"]:
        raise DataError(f"{source}: has no rows")
    for name, parts in fields.items():
        if (
            parts
            and sum(map(len, parts)) == about["sequences"]
            and not (name == "names" and about["sequences"] > NAMES)
        ):
            if name == "y" and len({part.shape[1:] for part in parts}) > 1:
                parts = _to_longest(parts)
            np.save(draft / f"{name}.npy", np.concatenate(parts))
    about["words"] = {name: list(known) for name, known in words.items()}
    (draft / "about.json").write_text(json.dumps(about), encoding="utf-8")


def _collect(table: Table, fields: dict[str, list[np.ndarray]], words: dict[str, dict[str, int]]) -> None:
    """Append what belongs to each sequence of a block; words become numbers."""
    data = table.data
    count, longest = data.x.shape[:2]
    names = None if data.names is None else np.array(data.names, object)
    lengths = np.full(count, longest, np.int32) if data.lengths is None else data.lengths
    values = {
        "lengths": lengths, "y": data.y, "group": table.group, "begin": table.begin, "end": table.end,
        "weight": data.weight, "names": names,
    }  # fmt: skip
    for name, array in values.items():
        if array is None:
            continue
        if array.dtype.kind in "OU":
            known = words.setdefault(name, {})
            flat = [known.setdefault(str(word), len(known)) for word in array.ravel().tolist()]
            array = np.array(flat, np.int64).reshape(array.shape)
        fields[name].append(array)


def _to_longest(parts: list[np.ndarray]) -> list[np.ndarray]:
    """Pad labels of each step to those of the longest sequence."""
    longest = max(part.shape[1] for part in parts)
    return [np.pad(part, [(0, 0), (0, longest - part.shape[1]), *[(0, 0)] * (part.ndim - 2)]) for part in parts]


def _opened(folder: Path) -> Table:
    try:
        about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
        arrays: dict[str, np.ndarray] = {}
        for name in FIELDS:
            if (folder / f"{name}.npy").is_file():
                arrays[name] = np.load(folder / f"{name}.npy", allow_pickle=False)
        for name, words in about["words"].items():
            if name in arrays:
                arrays[name] = np.array(words, object)[arrays[name]]
        lengths = arrays["lengths"]
        size = (folder / "x.bin").stat().st_size
        if size != 4 * about["steps"] * about["width"] or lengths.sum(dtype=np.int64) != about["steps"]:
            raise ValueError("it has another size")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder}: is damaged ({error}); remove it, and it is written anew") from None
    places = np.cumsum(lengths, dtype=np.int64) - lengths
    steps = Steps(folder / "x.bin", about["steps"], about["width"])
    x = OnDisk(steps, lengths, int(lengths.max()), places, about["checksum"])
    names = tuple(arrays["names"].tolist()) if "names" in arrays else None
    features = None if about["features"] is None else tuple(about["features"])
    ragged = None if (lengths == lengths[0]).all() else lengths
    data = Sequences(x, arrays.get("y"), ragged, names, features, arrays.get("weight"))
    categories = tuple((name, tuple(words)) for name, words in about["categories"])
    note = f"streamed from {folder} ({claims.words(4 * about['steps'] * about['width'])})"
    return Table(
        data, arrays.get("group"), arrays.get("begin"), arrays.get("end"), (*about.get("notes", ()), note), categories
    )


def _arrays(source: Path, form: Form) -> Iterator[tuple[Table, Form]]:
    """Yield the sequences of an NPZ file in blocks."""
    from lstmjax.data.files import check  # which reads files as a whole, and this module among them

    if not zipfile.is_zipfile(source):
        raise DataError(f"{source}: cannot be read as NPZ (it is no archive of arrays); write it by np.savez")
    try:
        with zipfile.ZipFile(source) as archive:
            sizes = {member.filename.removesuffix(".npy"): member.file_size for member in archive.infolist()}
            claims.check_claim(sum(sizes.values()), source.stat().st_size, free=FREE)
            if not {"x", "y"} <= set(sizes) <= {"x", "y", "lengths"}:
                raise DataError(
                    f"{source}: holds the arrays {', '.join(sorted(sizes))}; expected x, y and, for ragged data, "
                    "lengths"
                )
            small: dict[str, np.ndarray] = {}
            for name in sorted(set(sizes) - {"x"}):
                claims.check_memory(sizes[name], name, "give less of it")
                with archive.open(f"{name}.npy") as file:
                    array = claims.read_npy(file, sizes[name])
                if isinstance(array, claims.NotAnArray):
                    raise DataError(f"{source}: {name!r} holds objects; write it by np.savez as numbers or words")
                small[name] = array
            with archive.open("x.npy") as file:
                shape, column_major, dtype = _header(file)
                if len(shape) != 3 or column_major or dtype.kind not in "biuf":
                    raise DataError(
                        f"{source}: x is {dtype} {shape}{' in column order' if column_major else ''}, expected numbers "
                        "[sequences, steps, features] in row order; write np.ascontiguousarray(x)"
                    )
                count, longest, width = shape
                at_once = max(BLOCK // (longest * width), 1)
                for start in range(0, count, at_once):
                    stop = min(start + at_once, count)
                    content = file.read((stop - start) * longest * width * dtype.itemsize)
                    x = np.frombuffer(content, dtype).reshape(stop - start, longest, width)
                    rows = slice(start, stop)
                    parts = {key: _rows(array, rows, count, key, source) for key, array in small.items()}
                    name = f"{source}: sequences {start} to {stop - 1}, counted from {start}"
                    data = check(Sequences(x, parts["y"], parts.get("lengths")), name, missing=form.missing != "error")
                    yield Table(data), form
    except claims.ClaimError as error:
        raise DataError(f"{source}: cannot be read as NPZ ({error}); write it by np.savez") from None
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError) as error:
        raise DataError(f"{source}: cannot be read as NPZ ({error}); write it by np.savez") from None


BLOCK = 2**21  # numbers of an NPZ file that are read at once


def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"version {version} of the NPY format")
    return read(file)


def _rows(array: np.ndarray, rows: slice, count: int, key: str, source: Path) -> np.ndarray:
    if array.ndim == 0 or len(array) != count:
        raise DataError(f"{source}: {key} has shape {array.shape}, but x has {count} sequences; give one for each")
    return array[rows]
