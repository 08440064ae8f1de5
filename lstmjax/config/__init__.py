"""The configuration of a run: the keys of the YAML file, their defaults and their checks, a file for each section.

JAX is not imported here, so that `lstmjax --help` and a mistyped key are answered at once.
"""

from lstmjax.config.base import Section
from lstmjax.config.data import BUILT_IN, EARLIER, FILE, TEXTS, Columns, Data, Source
from lstmjax.config.learning import Average, Plateau, Stopping
from lstmjax.config.loss import KINDS, METRICS, Loss
from lstmjax.config.model import CellName, Model
from lstmjax.config.optimizer import Optimizer
from lstmjax.config.reading import dump_config, explain, flat, keys, load_config, parse_config, with_absolute_paths
from lstmjax.config.root import SECTIONS, Config
from lstmjax.errors import ConfigError

__all__ = [
    "BUILT_IN",
    "EARLIER",
    "FILE",
    "KINDS",
    "METRICS",
    "SECTIONS",
    "TEXTS",
    "Average",
    "CellName",
    "Columns",
    "Config",
    "ConfigError",
    "Data",
    "Loss",
    "Model",
    "Optimizer",
    "Plateau",
    "Section",
    "Source",
    "Stopping",
    "dump_config",
    "explain",
    "flat",
    "keys",
    "load_config",
    "parse_config",
    "with_absolute_paths",
]
