"""The LSTM for JAX: one equation in one place, scanned over time."""

from lstmjax.cell import cell_step, emitted, product
from lstmjax.cells import CELLS, Cell
from lstmjax.dimensions import Shapes, shapes
from lstmjax.init import PRESETS, init_params, init_stacked
from lstmjax.layer import lstm
from lstmjax.network import Dense, NetworkParams, init_network, network
from lstmjax.stack import stacked
from lstmjax.types import (
    GATES,
    Bidirectional,
    Concatenated,
    GateParams,
    LSTMParams,
    Step,
    from_concatenated,
    to_concatenated,
)
from lstmjax.wrappers import RecurrentDropout, Zoneout

__version__ = "0.1.0"

__all__ = [
    "CELLS",
    "GATES",
    "PRESETS",
    "Bidirectional",
    "Cell",
    "Concatenated",
    "Dense",
    "GateParams",
    "LSTMParams",
    "NetworkParams",
    "RecurrentDropout",
    "Shapes",
    "Step",
    "Zoneout",
    "cell_step",
    "emitted",
    "from_concatenated",
    "init_network",
    "init_params",
    "init_stacked",
    "lstm",
    "network",
    "product",
    "shapes",
    "stacked",
    "to_concatenated",
]
