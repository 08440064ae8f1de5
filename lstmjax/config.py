"""The configuration of a run: the keys of the YAML file, their defaults and their checks.

JAX is not imported here, so that `lstmjax --help` and a mistyped key are answered at once.
"""

from __future__ import annotations

import hashlib
import json
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from lstmjax.errors import ConfigError
from lstmjax.yaml_file import read_yaml


def _in_float32(value: float) -> float:
    if abs(value) > LARGEST:
        raise ValueError(f"{value} is infinite in float32; it should be at most {LARGEST} in size")
    if 0 < abs(value) < SMALLEST:
        raise ValueError(f"{value} is 0 in float32; it should be at least {SMALLEST} in size")
    return value


SMALLEST, LARGEST = 1.1754944e-38, 3.4028235e38  # of float32: smaller numbers become 0, larger ones infinite
Size = Annotated[int, Field(ge=1)]
Width = Annotated[int, Field(ge=1, le=1_000_000)]  # a square matrix of that many rows takes 4 TB
Depth = Annotated[int, Field(ge=1, le=1_000)]  # each layer is compiled separately
Batch = Annotated[int, Field(ge=1, lt=2**31)]
Count = Annotated[int, Field(ge=1, lt=2**31)]  # steps are int32
Steps = Annotated[int, Field(ge=0, lt=2**31)]
Rate = Annotated[float, Field(ge=0.0, le=1.0)]
Below1 = Annotated[float, Field(ge=0.0, lt=1.0)]
Number = Annotated[float, AfterValidator(_in_float32)]
Above0 = Annotated[float, Field(gt=0.0), AfterValidator(_in_float32)]
AtLeast0 = Annotated[float, Field(ge=0.0), AfterValidator(_in_float32)]


CellName = Literal[
    "vanilla", "peephole", "nig", "nfg", "nog", "niaf", "noaf", "cifg", "cifg_mirror", "fgr", "no_forget_gate",
    "projection", "layer_norm", "layer_norm_carried", "layer_norm_per_gate",
    "hard_sigmoid_fifth", "hard_sigmoid_sixth", "np",
]  # fmt: skip
"""The keys of `lstmjax.CELLS`, repeated so that JAX need not be imported; a test compares the two."""


