"""Where the public names come from; `lstmjax` itself loads them from here with the first that is used."""

# ruff: noqa: F401
from lstmjax.cell import cell_step, emitted, product
from lstmjax.cells import Cell
from lstmjax.dimensions import Shapes, shapes
from lstmjax.dropout import RecurrentDropout, Zoneout, weight_drop
from lstmjax.entity import EntityParams, as_entity_aware, as_vanilla, entity_aware, with_statics
from lstmjax.explain import explain_backend
from lstmjax.init import PRESETS, init_params
from lstmjax.init_hydrology import init_entity_aware, init_mass_conserving
from lstmjax.init_stack import init_network, init_stacked
from lstmjax.language_model import init_language, language
from lstmjax.layer import lstm
from lstmjax.mass import MASS_FORMS, MassForm, MassGate, MassParams, MassStep
from lstmjax.mass_layer import mass_conserving, mass_conserving_step, outflow
from lstmjax.networks import Dense, LanguageParams, NetworkParams, Tied, network
from lstmjax.published import (
    CELLS,
    clip_cell,
    clip_inputs,
    clip_projection,
    find_cell,
    tensorflow_lite_cell,
    with_activations,
)
from lstmjax.stack import stacked
from lstmjax.streaming import compile_step
from lstmjax.textbook import Concatenated, from_concatenated, to_concatenated
from lstmjax.truncated import truncated_gradient
from lstmjax.types import GATES, Bidirectional, GateParams, LSTMParams, Norms, Step
