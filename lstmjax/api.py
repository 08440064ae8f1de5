"""Where the public names come from; `lstmjax` itself loads them from here with the first that is used."""

# ruff: noqa: F401
from lstmjax.cell import cell_step, emitted, product
from lstmjax.cells import CELLS, Cell
from lstmjax.dimensions import Shapes, shapes
from lstmjax.init import PRESETS, init_params, init_stacked
from lstmjax.layer import lstm
from lstmjax.networks import Dense, NetworkParams, init_network, network
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
