"""The LSTM for JAX: one equation in one place, scanned over time."""

# ruff: noqa: F403, F405
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lstmjax import inside as inside
    from lstmjax import plot as plot
    from lstmjax.api import *
    from lstmjax.inside import fixed_points, trace
    from lstmjax.replica import verify

__version__ = "0.1.0"

__all__ = [
    "CELLS",
    "GATES",
    "MASS_FORMS",
    "PRESETS",
    "Bidirectional",
    "Cell",
    "Concatenated",
    "Dense",
    "EntityParams",
    "GateParams",
    "LSTMParams",
    "LanguageParams",
    "MassForm",
    "MassGate",
    "MassParams",
    "MassStep",
    "NetworkParams",
    "Norms",
    "RecurrentDropout",
    "Shapes",
    "Step",
    "Tied",
    "Zoneout",
    "as_entity_aware",
    "as_vanilla",
    "cell_step",
    "clip_cell",
    "clip_inputs",
    "clip_projection",
    "compile_step",
    "emitted",
    "entity_aware",
    "explain_backend",
    "find_cell",
    "fixed_points",
    "from_concatenated",
    "init_entity_aware",
    "init_language",
    "init_mass_conserving",
    "init_network",
    "init_params",
    "init_stacked",
    "language",
    "lstm",
    "mass_conserving",
    "mass_conserving_step",
    "network",
    "outflow",
    "product",
    "shapes",
    "stacked",
    "tensorflow_lite_cell",
    "to_concatenated",
    "trace",
    "truncated_gradient",
    "verify",
    "weight_drop",
    "with_activations",
    "with_statics",
]


ELSEWHERE = {"fixed_points": "lstmjax.inside", "trace": "lstmjax.inside", "verify": "lstmjax.replica"}
"""Names that are loaded by themselves, each with what it brings along."""

PACKAGES = ("inside", "plot")
"""Packages that load when they are named; `*` leaves them, since pictures bring more than JAX."""


def __getattr__(name: str) -> Any:
    """Load JAX with the first public name that is used, so that `lstmjax --help` answers at once."""
    from importlib import import_module

    if name in PACKAGES:
        return import_module(f"lstmjax.{name}")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(ELSEWHERE.get(name, "lstmjax.api")), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *PACKAGES})