class Section(BaseModel):
    """A part of the configuration: frozen, and strict about keys and types."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


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
    zoneout: Rate = 0.0
    """Probability that a unit keeps its h and its c."""
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


class Source(NamedTuple):
    """A row of `BUILT_IN`: the keys of `data` that do not apply to a source, and why."""

    reason: str  # the beginning of a message
    refuses: tuple[str, ...]  # keys of `data` that do not apply
    endless: bool = False  # every training batch is generated, so that there are no epochs


BUILT_IN = MappingProxyType(
    {
        "digits": Source(
            "the digits bring their validation and test part, their 8 steps and their scale (pixels / 16) with them",
            ("validation", "test", "normalize", "length"),
        ),
        "order": Source(
            "the temporal-order task is generated, with validation and test parts, and its inputs are zeros and ones",
            ("validation", "validation_fraction", "test", "normalize", "shift"),
            endless=True,
        ),
    }
)
"""The sources in the package, by `data.source`; any other name is a file."""
EARLIER: dict[str, dict[str, Any]] = {"data": {"normalize": "none", "normalize_targets": "none"}}
"""What the first versions did where a key of today has another default, or did not exist."""
FILE = Source("a file has sequences of its own length", ("length",))


class Data(Section):
    """The data to learn from."""

    source: str = "digits"
    """"digits" (in the package), "order" (the temporal-order task, generated), or an NPZ or CSV file."""
    validation: str | None = None
    """File of the validation part; None: part of the source."""
    test: str | None = None
    """File of the test part; None: no test part (the digits bring one)."""
    validation_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    """Fraction of the source that validates, the same for all seeds (not for the digits, which bring that part)."""
    normalize: Literal["auto", "none", "standardize"] = "auto"
    """"auto": scale the features that are not on a unit scale; "standardize": all of them, to mean 0 and standard
    deviation 1 over the training part. The scale is stored with the run."""
    normalize_targets: Literal["standardize", "none"] = "standardize"
    """Scale the targets of a regression in the same way, and undo it in predictions, metrics and exports; or do not."""
    shift: Annotated[int, Field(ge=0)] = 0
    """Largest random shift of each training image, in pixels; for images given row by row."""
    length: Annotated[int, Field(ge=20, le=100_000_000)] | None = None
    """T of the temporal-order task, whose sequences have T to 1.1 T steps; None: 100, as in the paper."""

    @model_validator(mode="after")
    def _no_key_that_does_not_apply(self) -> Self:
        row = BUILT_IN.get(self.source, FILE)
        fields = type(self).model_fields
        earlier = EARLIER["data"]  # what runs of earlier versions wrote as the default
        set_keys = [
            f"data.{key}"
            for key in row.refuses
            if getattr(self, key) not in (fields[key].default, earlier.get(key, fields[key].default))
        ]
        if set_keys:
            raise ValueError(f"{row.reason}; remove {' and '.join(set_keys)}")
        return self

    @property
    def endless(self) -> bool:
        """Whether every training batch is generated anew."""
        return BUILT_IN.get(self.source, FILE).endless


class Optimizer(Section):
    """How the parameters are updated."""

    name: Literal["adamw", "adam", "adam_keras", "sgd", "rmsprop", "lion"] = "adamw"
    """Update rule, from Optax; "adam_keras": Adam with the ε of Keras."""
    learning_rate: Above0 = 1e-3
    """Largest step size."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """How the step size decreases after the warm-up."""
    warmup_steps: Steps = 0
    """Steps over which the step size increases linearly."""
    final_fraction: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Step size at the end of the schedule, as a fraction of the learning rate."""
    weight_decay: AtLeast0 = 0.0
    """Decoupled decay of all parameters (Loshchilov & Hutter 2019)."""
    momentum: Below1 = 0.9
    """Momentum of sgd; ignored by the other rules."""
    clip_norm: Above0 | None = None
    """Largest global norm of the gradient; None: no clipping."""

    @model_validator(mode="after")
    def _adam_does_not_decay(self) -> Self:
        if self.name == "adam" and self.weight_decay:
            raise ValueError("adam with weight_decay is adamw; say optimizer.name: adamw")
        return self


class Loss(Section):
    """The loss, and with it what the logits mean."""

    name: Literal["softmax", "sigmoid", "linear"] = "softmax"
    """"softmax": one class; "sigmoid": any number of labels at once; "linear": numbers (squared error)."""
    label_smoothing: Below1 = 0.0
    """Fraction of the target that is spread over all classes."""

    @property
    def classifies(self) -> bool:
        """Whether the targets are classes or labels, which have no scale."""
        return self.name in ("softmax", "sigmoid")

    @model_validator(mode="after")
    def _numbers_are_not_smoothed(self) -> Self:
        if self.name == "linear" and self.label_smoothing:
            raise ValueError("loss.label_smoothing is for classes; set it to 0 for loss.name: linear")
        return self


