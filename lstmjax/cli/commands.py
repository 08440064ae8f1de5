"""The arguments of each command: a dataclass each, with the help that tyro shows. JAX is not imported here."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

import tyro

from lstmjax.cli.sections import Options
from lstmjax.config import CellName


@dataclass(frozen=True)
class Train:
    """Train the network that a YAML file describes, and print its metric."""

    config_file: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[CONFIG]")] = None
    """What to train; every value in it can be overridden below."""
    run_dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder to write to, new or empty; None: a new one under runs/."""
    resume: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Run folder to continue exactly as if it had not been stopped, or folder of --seeds; without CONFIG."""
    dry_run: bool = False
    """Print shapes, parameters, memory and steps, and train nothing; give it without a value."""
    seeds: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Train N networks, from seed on, in folders of their own in DIR; None: one."""
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
class Runs:
    """List and compare the runs in a folder, the best one first."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")] = Path("runs")
    """Folder in which, or in whose folders, the runs are."""
    metric: str | None = None
    """Metric to sort by, of the validation part; None: the one that chooses the network of most of the runs."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """File to draw the metric over the steps of all runs to, PNG, SVG or PDF."""


@dataclass(frozen=True)
class Sweep:
    """Search for the best values of a configuration by many runs, which are stopped early if others are better."""

    config_file: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[CONFIG]")] = None
    """What to train."""
    space: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[SPACE]")] = None
    """YAML file with the keys to search, and how long; see docs/training.md."""
    run_dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder to write to, new or empty; None: a new one under runs/."""
    resume: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of a sweep to continue; without CONFIG and SPACE."""
    trials: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Number of runs in all; None: as in SPACE."""


@dataclass(frozen=True)
class LrFind:
    """Raise the learning rate step by step, and show where the loss falls and where it diverges."""

    config_file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CONFIG")]
    """What to train."""
    low: float = 1e-6
    """First learning rate."""
    high: float = 1.0
    """Last learning rate."""
    steps: int = 100
    """Number of updates."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")] = Path("lr-find.png")
    """Picture to write, PNG, SVG or PDF."""


@dataclass(frozen=True)
class Forecast:
    """Fit a network to many time series, measure it at origins of the past, forecast what is to come, and draw it."""

    config_file: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[CONFIG]")] = None
    """What to forecast; see docs/forecasting.md."""
    run_dir: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder to write to, new or empty; None: a new one under runs/."""
    resume: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of a run that was stopped, to continue it as it began; without CONFIG and other options."""
    seeds: int | None = None
    """Networks to fit, each with a seed of its own; None: as in CONFIG."""


@dataclass(frozen=True)
class Hydrology(Forecast):
    """Fit a network to many river basins, simulate their discharge, measure it beside baselines, and draw it."""

    config_file: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[CONFIG]")] = None
    """What to fit; see docs/hydrology.md."""


@dataclass(frozen=True)
class Backtest:
    """Measure the networks of a forecast at other origins, beside the baselines."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Folder that lstmjax forecast has written."""
    origins: int = 1
    """Origins of each series; the last one is a horizon before its end."""
    stride: int = 1
    """Steps between two origins."""
    refit: bool = False
    """Fit the networks anew at each origin, to what is known there."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """CSV file for the measures of each series."""


@dataclass(frozen=True)
class Evaluate:
    """Print the loss and the metric of a run's best checkpoint."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    part: Literal["test", "validation", "train"] = "test"
    """Part of the run's data."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A file or folder of labelled sequences to use instead, of any kind that can be trained on; for a language model a
    text."""


@dataclass(frozen=True)
class Predict:
    """Print the class and the probabilities, or the numbers of a regression, of each sequence or token of a text."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    input: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="INPUT")]
    """A file or folder of any kind that can be trained on, or NPY (x), in the units of the training data; for a
    language model a text."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """CSV or NPZ file to write to; None: CSV on the terminal."""


@dataclass(frozen=True)
class Data:
    """Say what is understood of a file of data, and ask for what is ambiguous by naming the option."""

    action: Annotated[tyro.conf.Positional[Literal["describe"]], tyro.conf.arg(metavar="describe")]
    """The only action there is."""
    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """A file or a folder that can be trained on."""
    config: Annotated[Path | None, tyro.conf.arg(metavar="CONFIG")] = None
    """A configuration whose sections data and loss are used; None: the defaults."""


@dataclass(frozen=True)
class Sample:
    """Write text by the network of a run on a text, token by token."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder."""
    prompt: str
    """The text before."""
    length: int = 200
    """Tokens to write: characters, bytes or words."""
    temperature: float = 1.0
    """1: draw by the probabilities of the network; lower values prefer likely tokens, 0 takes the likeliest one."""
    top_k: int | None = None
    """Draw from the so many likeliest tokens only; None: from all."""
    top_p: float | None = None
    """Draw from the likeliest tokens that have this probability together; None: from all."""
    seed: int = 0
    """Seed of the draws."""


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
    """Sequences to show, as for predict; None: the run's test part, else its validation part."""
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
    exhaustive: bool = False
    """Compare 8 networks in four dtypes by --grid, which takes several times as long."""
    cases: int | None = None
    """Number of networks for --grid, the first ones are extreme cases; None: 5, with --exhaustive 8."""
    seed: int = 0
    """Seed of the random networks."""
    dtypes: Annotated[str | None, tyro.conf.arg(metavar="A,B")] = None
    """Dtypes for --grid; None: float64,float32, with --exhaustive bfloat16,float16 too."""


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
    streaming: bool = False
    """Time single steps, each called from Python, instead of sequences; --sizes for others than B1 H32 to H512."""
    networks: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Time N networks at once, each with its weights; --sizes for others than B16 T100 H32 and H64."""
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
