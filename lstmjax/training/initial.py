"""Start training from the network of another run, or of a weights file: `init_from` of a configuration."""

from __future__ import annotations

import logging
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.config import Config, ConfigError
from lstmjax.convert import ConvertError, load_weights
from lstmjax.data import About
from lstmjax.networks import NetworkParams
from lstmjax.runs import RunFolder
from lstmjax.training.paths import check_patterns, leaf_names, matched
from lstmjax.training.reading import load_run
from lstmjax.types import PyTree

log = logging.getLogger("lstmjax")


def with_initial(config: Config, params: NetworkParams, about: About) -> NetworkParams:
    """Return the parameters of a new run, with those of `init_from` in place of the random ones.

    Args:
        config: configuration of the run; `init_fresh` says what stays random.
        params: random initial values.
        about: the run's data.

    Raises:
        ConfigError: a parameter is missing, superfluous or of another shape; the message says which, and the remedy.
    """
    if config.init_from is None:
        return params
    path = Path(config.init_from)
    source = _network(path, config, about)
    loaded = dict(zip(leaf_names(source), jax.tree.leaves(source), strict=True))
    names, leaves = leaf_names(params), jax.tree.leaves(params)
    check_patterns(names, config.init_fresh, "init_fresh")
    fresh = dict(zip(names, matched(names, config.init_fresh), strict=True))
    more = [name for name in loaded if name not in fresh and not any(matched([name], config.init_fresh))]
    if more:
        raise ConfigError(
            f"init_from: {path} has {more[0]}, which this network has not; change `model` to that of the file"
        )
    taken = []
    for name, leaf in zip(names, leaves, strict=True):
        if fresh[name]:
            taken.append(leaf)
            continue
        if name not in loaded or np.shape(loaded[name]) != leaf.shape:
            has = f"{name} of shape {np.shape(loaded[name])}" if name in loaded else f"no {name}"
            raise ConfigError(
                f"init_from: {path} has {has}, but this network has {name} of shape {leaf.shape}; change `model`, or "
                f"let it begin at random: init_fresh: [{name.rpartition('.')[0]}.*]"
            )
        if np.dtype(loaded[name].dtype).itemsize > leaf.dtype.itemsize:
            raise ConfigError(
                f"init_from: {path} has {name} as {loaded[name].dtype}, which model.param_dtype {leaf.dtype} would "
                "round; set model.param_dtype to the same"
            )
        taken.append(jnp.asarray(loaded[name], leaf.dtype))
    result: NetworkParams = jax.tree.unflatten(jax.tree.structure(params), taken)
    return result


def _network(path: Path, config: Config, about: About) -> PyTree:
    """Return the network of a run or a file; refuse another cell than that of the configuration."""
    if not path.exists():
        raise ConfigError(f"init_from: {path}: no such run folder or weights file")
    if (path / "config.yaml").is_file():
        model = RunFolder.open(path).config.model
        for key in ("cell", "merge", "residual", "projection_size"):
            theirs, ours = getattr(model, key), getattr(config.model, key)
            if theirs != ours:
                raise ConfigError(f"init_from: {path} has model.{key} {theirs}, this run {ours}; set it to {theirs}")
        trained = load_run(path)
        if about.is_stream and trained.about.classes != about.classes:
            raise ConfigError(
                f"init_from: {path} has another vocabulary, so that its embedding means other tokens; train on a text "
                "with the same one"
            )
        if (trained.about.offset, trained.about.scale) != (about.offset, about.scale):
            log.warning(
                "%s: learned its inputs on another scale than that of this run, so that its weights see other numbers; "
                "training has to adapt them",
                path,
            )
        return trained.params
    try:
        params = load_weights(path, cell=config.model.cell, merge=config.model.merge)
    except ConvertError as error:
        raise ConfigError(f"init_from: {error}") from None
    return params if isinstance(params, NetworkParams) else {"layers": params}
