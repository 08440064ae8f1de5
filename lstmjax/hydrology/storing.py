"""Regional models in files: one NPZ with all arrays, and what is fixed as JSON in it."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path

import jax

from lstmjax.forecast.network import Normal
from lstmjax.forecast.storing import named, read_arrays, unnamed, write_arrays
from lstmjax.hydrology.design import Design
from lstmjax.hydrology.network import NETWORKS, Scales
from lstmjax.hydrology.regional import RegionalModel

VERSION = 1
KIND = "regional model"


def save_model(path: str | Path, model: RegionalModel) -> None:
    """Write a model with its scales to an NPZ file, completely or not at all."""
    arrays = {f"params/{name}": leaf for name, leaf in named(model.params).items()}
    arrays |= {f"scales/{name}": leaf for name, leaf in named(model.scales).items()}
    about = {
        "what": KIND, "version": VERSION, "design": asdict(model.design), "seeds": model.seeds,
        "forcing": model.forcing_names, "attributes": model.attribute_names, "losses": model.losses,
        "levels": model.levels,
    }  # fmt: skip
    write_arrays(path, arrays, about)


def load_model(path: str | Path) -> RegionalModel:
    """Read what `save_model` wrote.

    Raises:
        ForecasterFileError: no such file, or it holds something else.
    """
    arrays, about = read_arrays(path, KIND, VERSION)
    design, seeds = Design(**about["design"]), tuple(about["seeds"])
    levels = tuple((name, tuple(values)) for name, values in about.get("levels", ()))  # files of before have none
    attributes = len(about["attributes"]) + sum(len(values) for _, values in levels)
    init = partial(NETWORKS[design.cell].init, design=design, forcing=len(about["forcing"]), attributes=attributes)
    like = jax.eval_shape(lambda keys: jax.vmap(init)(keys), jax.random.split(jax.random.key(0), len(seeds)))
    pair = lambda name: (arrays[f"scales/{name}/0"], arrays[f"scales/{name}/1"])
    scales = Scales(
        Normal(*(pair(f"normal/{name}") for name in Normal._fields)), pair("discharge"), arrays["scales/deviation"]
    )
    return RegionalModel(
        unnamed(path, "params", arrays, like), design, scales, seeds, tuple(about["forcing"]),
        tuple(about["attributes"]), tuple(map(tuple, about["losses"])), levels,
    )  # fmt: skip
