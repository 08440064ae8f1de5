"""The section `loss` of the configuration, and the names of the metrics."""

from __future__ import annotations

from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from lstmjax.config.base import Above0, Below1, Section, names_in

KINDS = MappingProxyType(
    {
        "softmax": "classes", "sigmoid": "switches",
        "linear": "numbers", "absolute": "numbers", "huber": "numbers", "quantile": "numbers",
    }
)  # fmt: skip
"""What the targets of each loss are."""
METRICS = MappingProxyType(
    {
        "classes": (
            "accuracy",
            "balanced_accuracy",
            "macro_f1",
            "auc",
            "perplexity",
            "bits_per_character",
            "bits_per_byte",
        ),
        "switches": ("accuracy", "macro_f1", "auc"),
        "numbers": ("mae", "mse", "rmse", "r2"),
    }
)
"""The metrics of each kind of targets, repeated so that JAX need not be imported; a test compares them."""


def _as_numbers(value: object) -> object:
    """Return "0.1,0.5,0.9", as the command line has it, as a tuple of numbers."""
    if not isinstance(value, str):
        return tuple(value) if isinstance(value, list) else value
    try:
        return tuple(float(word) for word in names_in(value))
    except ValueError:
        return value


def _as_weights(value: object) -> object:
    """Return "a=2,b=1", as the command line has it, or "{a: 2, b: 1}" as a mapping."""
    if not isinstance(value, str):
        return value
    in_braces = value.startswith("{") and value.endswith("}")
    words = value[1:-1] if in_braces else value
    sign = ":" if in_braces else "="
    if sign not in words:
        return value
    try:
        return {name.strip(): float(weight) for name, weight in (pair.rsplit(sign, 1) for pair in names_in(words))}
    except ValueError:
        return value


Quantile = Annotated[float, Field(gt=0.0, lt=1.0)]
Quantiles = Annotated[tuple[Quantile, ...], BeforeValidator(_as_numbers)]
Weights = Annotated[Literal["balanced"] | dict[str, Above0] | None, BeforeValidator(_as_weights)]


class Loss(Section):
    """The loss, and with it what the logits mean."""

    name: Literal["softmax", "sigmoid", "linear", "absolute", "huber", "quantile"] = "softmax"
    """"softmax": one class; "sigmoid": any number of labels at once; numbers with their "linear" (squared), "absolute"
    or "huber" error, or their "quantile"s."""
    label_smoothing: Below1 = 0.0
    """Fraction of the target that is spread over all classes."""
    class_weights: Weights = None
    """Weights of the classes in the training loss: "balanced" makes them count alike, or a weight by class, such as
    {up: 2}, 1 where none is named. None: every label counts 1. Only their ratios matter. Metrics do not see them."""
    delta: Above0 = 1.0
    """Error from which on the Huber loss grows linearly, on the scale on which the targets are learned."""
    quantiles: Quantiles = ()
    """For the quantile loss: which ones are predicted of each number, such as [0.1, 0.5, 0.9], in ascending order."""

    @model_validator(mode="after")
    def _numbers_are_not_smoothed(self) -> Self:
        if self.kind == "numbers" and self.label_smoothing:
            raise ValueError(f"loss.label_smoothing is for classes; set it to 0 for loss.name: {self.name}")
        return self

    @model_validator(mode="after")
    def _keys_are_for_a_loss(self) -> Self:
        if self.class_weights is not None and self.name != "softmax":
            raise ValueError(f"loss.class_weights is for loss.name: softmax; remove it for {self.name}")
        if self.delta != 1.0 and self.name != "huber":
            raise ValueError(f"loss.delta is for loss.name: huber; remove it for {self.name}")
        if bool(self.quantiles) != (self.name == "quantile"):
            raise ValueError("loss.quantiles and loss.name: quantile go together; give both or neither")
        if list(self.quantiles) != sorted(set(self.quantiles)):
            raise ValueError(f"loss.quantiles is {list(self.quantiles)}; give each once, in ascending order")
        return self

    @property
    def kind(self) -> str:
        """What the targets are: "classes", "switches" or "numbers"."""
        return KINDS[self.name]

    @property
    def width(self) -> int:
        """The number of outputs for each number of a regression, or each class."""
        return max(len(self.quantiles), 1)

    def __hash__(self) -> int:
        weights: Any = self.class_weights
        items = tuple(sorted(weights.items())) if isinstance(weights, dict) else weights
        return hash((self.name, self.label_smoothing, items, self.delta, self.quantiles))
