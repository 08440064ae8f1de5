"""What each command of the command line takes: a dataclass each, with the help that tyro shows. No JAX here."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import tyro

from lstmjax.config import CellName, Config, Section


def _options(section: type[Section]) -> type:
    """Gives a dataclass with the fields of a section and no checks.

    The checks are those of `parse_config`, so that a value is refused in the same words wherever it comes from.
    """
    fields = []
    for name, field in section.model_fields.items():
        kind: Any = field.annotation
        nested = isinstance(kind, type) and issubclass(kind, Section)
        kind = _options(kind) if nested else Annotated[kind, tyro.conf.arg(help=field.description)]
        fields.append((name, kind, dataclasses.field(default=kind() if nested else field.default)))
    return dataclasses.make_dataclass(section.__name__, fields, frozen=True, namespace={"__doc__": section.__doc__})


Options: Any = _options(Config)


@dataclass(frozen=True)
class Train:
    """Train a network on the data that a YAML file names, and say how good it is."""

    config_file: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[CONFIG]")] = None
    """What to train; every value in it can be overridden below."""
    run_dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder for everything that is written; new or empty. None: one under runs/."""
    resume: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Run folder to go on with, exactly as if it had not been stopped; no CONFIG then."""
    values: Annotated[Options, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Options)


@dataclass(frozen=True)
class Evaluate:
    """Say how good the best checkpoint of a run is."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    part: Literal["test", "validation", "train"] = "test"
    """Part of the run's own data."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A file of labelled sequences instead, NPZ or CSV."""


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
    """What to read of a weights file, and how it is run where it does not say so."""

    from_: Annotated[Form | None, tyro.conf.arg(name="from")] = None
    """Whose names the arrays in the file have; None: as they look."""
    prefix: str | None = None
    """What the names of the LSTM's arrays begin with, where the file holds several LSTMs."""
    names: tuple[str, ...] = ()
    """Names of the LSTM's layers from the bottom up, where the file does not keep their order."""
    head: str | None = None
    """Name of the Dense layer that is the head, where the file leaves it open."""
    extra: Literal["refuse", "drop"] = "refuse"
    """What to do with that in the file which is neither LSTM nor head."""
    cell: CellName | None = None
    """The cell that the weights are for; None: as the file states, else vanilla."""
    merge: Literal["concat", "sum"] | None = None
    """How the directions of a pair are joined; None: as the file states, or as the layers fit each other."""


@dataclass(frozen=True)
class Convert(Reading):
    """Carry weights from one file to another, bit by bit, and say what was carried."""

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="IN")]
    """.pt, .pth, .bin, .ckpt, .tar, .safetensors, .npz, .weights.h5, .h5, .keras, .msgpack, .onnx, the .index.json of
    several files, or the folder of a run."""
    target: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """.pt, .pth, .bin, .ckpt, .tar, .safetensors, .npz, .weights.h5, .msgpack or .onnx."""
    to: Form | None = None
    """Whose names to use in OUT; None: the first that such files have."""
    sum_biases: bool = False
    """Add two biases up where OUT keeps one."""


@dataclass(frozen=True)
class Export:
    """Write the network of a run to a file that runs without this library: ONNX or StableHLO."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")]
    """File to write: .onnx, or .stablehlo for jax.export.deserialize. It takes xs in the units of the training data."""
    lengths: bool = False
    """It also takes the valid steps of each sequence."""


@dataclass(frozen=True)
class Shapes:
    """Explain every array of a network: its shape, and how many parameters it holds and why."""

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
    """P, width of h if it is a projection."""
    projection_bias: bool = False
    """The projection has a bias."""
    bias: Literal["single", "double", "none"] = "single"
    """Biases of each gate."""
    merge: Literal["concat", "sum"] = "concat"
    """How the two directions are joined."""


@dataclass(frozen=True)
class Inspect:
    """Write one page that shows what happens inside the network of a run; it opens offline."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    input: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Sequences to look at, NPZ, NPY or CSV as for predict; None: the run's test part, else its validation part."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")] = Path("report.html")
    """Page to write."""
    examples: int = 4
    """How many sequences to show step by step."""


@dataclass(frozen=True)
class Verify(Reading):
    """Say whether a framework computes what we do with the same weights, and if not, where and why."""

    weights: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[WEIGHTS]")] = None
    """Weights file of any kind that `lstmjax convert` reads, or the folder of a run; or --grid."""
    input: Annotated[Path | None, tyro.conf.arg(metavar="X.npy")] = None
    """Inputs, [batch, time, features]."""
    lengths: Annotated[Path | None, tyro.conf.arg(metavar="L.npy")] = None
    """Valid steps of each sequence; None: all."""
    outputs: Annotated[Path | None, tyro.conf.arg(metavar="Y.npy")] = None
    """Recorded outputs to compare with; None: the framework itself runs."""
    grid: bool = False
    """Random networks against every framework that is installed, values and gradients."""
    against: Annotated[str | None, tyro.conf.arg(metavar="A,B")] = None
    """Frameworks for --grid: torch, keras, linen, nnx, haiku, equinox, onnxruntime, oracle; None: all."""
    cases: int = 8
    """How many networks for --grid; the first ones are extremes."""
    seed: int = 0
    """Seed of the random networks."""
    dtypes: str = "float64,float32,bfloat16,float16"
    """Dtypes for --grid."""


@dataclass(frozen=True)
class Bench:
    """Time lstmjax beside every peer that is installed: same weights, checked to compute the same, taking turns."""

    points: str | None = None
    """Networks by name, of A,B,C,D,E,F,G,L3,Bi, see docs/benchmarks.md; None: all of them."""
    sizes: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="B,T,I,H ...")] = None
    """Networks of your own instead, each B,T,I,H: batch, steps, inputs, units."""
    modes: str = "forward,training"
    """The outputs, or the gradients of all parameters and the inputs, or both."""
    competitors: str | None = None
    """Names, separated by commas; None: all."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of weights and inputs; products in full precision."""
    rounds: int | None = None
    """How many times everybody has a turn; None: as --seconds say, at least 5."""
    seconds: float = 5.0
    """About how long the rounds of one point in one mode take."""
    seed: int = 0
    """Of the numbers, and of the order of turns."""
    growth: Literal["T", "H", "B"] | None = None
    """The curve over time steps, units or batch instead of points."""
    quick: bool = False
    """Only a few small points of the curve."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """File for everything, raw times included."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """File for the picture, PNG, SVG or PDF."""
    read: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE")] = ()
    """Files that --json has written: show them, and several side by side, and measure nothing."""


ARGUMENTS = MappingProxyType({"from_": "form", "to": "target_form"})
"""Options of the command line that functions call otherwise."""


def options_of(command: type) -> dict[str, str]:
    """Return how a command calls the arguments of functions that it passes on.

    >>> options_of(Convert)["form"], options_of(Convert)["sum_biases"]
    ('--from', '--sum-biases')
    """
    names = [field.name for field in dataclasses.fields(command)]
    return {ARGUMENTS.get(name, name): f"--{name.rstrip('_').replace('_', '-')}" for name in names}
