"""Forecasters in files: one NPZ with all arrays, and what is fixed as JSON in it."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lstmjax.errors import UserError
from lstmjax.forecast.design import Design
from lstmjax.forecast.forecaster import Forecaster
from lstmjax.forecast.network import ForecastParams, Normal, init_forecaster
from lstmjax.forecast.series import SeriesSet
from lstmjax.writing import draft

VERSION = 1


class ForecasterFileError(UserError):
    """A file holds no forecaster."""


def save_forecaster(path: str | Path, forecaster: Forecaster) -> None:
    """Write a forecaster to an NPZ file, completely or not at all."""
    arrays = {f"params/{name}": leaf for name, leaf in _named(forecaster.params).items()}
    arrays |= {f"normal/{name}": leaf for name, leaf in _named(forecaster.normal).items()}
    about = {
        "version": VERSION, "design": asdict(forecaster.design), "levels": forecaster.levels,
        "losses": forecaster.losses,
    }  # fmt: skip
    with draft(Path(path)) as place, place.open("wb") as file:
        np.savez(file, about=np.asarray(json.dumps(about)), **arrays)


def load_forecaster(path: str | Path) -> Forecaster:
    """Read what `save_forecaster` wrote.

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
        raise ForecasterFileError(f"{path}: is no file of a forecaster ({error}).") from None
    if "about" not in arrays:
        raise ForecasterFileError(f"{path}: is no file of a forecaster: it has no entry 'about'.")
    about = json.loads(str(arrays.pop("about")))
    if about["version"] != VERSION:
        raise ForecasterFileError(
            f"{path}: was written in version {about['version']} of the format, and this lstmjax reads {VERSION}. "
            "Read it with the lstmjax that wrote it."
        )
    design = Design(**about["design"] | {"lags": tuple(about["design"]["lags"])})
    levels = tuple((name, tuple(values)) for name, values in about["levels"])
    normal = Normal(*((arrays[f"normal/{name}/0"], arrays[f"normal/{name}/1"]) for name in Normal._fields))
    like = jax.eval_shape(lambda: init_forecaster(jax.random.key(0), design, _empty(normal, levels)))
    leaves = []
    for name, leaf in _named(like).items():
        array = arrays.get(f"params/{name}")
        if array is None or array.shape != leaf.shape:
            raise ForecasterFileError(
                f"{path}: params/{name} is {'missing' if array is None else list(array.shape)}, expected "
                f"{list(leaf.shape)} by the design in the file."
            )
        leaves.append(array)
    params: ForecastParams = jax.tree.unflatten(jax.tree.structure(like), leaves)
    return Forecaster(params, design, normal, levels, tuple(about["losses"]))


def _empty(normal: Normal, levels: tuple) -> SeriesSet:
    """Return a set without series, with the covariates that a forecaster expects."""
    return SeriesSet(
        (), np.zeros(0), np.zeros(1, np.int64), np.zeros(0, np.int64),
        past=np.zeros((0, len(normal.past[0]))), known=np.zeros((0, len(normal.known[0]))),
        numbers=np.zeros((0, len(normal.numbers[0]))), levels=levels,
    )  # fmt: skip


def _named(tree: Any) -> dict[str, Any]:
    """Return the leaves of a tree by their paths: "layers/0/w_x"."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
