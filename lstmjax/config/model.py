"""The section `model` of the configuration."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from lstmjax.config.base import LARGEST, Below1, Depth, Number, Rate, Section, Width

CellName = Literal[
    "vanilla", "peephole", "nig", "nfg", "nog", "niaf", "noaf", "cifg", "cifg_mirror", "fgr", "no_forget_gate",
    "projection", "layer_norm", "layer_norm_carried", "layer_norm_per_gate",
    "hard_sigmoid_fifth", "hard_sigmoid_sixth", "np",
]  # fmt: skip
"""The keys of `lstmjax.CELLS`, repeated so that JAX need not be imported; a test compares the two."""


class Model(Section):
    """The network: LSTM layers and a Dense head."""

    cell: CellName = "vanilla"
    """The equations of a step, a row of `lstmjax.CELLS`."""
    hidden_size: Width = 128
    """H, units of each layer in each direction."""
    layers: Depth = 1
    """L, layers on top of each other."""
    bidirectional: bool = False
    """Read the sequence in both directions."""
    merge: Literal["concat", "sum"] = "concat"
    """How the two directions' outputs are joined."""
    dropout: Rate = 0.0
    """Rate of dropout between layers and before the head, 0 to 1."""
    recurrent_dropout: Rate = 0.0
    """Rate of dropout on h before the recurrent product, with one mask for each sequence."""
    weight_drop: Below1 = 0.0
    """Rate of DropConnect on the recurrent weights, drawn once for each batch (Merity et al. 2018)."""
    zoneout: Rate = 0.0
    """Probability that a unit keeps its h and its c."""
    embedding_size: Width | None = None
    """E, width of the embedding of a language model; None: that of h."""
    tie_weights: bool = False
    """Use the embedding of a language model as the weights of its head, too (Press & Wolf 2017)."""
    projection_size: Width | None = None
    """P, width of h if it is projected; None: P = H."""
    bias: Literal["preset", "single", "double"] | None = "preset"
    """Biases of each gate; "preset": as many as the framework of the preset has."""
    init: Literal["default", "torch", "keras", "flax", "flax_optimized_nnx", "haiku", "equinox"] = "default"
    """Preset of initial values: the distributions of a framework."""
    forget_bias: Number | None = None
    """Initial bias of the forget gate; None: that of the preset."""
    input_bias: Number | None = None
    """Initial bias of the input gate of each layer's first unit; None: that of the preset."""
    input_bias_step: Number = 0.0
    """Difference of the input gate's initial bias from one unit to the next."""
    residual: bool = False
    """Add the input of each layer to its output, from the second layer on."""
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"
    """Dtype of the computation."""
    param_dtype: Literal["float32", "float64"] = "float32"
    """Dtype of the stored parameters."""

    @model_validator(mode="after")
    def _a_projection_has_its_width(self) -> Self:
        if self.cell == "projection" and self.projection_size is None:
            raise ValueError(
                "cell projection without projection_size is cell peephole; set model.projection_size, the width of h"
            )
        return self

    @model_validator(mode="after")
    def _a_step_has_its_beginning(self) -> Self:
        if self.input_bias is None and self.input_bias_step:
            raise ValueError(
                f"model.input_bias_step is {self.input_bias_step}, but there is no bias of the first unit to step "
                "from; set model.input_bias, or remove model.input_bias_step"
            )
        return self

    @model_validator(mode="after")
    def _biases_are_finite(self) -> Self:
        highest = abs((self.input_bias or 0.0) + self.input_bias_step * (self.hidden_size - 1))
        if highest > LARGEST:
            raise ValueError(
                f"input_bias + input_bias_step · (hidden_size − 1) is {highest:g} in size, which is infinite in "
                "float32; set model.input_bias_step nearer to 0"
            )
        return self

    @property
    def needs_x64(self) -> bool:
        """Whether JAX must be allowed to use 64-bit numbers."""
        return "float64" in (self.dtype, self.param_dtype)
