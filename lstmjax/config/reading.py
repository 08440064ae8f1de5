"""Read a configuration from YAML or plain values, with messages that name the key, and write it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from lstmjax.config.data import BUILT_IN, EARLIER
from lstmjax.config.root import PATHS, Config
from lstmjax.errors import ConfigError
from lstmjax.yaml_file import read_yaml


def load_config(path: str | Path, *, of_run: bool = False) -> Config:
    """Read a configuration from a YAML file.

    Paths in `data` are relative to the current folder, and made absolute.

    Args:
        path: the file.
        of_run: it is the config.yaml of a run, which holds every value: what it lacks is what earlier versions did.

    Raises:
        ConfigError: no such file, not YAML, a configuration of a forecast, an unknown key, a wrong type or value; the
            message names the file, the key and the nearest valid one.
    """
    tree = read_yaml(path)
    if {"training", "test"} <= tree.keys() and "model" not in tree:
        raise ConfigError(
            f"{path}: is a configuration of lstmjax hydrology (it has the keys training and test), not of lstmjax "
            f"train; run lstmjax hydrology {path}"
        )
    if "horizon" in tree and "model" not in tree:
        raise ConfigError(
            f"{Path(path).parent}: is the folder of a forecast, not of lstmjax train; its networks are measured by "
            f"lstmjax backtest {Path(path).parent}, and its forecasts are in forecast.csv"
            if of_run
            else f"{path}: is a configuration of lstmjax forecast (it has the key horizon), not of lstmjax train; run "
            f"lstmjax forecast {path}"
        )
    if of_run and isinstance(tree.setdefault("data", {}), dict):
        tree["data"] = dict(EARLIER) | tree["data"]
    return parse_config(tree, str(path))


def parse_config(tree: dict[str, Any], name: str = "config") -> Config:
    """Return the configuration in a tree of plain values; `name` says in messages where it came from.

    Raises:
        ConfigError: an unknown key, a wrong type or value.

    >>> parse_config({"epochs": 3, "model": {"hiden_size": 8}})
    Traceback (most recent call last):
    ...
    lstmjax.errors.ConfigError: config: unknown key model.hiden_size; did you mean model.hidden_size?
    """
    try:
        text = json.dumps(tree, default=str)
    except (RecursionError, TypeError, ValueError) as error:  # a value that contains itself, a key that is no string
        raise ConfigError(f"{name}: is not a tree of keys and values ({error})") from None
    try:
        return with_absolute_paths(Config.model_validate_json(text))
    except ValidationError as error:
        raise ConfigError(explain(error, name)) from None
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None


def with_absolute_paths(config: Config) -> Config:
    """Make the paths in the `data` section, and that of `init_from`, absolute; ~ is the home folder.

    Raises:
        ConfigError: a path begins with ~ and the name of a user who has no home folder.
    """
    update = {}
    for key in PATHS:
        path = getattr(config.data, key)
        if path and path not in BUILT_IN:
            update[key] = _absolute(path, f"data.{key}")
    changed: dict[str, Any] = {"data": config.data.model_copy(update=update)} if update else {}
    if config.init_from:
        changed["init_from"] = _absolute(config.init_from, "init_from")
    return config.model_copy(update=changed) if changed else config


def _absolute(path: str, key: str) -> str:
    try:
        return str(Path(path).expanduser().absolute())
    except RuntimeError:
        user = Path(path).parts[0]
        raise ConfigError(
            f"{key} is {path!r}, but {user} is nobody's home folder; write ~/ for your home folder, or "
            f"./{user} for a folder of this name"
        ) from None


def dump_config(config: Config) -> str:
    """Return a configuration as YAML for `load_config`, with all defaults written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def flat(tree: Mapping[str, Any], prefix: str = "", *, separator: str = ".") -> dict[str, Any]:
    """Return a tree of values by keys with dots, or with another separator.

    >>> flat({"model": {"layers": 2}, "seed": 0})
    {'model.layers': 2, 'seed': 0}
    """
    values: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            values |= flat(value, f"{prefix}{key}{separator}", separator=separator)
        else:
            values[prefix + key] = value
    return values


def explain(error: ValidationError, name: str, root: type[BaseModel] = Config) -> str:
    """Return a line for each fault: the key, its value, and what was expected; `root` is the whole file's class."""
    lines = []
    for fault in error.errors():
        key = ".".join(_config_keys(fault["loc"], root))
        message = (
            fault["msg"]
            .removeprefix("Value error, ")
            .replace("Input should be", "it should be")
            .replace("an object", "a section with keys of its own")
        )
        if fault["type"] == "extra_forbidden":
            lines.append(f"{name}: unknown key {key}{_nearest(key, keys(root))}")
        elif fault["type"] in ("value_error", "json_invalid"):
            lines.append(f"{name}: {key + ': ' if key else ''}{message}")
        elif fault["type"] == "missing" and isinstance(fault["loc"][-1], int):  # of a list
            lines.append(f"{name}: {key} is {fault['input']!r}; it should have more entries")
        elif fault["type"] == "missing":
            lines.append(f"{name}: {key} is missing, and has no default")
        else:
            lines.append(f"{name}: {key} is {fault['input']!r}; {message}")
    return "\n".join(dict.fromkeys(lines))


def keys(section: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """Return all keys of the configuration, with dots: "model", "model.hidden_size", ..."""
    result = []
    for field, info in section.model_fields.items():
        result.append(prefix + field)
        for annotation in get_args(info.annotation) or (info.annotation,):  # a section, or a section or None
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                result += keys(annotation, f"{prefix}{field}.")
    return result


def _config_keys(loc: tuple[int | str, ...], root: type[BaseModel]) -> list[str]:
    """Return the keys in a location, without the members of a union that pydantic appends."""
    sections = {key.rpartition(".")[0] for key in keys(root)}
    path: list[str] = []
    for part in map(str, loc):
        if path and ".".join(path) not in sections:
            break
        path.append(part)
    return path


def _nearest(key: str, known: list[str]) -> str:
    """Return a hint: the nearest key in the same section, or else in another one, or else all valid keys."""
    section, _, word = key.rpartition(".")
    siblings = [k for k in known if k.rpartition(".")[0] == section]
    by_word = {k.rpartition(".")[2]: k for k in reversed(known)}
    near = get_close_matches(key, siblings, 1, 0.75)
    near = near or [by_word[match] for match in get_close_matches(word, by_word, 1, 0.75)]
    near = near or get_close_matches(key, siblings, 1)
    return f"; did you mean {near[0]}?" if near else f"; valid ones are {', '.join(siblings or known)}"
