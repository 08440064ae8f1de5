"""The configuration of a run: the keys of the YAML file, their defaults and their checks, a file for each section.

JAX is not imported here, so that `lstmjax --help` and a mistyped key are answered at once.
"""

from lstmjax.config.base import Section
from lstmjax.config.data import BUILT_IN, FILE, Data, Source
from lstmjax.config.loss import Loss
from lstmjax.config.model import CellName, Model
from lstmjax.config.optimizer import Optimizer
from lstmjax.config.reading import dump_config, explain, keys, load_config, parse_config, with_absolute_paths
from lstmjax.config.root import SECTIONS, Config
from lstmjax.errors import ConfigError

__all__ = [
    "BUILT_IN",
    "FILE",
    "SECTIONS",
    "CellName",
    "Config",
    "ConfigError",
    "Data",
    "Loss",
    "Model",
    "Optimizer",
    "Section",
    "Source",
    "dump_config",
    "explain",
    "keys",
    "load_config",
    "parse_config",
    "with_absolute_paths",
]
