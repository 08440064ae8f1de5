"""The LSTM for JAX: one equation in one place, scanned over time."""

# ruff: noqa: F403, F405
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lstmjax.api import *

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


class _Package(ModuleType):
    """Loads JAX with the first public name that is used, so that `lstmjax --help` answers at once."""

    def __getattr__(self, name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from lstmjax import api

        vars(self).update({public: getattr(api, public) for public in __all__})
        return vars(self)[name]

    def __setattr__(self, name: str, value: Any) -> None:
        # `network` is the function, also once the module of the same name has been imported.
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
