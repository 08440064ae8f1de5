"""What a sweep searches: the file SPACE.yaml, its keys and their checks. JAX and Optuna are not imported here."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from lstmjax.config import SECTIONS, Config, ConfigError, Section, explain, keys, parse_config
from lstmjax.config.base import Size, Steps
from lstmjax.yaml_file import read_yaml

NOT_SEARCHED = ("seed", "epochs", "steps", "evaluate_every", "metrics", "writers", "loss.name")
"""Keys whose values cannot be compared by a metric at a step, or that a sweep sets."""


class Range(Section):
    """Numbers between two limits, both included."""

    low: int | float
    """Smallest value."""
    high: int | float
    """Largest value."""
    log: bool = False
    """Whether the logarithm is drawn evenly."""
    step: Annotated[int | float, Field(gt=0)] | None = None
    """Distance of neighbouring values from low on; None: any number, or any whole number."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low is {self.low} and high is {self.high}; low should be less")
        if self.log and self.low <= 0:
            raise ValueError(f"low is {self.low}, which has no logarithm; it should be greater than 0 with log: true")
        if self.log and self.step is not None:
            raise ValueError("log and step do not go together; remove one of them")
        return self


class Space(Section):
    """A sweep."""

    trials: Annotated[int, Field(ge=1, le=100_000)] = 20
    """Number of runs."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of the search; that of the runs is in the configuration."""
    prune: bool = True
    """Stop runs whose metric is worse than the median of the others at the same step."""
    startup_trials: Size = 5
    """Runs before any is stopped, and before the search learns from earlier ones."""
    warmup_steps: Steps = 0
    """Training steps before a run is stopped."""
    search: dict[str, Range | list[Any]]
    """Values by key, with dots: a list of values, or {low: ..., high: ...}, with log: true or step: ..."""


def load_space(path: str | Path) -> Space:
    """Read a sweep from a YAML file.

    Raises:
        ConfigError: no such file, not YAML, an unknown key, a wrong type or value.
    """
    return parse_space(read_yaml(path), str(path))


def parse_space(tree: dict[str, Any], name: str = "space") -> Space:
    """Return the sweep in a tree of plain values; `name` says in messages where it came from.

    Raises:
        ConfigError: an unknown key, a wrong type or value.
    """
    search = tree.get("search")
    if not isinstance(search, dict) or not search:
        raise ConfigError(f"{name}: search names no key; give some, such as optimizer.learning_rate: [1e-3, 1e-2]")
    for key, value in search.items():
        _check_key(key, name)
        _check_values(key, value, name)
    try:
        return Space.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(explain(error, name, Space)) from None


def _check_key(key: str, name: str) -> None:
    known = [each for each in keys(Config) if each not in (*SECTIONS, "data.columns")]
    if key in known and key not in NOT_SEARCHED:
        return
    if key in NOT_SEARCHED:
        raise ConfigError(f"{name}: search.{key}: it cannot be searched; set it in the configuration")
    near = get_close_matches(key, known, 1)
    words = [each for each in known if each.rpartition(".")[2] == key]
    hint = f"; did you mean {(words or near)[0]}?" if words or near else "; lstmjax train --help lists all keys"
    raise ConfigError(f"{name}: search.{key}: unknown key{hint}")


def _check_values(key: str, value: Any, name: str) -> None:
    if isinstance(value, list):
        if not value:
            raise ConfigError(f"{name}: search.{key} is an empty list; give the values to try")
        if len({repr(each) for each in value}) < len(value):
            raise ConfigError(f"{name}: search.{key} names a value twice: {value}")
        return
    if not isinstance(value, dict):
        raise ConfigError(
            f"{name}: search.{key} is {value!r}; it should be a list of values, or {{low: ..., high: ...}}"
        )
    try:
        Range.model_validate(value)
    except ValidationError as error:
        raise ConfigError(explain(error, f"{name}: search.{key}", Range)) from None


def candidate(config: Config, values: Mapping[str, Any], name: str = "sweep") -> Config:
    """Return a configuration with the values of some keys, which have dots.

    Raises:
        ConfigError: they do not fit, or not together.
    """
    tree = config.model_dump(mode="json")
    for key, value in values.items():
        *sections, last = key.split(".")
        place = tree
        for section in sections:
            place = place[section]
        place[last] = value
    return parse_config(tree, name)


def check_space(space: Space, config: Config) -> None:
    """Refuse values that the configuration does not take, each by itself, before any run begins.

    Raises:
        ConfigError: a value cannot be used.
    """
    for key, row in space.search.items():
        ends = [row.low, row.high] if isinstance(row, Range) else row
        for value in ends:
            candidate(config, {key: value}, f"search.{key} {value!r}")
