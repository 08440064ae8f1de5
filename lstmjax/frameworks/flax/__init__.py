"""Flax: linen and NNX."""

from collections.abc import Callable
from functools import partial

from lstmjax.draws import Preset, lecun_normal, orthogonal_joint, orthogonal_per_gate
from lstmjax.frameworks.base.card import Card, Note
from lstmjax.frameworks.base.framework import Container, Form, Framework, Peer
from lstmjax.frameworks.base.running import OnJax
from lstmjax.frameworks.base.timing import Job, Stepped, Timed
from lstmjax.frameworks.flax import run, trees
from lstmjax.frameworks.flax.read import from_linen
from lstmjax.frameworks.flax.trees import LINEN, NNX

RUNS = ("cell", "merge", "direction")
LENGTH_0 = Note("length 0", "RNN returns the state after the last step; here it is the initial one.")
STATE = r"(^|[/.])(opt_state|optimizer(_state)?)([/.]|$)|(^|[/.])step([/.]value)?$"  # of a TrainState, and of NNX
LINEN_FORM = Form(
    r"(^|[/.])if[/.]kernel$", partial(trees.read_names, LINEN), trees.write_linen, ("kernel", "bias"), state=STATE
)
NNX_FORM = Form(
    r"(^|[/.])(if_|dense_h)[/.]kernel$",
    partial(trees.read_names, NNX),
    trees.write_nnx,
    ("kernel", "bias"),
    state=f"{trees.RANDOM}|{STATE}",
)
PRESET = Preset(lecun_normal, orthogonal_per_gate, name="flax")
"""`flax.linen.LSTMCell`, `OptimizedLSTMCell` and `flax.nnx.LSTMCell`: forget bias 0."""
OPTIMIZED_PRESET = Preset(lecun_normal, orthogonal_joint, name="flax_optimized_nnx")
"""`flax.nnx.OptimizedLSTMCell`, whose recurrent matrix is drawn jointly."""
LINEN_CARD = Card(
    "linen",
    "flax.linen.LSTMCell and OptimizedLSTMCell",
    "flax/linen/recurrent.py, Flax 0.12",
    ('params = init_params(key, I, H, init="flax")', "layers = from_linen(module)"),
    layout=LINEN,
    preset=PRESET,
    drops=(),
    adam="adam",
    notes=(LENGTH_0, Note("padding", "RNN returns what it computes at padding; here the outputs are zeros.")),
)
NNX_CARD = Card(
    "nnx",
    "flax.nnx.LSTMCell",
    "flax/nnx/nn/recurrent.py, Flax 0.12",
    ('params = init_params(key, I, H, init="flax")', "layers = from_nnx(module)"),
    layout=NNX,
    preset=PRESET,
    drops=(),
    adam="adam",
    notes=(LENGTH_0,),
)
OPTIMIZED_CARD = Card(
    "nnx_optimized",
    "flax.nnx.OptimizedLSTMCell",
    "flax/nnx/nn/recurrent.py, Flax 0.12",
    ('params = init_params(key, I, H, init="flax_optimized_nnx")', "layers = from_nnx(module)"),
    layout=NNX,
    preset=OPTIMIZED_PRESET,
    drops=(),
    adam="adam",
    notes=(Note("names", "its parameters are dense_i and dense_h, which LSTMCell does not take."),),
)


def timed(name: str, build: Callable[..., OnJax]) -> tuple[Timed, ...]:
    """Return the rows of the RNN of `LSTMCell` and of `OptimizedLSTMCell`."""

    def build_cell(optimized: bool, job: Job) -> OnJax:
        return build(job.layers, job.xs.dtype, optimized=optimized)

    return (
        Timed(f"{name} LSTMCell", partial(build_cell, False), ("flax",)),
        Timed(f"{name} OptimizedLSTMCell", partial(build_cell, True), ("flax",), ensembles=name == "Flax"),
    )


ROWS = (
    Framework(
        "linen",
        LINEN,
        LINEN_FORM,
        files=(Container((".msgpack",), "msgpack file", trees.read_msgpack, trees.write_msgpack, ("linen", "nnx")),),
        runs=RUNS,
        peer=Peer("linen", "flax", "flax", run.run_linen, mapping=("", partial(from_linen, extra="drop"))),
        cards=(LINEN_CARD,),
        initial=(PRESET,),
        timed=timed("Flax", run.build_linen),
        stepped=(Stepped("Flax OptimizedLSTMCell", run.linen_steps, ("flax",)),),
    ),
    Framework(
        "nnx",
        NNX,
        NNX_FORM,
        runs=RUNS,
        peer=Peer("nnx", "flax", "flax", run.run_nnx, parts=run.parts, beyond=run.beyond, head=run.head),
        cards=(NNX_CARD, OPTIMIZED_CARD),
        initial=(OPTIMIZED_PRESET,),
        timed=timed("nnx", run.build_nnx),
    ),
)