class Config(Section):
    """The configuration of a run."""

    model: Model = Model()
    data: Data = Data()
    optimizer: Optimizer = Optimizer()
    loss: Loss = Loss()
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

        Keys that were added later are left out at their defaults, so that older checkpoints still match.
        """
        excluded: dict[str, Any] = {"data": {"source", "validation", "test"}, "model": set()}
        for section, added in LATER.items():
            values, fields = getattr(self, section), type(getattr(self, section)).model_fields
            excluded[section] |= {key for key in added if getattr(values, key) == fields[key].default}
        if self.keep_every is None:
            excluded["keep_every"] = True
        config = self
        if self.data.source in BUILT_IN:  # these have their scale, whatever the key says
            config = self.model_copy(update={"data": self.data.model_copy(update={"normalize": "none"})})
        if self.loss.classifies or self.data.normalize_targets == "none":
            excluded["data"].add("normalize_targets")
        return hashlib.sha256(config.model_dump_json(exclude=excluded).encode()).hexdigest()[:16]


LATER = {"model": ("cell", "input_bias", "input_bias_step"), "data": ("length",)}
"""Keys of sections that were added after the first version."""
SECTIONS = tuple(name for name, field in Config.model_fields.items() if field.annotation in Section.__subclasses__())
"""The keys whose values are sections."""


def load_config(path: str | Path, *, of_run: bool = False) -> Config:
    """Read a configuration from a YAML file.

    Paths in `data` are relative to the current folder, and made absolute.

    Args:
        path: the file.
        of_run: it is the config.yaml of a run, with every value: what it lacks is what earlier versions did.

    Raises:
        ConfigError: no such file, not YAML, an unknown key, a wrong type or value; the message names
            the file, the key and the nearest valid one.
    """
    tree = read_yaml(path)
    if of_run:
        for section, values in EARLIER.items():
            if isinstance(tree.setdefault(section, {}), dict):
                tree[section] = values | tree[section]
    return parse_config(tree, str(path))


def parse_config(tree: dict[str, Any], name: str = "config") -> Config:
    """Return the configuration in a tree of plain values; `name` says in messages where it came from.

    Raises:
        ConfigError: an unknown key, a wrong type or value.

    >>> parse_config({"epochs": 3, "model": {"hiden_size": 8}})
    Traceback (most recent call last):
    ...
    lstmjax.errors.ConfigError: config: unknown key model.hiden_size; did you mean model.hidden_size?
    """
    try:
        text = json.dumps(tree, default=str)
    except (RecursionError, TypeError, ValueError) as error:  # a value that contains itself, a key that is no string
        raise ConfigError(f"{name}: is not a tree of keys and values ({error})") from None
    try:
        return with_absolute_paths(Config.model_validate_json(text))
    except ValidationError as error:
        raise ConfigError(explain(error, name)) from None
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None


def with_absolute_paths(config: Config) -> Config:
    """Make the paths in the `data` section absolute; ~ is the home folder.

    Raises:
        ConfigError: a path begins with ~ and the name of a user who has no home folder.
    """
    update = {}
    for key in ("source", "validation", "test"):
        path = getattr(config.data, key)
        if not path or path in BUILT_IN:
            continue
        try:
            update[key] = str(Path(path).expanduser().absolute())
        except RuntimeError:
            user = Path(path).parts[0]
            raise ConfigError(
                f"data.{key} is {path!r}, but {user} is nobody's home folder; write ~/ for your home folder, or "
                f"./{user} for a folder of this name"
            ) from None
    if not update:
        return config
    return config.model_copy(update={"data": config.data.model_copy(update=update)})


def dump_config(config: Config) -> str:
    """Return a configuration as YAML for `load_config`, with all defaults written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def explain(error: ValidationError, name: str) -> str:
    """Return a line for each fault: the key, its value, and what was expected."""
    lines = []
    for fault in error.errors():
        key = ".".join(_config_keys(fault["loc"]))
        message = (
            fault["msg"]
            .removeprefix("Value error, ")
            .replace("Input should be", "it should be")
            .replace("an object", "a section with keys of its own")
        )
        if fault["type"] == "extra_forbidden":
            lines.append(f"{name}: unknown key {key}{_nearest(key)}")
        elif fault["type"] in ("value_error", "json_invalid"):
            lines.append(f"{name}: {key + ': ' if key else ''}{message}")
        else:
            lines.append(f"{name}: {key} is {fault['input']!r}; {message}")
    return "\n".join(dict.fromkeys(lines))


def keys(section: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """Return all keys of the configuration, with dots: "model", "model.hidden_size", ..."""
    result = []
    for field, info in section.model_fields.items():
        result.append(prefix + field)
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            result += keys(info.annotation, f"{prefix}{field}.")
    return result


def _config_keys(loc: tuple[int | str, ...]) -> list[str]:
    """Return the keys in a location, without the members of a union that pydantic appends."""
    path: list[str] = []
    for part in map(str, loc):
        if path and ".".join(path) not in SECTIONS:
            break
        path.append(part)
    return path


def _nearest(key: str) -> str:
    """Return a hint: the nearest key in the same section, or else in another one, or else all valid keys."""
    section, _, word = key.rpartition(".")
    siblings = [k for k in keys() if k.rpartition(".")[0] == section]
    by_word = {k.rpartition(".")[2]: k for k in reversed(keys())}
    near = get_close_matches(key, siblings, 1, 0.75)
    near = near or [by_word[match] for match in get_close_matches(word, by_word, 1, 0.75)]
    near = near or get_close_matches(key, siblings, 1)
    return f"; did you mean {near[0]}?" if near else f"; valid ones are {', '.join(siblings or keys())}"
