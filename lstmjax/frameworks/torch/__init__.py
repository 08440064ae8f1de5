"""PyTorch."""

from functools import partial

from lstmjax.draws import Preset, uniform_hidden
from lstmjax.frameworks.base.card import Card, Drop, Note
from lstmjax.frameworks.base.framework import Container, Form, Framework, Peer
from lstmjax.frameworks.base.timing import PEER, Stepped, Timed
from lstmjax.frameworks.torch import module, objects, timed
from lstmjax.frameworks.torch.checkpoints import read_torch
from lstmjax.frameworks.torch.folds import fold
from lstmjax.frameworks.torch.module import LAYOUT

FORM = Form(
    r"(^|\.)weight_ih(_l0)?$",
    module.read_names,
    module.write_names,
    ("weight", "bias"),
    state=r"(^|\.)param_groups$|(^|\.)state\.\d+\.(step|(max_)?exp_avg(_sq)?|momentum_buffer|square_avg)$"
    r"|(^|\.)n_averaged$",  # of AveragedModel: how many weights were averaged
    modules=True,
    assumed=(
        "inputs [batch, time, features], whatever batch_first was",
        "nothing but dropout before, between and after the layers",
    ),
)
PRESET = Preset(uniform_hidden, uniform_hidden, uniform_hidden, uniform_hidden, bias="double", name="torch")
"""`torch.nn.LSTM`: U(±1/√H) for everything, two biases. f's total bias is random."""
CARD = Card(
    "torch",
    "torch.nn.LSTM",
    "torch/nn/modules/rnn.py and optim/adam.py, PyTorch 2.13",
    (
        'layers = init_stacked(key, I, H, 2, init="torch")',
        "layers = from_torch(module)",
        "ys = stacked(layers, xs, dropout=0.3, key=noise)[1]",
    ),
    layout=LAYOUT,
    preset=PRESET,
    drops=(Drop("dropout", "outputs between layers, not after the last", "step"),),
    adam="adam",
    notes=(
        Note("two biases", "bias_ih and bias_hh both get the gradient, so that their sum learns twice as fast."),
        Note("forget bias", "a forget bias of 1 belongs in one of the two; set in both, it is 2."),
        Note("time first", "xs is [T, B, I] unless batch_first=True; here time_major=True says so."),
        Note("h_n", "the reverse direction ends at the first step: return_sequences=False is h_n, not ys[:, -1]."),
        Note("projection", 'proj_size has no peepholes: projection_size with "vanilla", not "projection".'),
    ),
)

ROW = Framework(
    "torch",
    LAYOUT,
    FORM,
    files=(
        Container(
            (".pt", ".pth", ".bin", ".ckpt", ".tar"),
            "PyTorch file",
            read_torch,
            module.write_torch,
            ("torch",),
            parts=".bin",
        ),
    ),
    title="PyTorch's LSTM",
    fold=fold,
    peer=Peer(
        "torch",
        "torch",
        "torch",
        module.run,
        biases=2,
        itself=module.itself,
        beyond=objects.beyond,
        mapping=(r"weight_ih(_l0)?$", module.from_torch),
    ),
    cards=(CARD,),
    initial=(PRESET,),
    timed=(Timed("PyTorch", timed.build_job, ("torch",), PEER, platforms=("cpu", "gpu"), ensembles=True),),
    stepped=tuple(
        Stepped(name, partial(timed.build_steps, cell), ("torch",), PEER, ("float32",), ("cpu",))
        for name, cell in (("PyTorch", False), ("PyTorch LSTMCell", True))
    ),
)
