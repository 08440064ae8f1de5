"""The arguments of each command: a dataclass each, with the help that tyro shows. JAX is not imported here."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import tyro

from lstmjax.config import CellName, Config, Section

NAMES = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="A,B",
    instance_from_str=lambda words: tuple(name.strip() for name in words[0].split(",") if name.strip()),
    is_instance=lambda names: isinstance(names, tuple) and all(isinstance(name, str) for name in names),
    str_from_instance=lambda names: [",".join(names)],
)
"""Several names in one word, as every option of train takes exactly one."""


def _options(section: type[Section]) -> type:
    """Return a dataclass with the fields of a section, without its checks.

    `parse_config` checks them, so that a value is refused in the same words whether it comes from a file or an option.
    """
    fields = []
    for name, field in section.model_fields.items():
        kind: Any = field.annotation
        nested = isinstance(kind, type) and issubclass(kind, Section)
        if nested:
            kind = _options(kind)
        elif kind == tuple[str, ...]:
            kind = Annotated[kind, NAMES, tyro.conf.arg(help=field.description)]
        else:
            kind = Annotated[kind, tyro.conf.arg(help=field.description)]
        fields.append((name, kind, dataclasses.field(default=kind() if nested else field.default)))
    return dataclasses.make_dataclass(section.__name__, fields, frozen=True, namespace={"__doc__": section.__doc__})


Options: Any = _options(Config)


@dataclass(frozen=True)
class Train:
    """Train the network that a YAML file describes, and print its metric."""

    config_file: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[CONFIG]")] = None
    """What to train; every value in it can be overridden below."""
    run_dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder to write to, new or empty; None: a new one under runs/."""
    resume: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Run folder to continue exactly as if it had not been stopped; without CONFIG."""
    coordinator: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT")] = None
    """Address of process 0 of several, which train together; None: by the environment, see docs/scaling.md."""
    processes: Annotated[str | None, tyro.conf.arg(metavar="N")] = None
    """Number of these processes."""
    process: Annotated[str | None, tyro.conf.arg(metavar="I")] = None
    """Which of them this one is, from 0 on."""
    resumed_mesh: Annotated[str | None, tyro.conf.Suppress] = None
    """The --mesh beside --resume."""
    values: Annotated[Options, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Options)


@dataclass(frozen=True)
class Evaluate:
    """Print the loss and the metric of a run's best checkpoint."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    part: Literal["test", "validation", "train"] = "test"
    """Part of the run's data."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A file of labelled sequences to use instead, NPZ or CSV."""


@dataclass(frozen=True)
class Predict:
    """Print the class and the probabilities, or the numbers of a regression, of each sequence."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    input: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="INPUT")]
    """NPZ (x and, if ragged, lengths), NPY (x) or CSV (sequence, step, features), in the units of the training data."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """CSV or NPZ file to write to; None: CSV on the terminal."""


Form = Literal["lstmjax", "torch", "keras", "linen", "nnx", "haiku"]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What to read from a weights file, and how to run it where the file leaves that open."""

    from_: Annotated[Form | None, tyro.conf.arg(name="from")] = None
    """Framework whose names the arrays have; None: recognise it by the names."""
    prefix: str | None = None
    """Prefix of the names of the LSTM's arrays, if the file holds several LSTMs."""
    names: tuple[str, ...] = ()
    """Names of the LSTM's layers from the bottom up, if the file does not determine their order."""
    head: str | None = None
    """Name of the Dense layer that is the head, if the file does not determine it."""
    extra: Literal["refuse", "drop"] = "refuse"
    """What to do with arrays that belong to neither LSTM nor head."""
    cell: CellName | None = None
    """Cell of the weights; None: the one that the file states, else vanilla."""
    merge: Literal["concat", "sum"] | None = None
    """How the outputs of two directions are joined; None: as the file states, or as the layers' sizes require."""


@dataclass(frozen=True)
class Convert(Reading):
    """Convert weights from one file to another, bit by bit, and print what was converted."""

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="IN")]
    """.pt, .pth, .bin, .ckpt, .tar, .safetensors, .npz, .weights.h5, .h5, .keras, .msgpack, .onnx, the .index.json of
    a sharded checkpoint, or the folder of a run."""
    target: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """.pt, .pth, .bin, .ckpt, .tar, .safetensors, .npz, .weights.h5, .msgpack or .onnx."""
    to: Form | None = None
    """Framework whose names to use in OUT; None: the usual one for the kind of file."""
    sum_biases: bool = False
    """Add two biases up if OUT has only one."""


