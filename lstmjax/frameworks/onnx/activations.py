"""The activations of ONNX' LSTM, by name: the functions in JAX, and the constants that they take.

Source: the operator LSTM of ONNX, whose names and formulas these are. A constant that a node does not have takes the
default of the ONNX operator of that name; Affine and ScaledTanh have no defaults there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.cells import Activation, identity
from lstmjax.frameworks.base.activations import Elu, LeakyRelu, relu, softplus, softsign
from lstmjax.frameworks.base.layouts import ConvertError
from lstmjax.published import hard_sigmoid_fifth, hard_sigmoid_sixth
from lstmjax.types import Array


@dataclass(frozen=True)
class Affine:
    """Return α·z + β."""

    alpha: float
    beta: float

    def __call__(self, z: Array) -> Array:
        return self.alpha * z + self.beta


@dataclass(frozen=True)
class HardSigmoid:
    """Return max(0, min(1, α·z + β))."""

    alpha: float
    beta: float

    def __call__(self, z: Array) -> Array:
        return jnp.clip(self.alpha * z + self.beta, 0.0, 1.0)


@dataclass(frozen=True)
class ScaledTanh:
    """Return α·tanh(β·z)."""

    alpha: float
    beta: float

    def __call__(self, z: Array) -> Array:
        return self.alpha * jnp.tanh(self.beta * z)


@dataclass(frozen=True)
class ThresholdedRelu:
    """Return z from α on, and 0 below."""

    alpha: float

    def __call__(self, z: Array) -> Array:
        return jnp.where(z >= self.alpha, z, 0.0)


@dataclass(frozen=True)
class Row:
    """An activation: a function that makes it from its constants, and their defaults; None: there is no default."""

    make: Callable[..., Activation]
    alpha: float | None = None
    beta: float | None = None
    takes: int = 0  # how many constants: 0, 1 (alpha) or 2 (alpha and beta)


def _always(activation: Activation) -> Row:
    return Row(lambda: activation)


ACTIVATIONS = MappingProxyType(
    {
        "Sigmoid": _always(jax.lax.logistic),
        "Tanh": _always(jax.lax.tanh),
        "Relu": _always(relu),
        "Softsign": _always(softsign),
        "Softplus": _always(softplus),
        "Affine": Row(Affine, takes=2),
        "LeakyRelu": Row(LeakyRelu, 0.01, takes=1),
        "ThresholdedRelu": Row(ThresholdedRelu, 1.0, takes=1),
        "ScaledTanh": Row(ScaledTanh, takes=2),
        "HardSigmoid": Row(HardSigmoid, 0.2, 0.5, takes=2),
        "Elu": Row(Elu, 1.0, takes=1),
    }
)
"""All activations by ONNX' name."""

Written = tuple[str, tuple[float, ...]]
"""An activation as a node has it: its name, and its constants in the order alpha, beta."""

OURS: MappingProxyType[Activation, Written] = MappingProxyType(
    {
        jax.lax.logistic: ("Sigmoid", ()),
        jax.lax.tanh: ("Tanh", ()),
        identity: ("Affine", (1.0, 0.0)),
        hard_sigmoid_fifth: ("HardSigmoid", (0.2, 0.5)),
        hard_sigmoid_sixth: ("HardSigmoid", (1 / 6, 0.5)),
        relu: ("Relu", ()),
        softsign: ("Softsign", ()),
        softplus: ("Softplus", ()),
    }
)
"""Functions of the table of cells, and their names and constants in ONNX."""


def written(activation: Activation) -> Written | None:
    """Return an activation as a node has it, or None if ONNX does not have it."""
    name = type(activation).__name__
    if name in ACTIVATIONS and ACTIVATIONS[name].make is type(activation):
        return name, tuple(vars(activation).values())
    return OURS.get(activation)


def activations(names: Iterable[str], alphas: Iterable[float], betas: Iterable[float], where: str) -> list[Activation]:
    """Return the functions that a node names; each takes its constants from the two lists, in order.

    Raises:
        ConvertError: an activation is not in the table, or there are too few or too many constants.
    """
    remaining = {"alpha": list(alphas), "beta": list(betas)}
    result = []
    rows = {name.lower(): (name, row) for name, row in ACTIVATIONS.items()}
    for word in names:
        if word.lower() not in rows:
            raise ConvertError(f"{where}the activation {word!r} is not one of {', '.join(ACTIVATIONS)}")
        name, row = rows[word.lower()]
        constants: list[float] = []
        for constant in ("alpha", "beta")[: row.takes]:
            value = remaining[constant].pop(0) if remaining[constant] else getattr(row, constant)
            if value is None:
                raise ConvertError(
                    f"{where}the activation {name} has no activation_{constant}, and ONNX no default for it"
                )
            constants.append(value)
        result.append(_ours(name, tuple(constants)) or row.make(*constants))
    for constant, values in remaining.items():
        if values:
            raise ConvertError(
                f"{where}activation_{constant} has {len(values)} more values than activations that take one, so that "
                "which one belongs to which is not known"
            )
    return result


def _ours(name: str, constants: tuple[float, ...]) -> Activation | None:
    """Return the function of the table of cells with these constants, compared as float32, or None."""
    rounded = tuple(map(np.float32, constants))
    for function, (other, values) in OURS.items():
        if other == name and tuple(map(np.float32, values)) == rounded:
            return function
    return None
