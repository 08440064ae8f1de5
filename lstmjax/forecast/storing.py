"""Forecasters in files: one NPZ with all arrays, and what is fixed as JSON in it."""

from __future__ import annotations

import json
import math
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lstmjax.errors import UserError
from lstmjax.forecast.design import Design
from lstmjax.forecast.ensemble import Ensemble
from lstmjax.forecast.forecaster import Forecaster
from lstmjax.forecast.network import ForecastParams, Normal, init_forecaster
from lstmjax.forecast.series import SeriesSet
from lstmjax.writing import draft, write_text

VERSION = 1
SPREAD_FILE = "ensemble.json"


class ForecasterFileError(UserError):
    """A file holds no forecaster."""


def save_forecaster(path: str | Path, forecaster: Forecaster) -> None:
    """Write a forecaster to an NPZ file, completely or not at all."""
    arrays = {f"params/{name}": leaf for name, leaf in named(forecaster.params).items()}
    arrays |= {f"normal/{name}": leaf for name, leaf in named(forecaster.normal).items()}
    about = {
        "version": VERSION, "design": asdict(forecaster.design), "levels": forecaster.levels,
        "losses": forecaster.losses, "columns": forecaster.columns,
        "spread": forecaster.spread,
    }  # fmt: skip
    write_arrays(path, arrays, about)


def load_forecaster(path: str | Path) -> Forecaster:
    """Read what `save_forecaster` wrote.

    Raises:
        ForecasterFileError: no such file, or it holds something else.
    """
    arrays, about = read_arrays(path, "forecaster", VERSION)
    design = Design(**about["design"] | {"lags": tuple(about["design"]["lags"])})
    levels = tuple((name, tuple(values)) for name, values in about["levels"])
    normal = Normal(*((arrays[f"normal/{name}/0"], arrays[f"normal/{name}/1"]) for name in Normal._fields))
    like = jax.eval_shape(lambda: init_forecaster(jax.random.key(0), design, _empty(normal, levels)))
    params: ForecastParams = unnamed(path, "params", arrays, like)
    columns = about.get("columns")  # files of before they were recorded have none
    try:
        return Forecaster(
            params, design, normal, levels, tuple(about["losses"]),
            None if columns is None else tuple(map(tuple, columns)), about.get("spread", 1.0),
        )  # fmt: skip
    except ValueError as error:
        raise ForecasterFileError(f"{path}: is damaged: {error}") from None


def save_spread(folder: Path, ensemble: Ensemble) -> None:
    """Write the factor of the pooled samples of the networks in a folder, `forecaster-SEED.npz`, to ensemble.json."""
    about = {"version": VERSION, "spread": ensemble.spread, "networks": [path.name for path in network_files(folder)]}
    write_text(folder / SPREAD_FILE, json.dumps(about) + "\n")


def load_ensemble(folder: str | Path) -> Ensemble:
    """Read the networks of the folder of a run, and the factor of their pooled samples if they are calibrated.

    Runs of before this factor was recorded have none: their networks are calibrated each alone.

    Raises:
        ForecasterFileError: there is no network, a file holds something else, or the networks are not those that
            were calibrated together.
    """
    folder = Path(folder)
    files = network_files(folder)
    if not files:
        raise ForecasterFileError(
            f"{folder}: has no forecaster-SEED.npz; lstmjax forecast CONFIG writes one for each seed."
        )
    spread = None
    path = folder / SPREAD_FILE
    if path.is_file():
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            version, spread, expected = about["version"], float(about["spread"]), list(about["networks"])
        except (ValueError, KeyError, TypeError) as error:
            raise ForecasterFileError(f"{path}: is no record of a calibrated ensemble ({error}).") from None
        _check_version(path, version, VERSION)
        if not 0.0 < spread < math.inf:
            raise ForecasterFileError(f"{path}: has the spread {spread}, expected a finite number above 0.")
        names = [file.name for file in files]
        if names != expected:
            raise ForecasterFileError(
                f"{folder}: has the networks {', '.join(names)}, but {SPREAD_FILE} is of {', '.join(expected)}: the "
                "spread of their samples together is not that of others. Bring the files of the run together again."
            )
    return Ensemble(tuple(load_forecaster(file) for file in files), spread)


def network_files(folder: Path) -> list[Path]:
    """Return the files of the networks of a run, in the order of their seeds."""
    return sorted(folder.glob("forecaster-*.npz"), key=lambda path: (len(path.name), path.name))


def _empty(normal: Normal, levels: tuple) -> SeriesSet:
    """Return a set without series, with the covariates that a forecaster expects."""
    return SeriesSet(
        (), np.zeros(0), np.zeros(1, np.int64), np.zeros(0, np.int64),
        past=np.zeros((0, len(normal.past[0]))), known=np.zeros((0, len(normal.known[0]))),
        numbers=np.zeros((0, len(normal.numbers[0]))), levels=levels,
    )  # fmt: skip


def write_arrays(path: str | Path, arrays: dict[str, Any], about: dict[str, Any]) -> None:
    """Write arrays, and what is fixed as JSON beside them, to an NPZ file, completely or not at all."""
    with draft(Path(path)) as place, place.open("wb") as file:
        np.savez(file, about=np.asarray(json.dumps(about)), **arrays)


def read_arrays(path: str | Path, what: str, version: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `write_arrays` wrote.

    Args:
        path: the file.
        what: the kind of model that it should hold, for messages.
        version: of the format, the entry "version".

    Raises:
        ForecasterFileError: no such file, or it holds something else.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise ForecasterFileError(f"{path}: there is no such file.") from None
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ForecasterFileError(f"{path}: is no file of a {what} ({error}).") from None
    about = json.loads(str(arrays.pop("about"))) if "about" in arrays else {}
    if about.get("what", "forecaster") != what or "version" not in about:
        holds = f"it holds a {about.get('what', 'forecaster')}" if "version" in about else "it has no entry 'about'"
        raise ForecasterFileError(f"{path}: is no file of a {what}: {holds}.")
    _check_version(path, about["version"], version)
    return arrays, about


def _check_version(path: Path, written: object, read: int) -> None:
    """Refuse a file of another version of its format."""
    if written != read:
        raise ForecasterFileError(
            f"{path}: was written in version {written} of the format, and this lstmjax reads {read}. "
            "Read it with the lstmjax that wrote it."
        )


def named(tree: Any) -> dict[str, Any]:
    """Return the leaves of a tree by their paths: "layers/0/w_x"."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def unnamed(path: str | Path, part: str, arrays: dict[str, np.ndarray], like: Any) -> Any:
    """Return a tree of arrays of a file, by the names that `named` has for a tree of the same form.

    Raises:
        ForecasterFileError: an array is missing, or has another shape.
    """
    leaves = []
    for name, leaf in named(like).items():
        array = arrays.get(f"{part}/{name}")
        if array is None or array.shape != leaf.shape:
            raise ForecasterFileError(
                f"{path}: {part}/{name} is {'missing' if array is None else list(array.shape)}, expected "
                f"{list(leaf.shape)} by the design in the file."
            )
        leaves.append(array)
    return jax.tree.unflatten(jax.tree.structure(like), leaves)
