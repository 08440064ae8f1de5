"""The configuration with all its sections."""

from __future__ import annotations

import hashlib
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from lstmjax.config.base import Batch, Count, Patterns, Section, Size
from lstmjax.config.data import Data
from lstmjax.config.devices import Mesh
from lstmjax.config.learning import Average, Plateau, Stopping
from lstmjax.config.loss import METRICS, Loss
from lstmjax.config.model import Model
from lstmjax.config.optimizer import Optimizer


class Config(Section):
    """The configuration of a run."""

    model: Model = Model()
    data: Data = Data()
    optimizer: Optimizer = Optimizer()
    loss: Loss = Loss()
    stopping: Stopping = Stopping()
    plateau: Plateau = Plateau()
    average: Average = Average()
    init_from: str | None = None
    """Run folder or weights file whose network training starts from; None: random initial values."""
    init_fresh: Patterns = ()
    """Parameters that are not taken from init_from, by patterns of their paths, such as "head.*"."""
    batch_size: Batch = 64
    """B, sequences in one training step."""
    epochs: Count | None = None
    """Passes over the training part; give either this or steps. Generated data have no epochs."""
    steps: Count | None = None
    """Training steps; give either this or epochs."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of the initial values, the order of the data, dropout and shifts."""
    evaluate_every: Size | None = None
    """Steps between validations; None: once an epoch, or ten times in all without epochs."""
    checkpoint_every: Size | None = None
    """Steps between checkpoints, which are also validated; None: at every validation."""
    keep_every: Size | None = None
    """Steps between checkpoints that are kept beside the last two and the best one; None: no others."""

    metrics: Patterns = ()
    """What is measured, such as [accuracy, macro_f1]; the first one chooses the best network. None: the accuracy, the
    error that the loss of a regression is made of, or the perplexity of a language model."""
    gradients: bool = False
    """Write the norm of the gradient, and its noise scale in batches, to metrics.jsonl."""
    on_nan: Literal["stop", "skip"] = "stop"
    """A loss or gradient that is NaN or infinite: "stop" training, or "skip" the batch."""
    writers: Patterns = ()
    """Where the numbers of each validation are also written to, such as tensorboard; None: metrics.jsonl alone."""

    mesh: Mesh = "auto"
    """Devices: auto, all of them, each with its part of the batch; data=4,model=2 splits the batch in 4 slices, and the
    hidden units in 2 parts. A run can be continued on another mesh."""

    @model_validator(mode="after")
    def _a_text_has_a_language_model(self) -> Self:
        model, data = self.model, self.data
        if data.text is not None and self.loss.name != "softmax":
            raise ValueError(f"loss.name is {self.loss.name}, but the next token of a text is a class; say softmax")
        if not data.is_stream:
            for key in ("embedding_size", "tie_weights"):
                if getattr(model, key):
                    raise ValueError(
                        f"model.{key} is for a language model, which reads a text (data.text) without data.window; "
                        "remove it"
                    )
            return self
        if model.bidirectional:
            raise ValueError("model.bidirectional would show a language model the token it predicts; set it to false")
        if self.loss.class_weights is not None:
            raise ValueError("loss.class_weights is not for language models; remove it")
        width = model.hidden_size if model.projection_size is None else model.projection_size
        if model.tie_weights and model.embedding_size not in (None, width):
            raise ValueError(
                "model.tie_weights needs an embedding as wide as h, but model.embedding_size is "
                f"{model.embedding_size} and h is {width} wide; leave model.embedding_size out, "
                "or set model.projection_size to it"
            )
        return self

    @model_validator(mode="after")
    def _bits_of_a_token_have_its_name(self) -> Self:
        for name, kind in (("bits_per_character", "characters"), ("bits_per_byte", "bytes")):
            if name in self.metrics and self.data.text not in (None, kind):
                raise ValueError(
                    f"metrics has {name}, but the tokens are {self.data.text}; say data.text: {kind}, or take "
                    "perplexity"
                )
        return self

    @model_validator(mode="after")
    def _metrics_of_the_loss(self) -> Self:
        names = METRICS[self.loss.kind] + (("pinball",) if self.loss.name == "quantile" else ())
        for name in self.metrics:
            if name not in names:
                raise ValueError(
                    f"metrics has {name!r}, but those of loss.name: {self.loss.name} are {', '.join(names)}"
                )
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError(f"metrics names one twice: {', '.join(self.metrics)}; name each once")
        return self

    @model_validator(mode="after")
    def _known_writers(self) -> Self:
        for name in self.writers:
            if name not in WRITERS:
                raise ValueError(f"writers has {name!r}, expected {', '.join(WRITERS)}; others are hooks in Python")
        return self

    @model_validator(mode="after")
    def _fresh_beside_others(self) -> Self:
        if self.init_fresh and self.init_from is None:
            raise ValueError("init_fresh is for init_from; give that too, or remove it")
        return self

    @model_validator(mode="after")
    def _epochs_or_steps(self) -> Self:
        if self.epochs is None and self.steps is None:
            raise ValueError("give exactly one of epochs and steps; neither is given")
        if self.epochs is not None and self.steps is not None:
            raise ValueError("give exactly one of epochs and steps; both are given")
        if self.epochs is not None and self.data.endless:
            raise ValueError(
                f"data.source {self.data.source} has no epochs, as every batch is new; give steps, not epochs"
            )
        return self

    @property
    def fingerprint(self) -> str:
        """A hash of everything but the paths of the data, by which checkpoints recognise their configuration.

        Keys that are not in `FIRST` are left out at their defaults, so that older checkpoints still match.
        """
        excluded: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if name in FIRST and name in SECTIONS:
                later = [key for key in type(value).model_fields if key not in FIRST[name]]
                excluded[name] = {key for key in later if getattr(value, key) == getattr(field.default, key)}
            elif name not in FIRST and value == field.default:
                excluded[name] = True
        excluded["mesh"] = True  # a run goes on with another number of devices
        excluded["writers"] = True
        excluded["init_from"] = True  # only the first state depends on it, and that is saved
        excluded["data"] |= {*PATHS, "normalize_targets", "stream"}
        # Scales, and the checksum of what is streamed, are part of data.json, whose checksum the checkpoints hold. The
        # first version knew no "auto".
        data = self.data
        if data.normalize == "auto":
            data = data.model_copy(update={"normalize": "none"})
        config = self.model_copy(update={"data": data})
        return hashlib.sha256(config.model_dump_json(exclude=excluded).encode()).hexdigest()[:16]


WRITERS = ("tensorboard",)
"""Where the numbers of a run can be written to beside metrics.jsonl."""
PATHS = ("source", "validation", "test", "table", "cache")
"""Keys of `data` that say where the data lie."""
FIRST: MappingProxyType[str, tuple[str, ...]] = MappingProxyType(
    {
        "model": (
            "hidden_size", "layers", "bidirectional", "merge", "dropout", "recurrent_dropout", "zoneout",
            "projection_size", "bias", "init", "forget_bias", "residual", "dtype", "param_dtype",
        ),
        "data": ("source", "validation", "test", "validation_fraction", "normalize", "shift"),
        "optimizer": (
            "name", "learning_rate", "schedule", "warmup_steps", "final_fraction", "weight_decay", "momentum",
            "clip_norm",
        ),
        "loss": ("name", "label_smoothing"),
        "batch_size": (), "epochs": (), "steps": (), "seed": (), "evaluate_every": (), "checkpoint_every": (),
    }
)  # fmt: skip
"""The keys of the first version, with those of their sections."""
SECTIONS = tuple(name for name, field in Config.model_fields.items() if field.annotation in Section.__subclasses__())
"""The keys whose values are sections."""
