"""The activations of ONNX' LSTM, by name: what each computes, in JAX, and which constants it takes.

Source: the operator LSTM of ONNX, whose names and formulas these are. A constant that a node does not
give has the default of the ONNX operator of that name; Affine and ScaledTanh have none there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.cells import Activation, identity
from lstmjax.convert.activations import Elu, LeakyRelu, relu, softplus, softsign
from lstmjax.convert.layouts import ConvertError
from lstmjax.published import hard_sigmoid_fifth, hard_sigmoid_sixth
from lstmjax.types import Array


@dataclass(frozen=True)
class Affine:
    """Gives α·z + β."""

    alpha: float
    beta: float

    def __call__(self, z: Array) -> Array:
        return self.alpha * z + self.beta


@dataclass(frozen=True)
class HardSigmoid:
    """Gives max(0, min(1, α·z + β))."""

    alpha: float
    beta: float

    def __call__(self, z: Array) -> Array:
        return jnp.clip(self.alpha * z + self.beta, 0.0, 1.0)


@dataclass(frozen=True)
class ScaledTanh:
    """Gives α·tanh(β·z)."""

    alpha: float
    beta: float

    def __call__(self, z: Array) -> Array:
        return self.alpha * jnp.tanh(self.beta * z)


@dataclass(frozen=True)
class ThresholdedRelu:
    """Gives z from α on, and 0 below."""

    alpha: float

    def __call__(self, z: Array) -> Array:
        return jnp.where(z >= self.alpha, z, 0.0)


@dataclass(frozen=True)
class Row:
    """One activation: how it is made of its constants, and their defaults; None: ONNX has no default."""

    make: Callable[..., Activation]
    alpha: float | None = None
    beta: float | None = None
    takes: int = 0  # constants: none, alpha, or alpha and beta


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
"""An activation as a node says it: its name, and its constants in the order alpha, beta."""

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
"""Functions of the table of cells, and how ONNX says them."""


def written(activation: Activation) -> Written | None:
    """Gives an activation as a node says it, or None if ONNX has no word for it."""
    name = type(activation).__name__
    if name in ACTIVATIONS and ACTIVATIONS[name].make is type(activation):
        return name, tuple(vars(activation).values())
    return OURS.get(activation)


def activations(names: Iterable[str], alphas: Iterable[float], betas: Iterable[float], where: str) -> list[Activation]:
    """Gives the functions that a node names; each takes its constants off the two lists, in order.

    Raises:
        ConvertError: an activation that is not in the table, or constants that are missing or left over.
    """
    left = {"alpha": list(alphas), "beta": list(betas)}
    result = []
    rows = {name.lower(): (name, row) for name, row in ACTIVATIONS.items()}
    for given in names:
        if given.lower() not in rows:
            raise ConvertError(f"{where}the activation {given!r} is not one of {', '.join(ACTIVATIONS)}")
        name, row = rows[given.lower()]
        constants: list[float] = []
        for constant in ("alpha", "beta")[: row.takes]:
            value = left[constant].pop(0) if left[constant] else getattr(row, constant)
            if value is None:
                raise ConvertError(
                    f"{where}the activation {name} has no activation_{constant}, and ONNX no default for it"
                )
            constants.append(value)
        result.append(_ours(name, tuple(constants)) or row.make(*constants))
    for constant, values in left.items():
        if values:
            raise ConvertError(
                f"{where}activation_{constant} has {len(values)} more values than activations that take one, so that "
                "which one belongs to which is not known"
            )
    return result


def _ours(name: str, constants: tuple[float, ...]) -> Activation | None:
    """Gives the function of the table of cells that these constants, float32 in a file, stand for."""
    rounded = tuple(map(np.float32, constants))
    for function, (other, values) in OURS.items():
        if other == name and tuple(map(np.float32, values)) == rounded:
            return function
    return None