@dataclass(frozen=True)
class Export:
    """Write the network of a run to a file that runs without this library: ONNX or StableHLO."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """File to write: .onnx, or .stablehlo for jax.export.deserialize; xs is in the units of the training data."""
    lengths: bool = False
    """Add an input for the valid steps of each sequence."""


@dataclass(frozen=True)
class Shapes:
    """Explain every array of a network: its shape, and how many parameters it has and why."""

    input: int
    """I, features of one step."""
    hidden: int
    """H, units."""
    output: int | None = None
    """O, outputs of the Dense head; None: no head."""
    time: int | None = None
    """T, time steps."""
    batch: int | None = None
    """B, sequences."""
    layers: int = 1
    """L, layers."""
    bidirectional: bool = False
    """Both directions."""
    cell: CellName = "vanilla"
    """The equations of a step, a row of `lstmjax.CELLS`."""
    projection: int | None = None
    """P, width of h if it is projected."""
    projection_bias: bool = False
    """The projection has a bias."""
    bias: Literal["single", "double", "none"] = "single"
    """Biases of each gate."""
    merge: Literal["concat", "sum"] = "concat"
    """How the outputs of two directions are joined."""


@dataclass(frozen=True)
class Inspect:
    """Write an HTML page that shows what happens inside the network of a run; it opens offline."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    input: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Sequences to show, NPZ, NPY or CSV as for predict; None: the run's test part, else its validation part."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Page to write; None: report.html in the run folder, or report-NAME.html for the sequences of a file."""
    examples: int = 4
    """How many sequences to show step by step."""
    compare: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """Another run on the same data, to show beside the first one."""
    open: bool = False
    """Open the page in the browser."""


@dataclass(frozen=True)
class Verify(Reading):
    """Tell whether a framework and lstmjax compute the same with the same weights, and if not, where and why."""

    weights: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[WEIGHTS]")] = None
    """Weights file of any kind that `lstmjax convert` reads, or the folder of a run; or use --grid."""
    input: Annotated[Path | None, tyro.conf.arg(metavar="X.npy")] = None
    """Inputs, [batch, time, features]."""
    lengths: Annotated[Path | None, tyro.conf.arg(metavar="L.npy")] = None
    """Valid steps of each sequence; None: all."""
    outputs: Annotated[Path | None, tyro.conf.arg(metavar="Y.npy")] = None
    """Recorded outputs to compare with; None: run the framework itself."""
    grid: bool = False
    """Compare random networks with every installed framework, values and gradients."""
    against: Annotated[str | None, tyro.conf.arg(metavar="A,B")] = None
    """Frameworks for --grid: torch, keras, linen, nnx, haiku, equinox, onnxruntime, oracle; None: all."""
    cases: int = 8
    """Number of networks for --grid; the first ones are extreme cases."""
    seed: int = 0
    """Seed of the random networks."""
    dtypes: str = "float64,float32,bfloat16,float16"
    """Dtypes for --grid."""


@dataclass(frozen=True)
class Bench:
    """Time lstmjax and its installed peers in turns, with the same weights, after checking that they agree."""

    points: str | None = None
    """Names of networks, from A,B,C,D,E,F,G,L3,Bi, see docs/benchmarks.md; None: all of them."""
    sizes: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="B,T,I,H ...")] = None
    """Other networks instead, each B,T,I,H: batch, steps, inputs, units."""
    modes: str = "forward,training"
    """What to time: the outputs, the gradients of all parameters and the inputs, or both."""
    competitors: str | None = None
    """Names, separated by commas; None: all."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Dtype of weights and inputs; products are in full precision."""
    rounds: int | None = None
    """Number of rounds, in each of which everyone is timed once; None: by --seconds, at least 5."""
    seconds: float = 5.0
    """Approximate duration of the rounds for one network in one mode."""
    seed: int = 0
    """Seed of the random numbers and of the order of turns."""
    growth: Literal["T", "H", "B"] | None = None
    """Time a curve over time steps, units or batch size instead of the networks."""
    quick: bool = False
    """Time only a few small points of the curve."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """File to write everything to, including the raw times."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """File to write a picture to, PNG, SVG or PDF."""
    read: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE")] = ()
    """Files that --json has written, to show side by side instead of timing anything."""


ARGUMENTS = MappingProxyType({"from_": "form", "to": "target_form"})
"""Options whose functions have another name for the argument."""


def options_of(command: type) -> dict[str, str]:
    """Return the option of a command for each argument that it passes to a function.

    >>> options_of(Convert)["form"], options_of(Convert)["sum_biases"]
    ('--from', '--sum-biases')
    """
    names = [field.name for field in dataclasses.fields(command)]
    return {ARGUMENTS.get(name, name): f"--{name.rstrip('_').replace('_', '-')}" for name in names}
