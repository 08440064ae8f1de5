"""Replica cards: what the LSTM of a framework or of a paper is, and how to build it here.

A card refers to rows of our tables (`CELLS`, `LAYOUTS`, `PRESETS`, the rules of the optimizers) and adds what
they do not state. Its statements on a framework are tested against the framework, those on our side against our
rows, by tests/test_cards*.py. Papers are cited.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from lstmjax.convert.layouts import LAYOUTS
from lstmjax.init import PRESETS, zeros
from lstmjax.types import GATES

ADAM = MappingProxyType(
    {"adam": "lr · m̂ / (√v̂ + ε), ε = 1e-8", "adam_keras": "lr · √(1 − β₂ᵗ) / (1 − β₁ᵗ) · m / (√v + ε), ε = 1e-7"}
)
"""Adam's step, and where its ε stands, by `optimizer.name`; m̂ and v̂ are corrected for their bias."""

MASKS = MappingProxyType({"step": "a new mask for every step", "sequence": "one mask for all steps"})


class Drop(NamedTuple):
    """One dropout: the argument that sets it, what it drops, and how long a mask lasts ("step" or "sequence")."""

    by: str
    on: str
    mask: str
    per_gate: bool = False  # a mask for each gate; else one for all four

    def __str__(self) -> str:
        return f"{self.by}: on {self.on}, {MASKS[self.mask]}{', another for each gate' if self.per_gate else ''}"


class Note(NamedTuple):
    """A fact that is easily missed: a name, which its test refers to, and a sentence."""

    name: str
    text: str


@dataclass(frozen=True)
class Card:
    """One row: what a replica has to match. None: the framework or the paper leaves it open.

    `cell`, `layout`, `preset` and `adam` name rows of `CELLS`, `LAYOUTS`, `PRESETS` and, for Adam, of the
    optimizer's rules. `recipe` is code with sizes, xs, the random keys `key` and `noise`, and the framework's
    module. `read` holds statements that no test checks.
    """

    name: str
    title: str
    source: str
    recipe: tuple[str, ...]
    cell: str | None = "vanilla"
    layout: str | None = None
    preset: str | None = None
    drops: tuple[Drop, ...] | None = None
    adam: str | None = None
    notes: tuple[Note, ...] = ()
    read: tuple[str, ...] = ()

    @property
    def forget_bias(self) -> float | None:
        """Total bias of f in a new layer; None: it is drawn at random, or left open."""
        if self.preset is None:
            return None
        preset = PRESETS[self.preset]
        return 0.0 if preset.forget_bias is None and preset.b is zeros else preset.forget_bias

    def facts(self) -> Iterator[tuple[str, str]]:
        """Yield the facts of the card, each with its label."""
        yield "source", self.source
        yield "cell", "not in CELLS" if self.cell is None else f'CELLS["{self.cell}"]'
        if self.layout is not None:
            layout = LAYOUTS[self.layout]
            yield "gates", f"{', '.join(layout.order)}, weights {'[4H, N]' if layout.rows else '[N, 4H]'}"
            yield "biases", str(layout.biases)
            yield "state", f"({', '.join(layout.state)})"
        if self.preset is not None:
            preset = PRESETS[self.preset]
            yield "forget bias", self._forget()
            yield "initial values", f'PRESETS["{self.preset}"]'
            for field in ("w_x", "w_h", "b"):
                yield f"  {field}", (getattr(preset, field).__doc__ or "").rstrip(".")
        if self.drops is not None:
            yield "dropout", "; ".join(map(str, self.drops)) or "none"
        if self.adam is not None:
            yield "Adam", f"{ADAM[self.adam]}; optimizer.name: {self.adam}"

    def _forget(self) -> str:
        if self.forget_bias is None:
            return "as drawn"
        added = self.layout is not None and LAYOUTS[self.layout].added
        return f"{self.forget_bias:g}, {'added at run time and not stored; here it is stored' if added else 'stored'}"

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.title}"]
        lines += [f"  {label:<15} {text}" for label, text in self.facts()]
        lines += ["  here", *(f"    {line}" for line in self.recipe)]
        lines += ["  mind", *(f"    {note.name}: {note.text}" for note in self.notes)] if self.notes else []
        lines += ["  read, not tested", *(f"    {text}" for text in self.read)] if self.read else []
        return "\n".join(lines)


LENGTH_0 = Note("length 0", "RNN returns the state after the last step; here it is the initial one.")

FRAMEWORKS = (
    Card(
        "torch",
        "torch.nn.LSTM",
        "torch/nn/modules/rnn.py and optim/adam.py, PyTorch 2.13",
        (
            'layers = init_stacked(key, I, H, 2, init="torch")',
            "layers = from_torch(module)",
            "ys = stacked(layers, xs, dropout=0.3, key=noise)[1]",
        ),
        layout="torch",
        preset="torch",
        drops=(Drop("dropout", "outputs between layers, not after the last", "step"),),
        adam="adam",
        notes=(
            Note("two biases", "bias_ih and bias_hh both get the gradient, so that their sum learns twice as fast."),
            Note("forget bias", "a forget bias of 1 belongs in one of the two; set in both, it is 2."),
            Note("time first", "xs is [T, B, I] unless batch_first=True; here time_major=True says so."),
            Note("h_n", "the reverse direction ends at the first step: return_sequences=False is h_n, not ys[:, -1]."),
            Note("projection", 'proj_size has no peepholes: projection_size with "vanilla", not "projection".'),
        ),
    ),
    Card(
        "keras",
        "keras.layers.LSTM",
        "keras/src/layers/rnn/lstm.py and optimizers/adam.py, Keras 3.15",
        ('params = init_params(key, I, H, init="keras")', "layers = from_keras(module)"),
        layout="keras",
        preset="keras",
        drops=(Drop("dropout", "inputs", "sequence"), Drop("recurrent_dropout", "h", "sequence", per_gate=True)),
        adam="adam_keras",
        notes=(
            Note("four masks", "with recurrent_dropout, dropout also draws a mask of the inputs for each gate."),
            Note("go_backwards", "outputs come in the order of processing; with reverse=True, in that of xs."),
            Note("hard_sigmoid", 'z/6 + 1/2, clipped to [0, 1]: the cell "hard_sigmoid_sixth".'),
            Note("momentum", "SGD's velocity holds the learning rate of each step; not so in Optax and PyTorch."),
            Note("float64", "on JAX, tanh rounds to float32; LSTM(H, activation=jnp.tanh) does not."),
        ),
    ),
    Card(
        "linen",
        "flax.linen.LSTMCell and OptimizedLSTMCell",
        "flax/linen/recurrent.py, Flax 0.12",
        ('params = init_params(key, I, H, init="flax")', "layers = from_linen(module)"),
        layout="linen",
        preset="flax",
        drops=(),
        adam="adam",
        notes=(LENGTH_0, Note("padding", "RNN returns what it computes at padding; here the outputs are zeros.")),
    ),
    Card(
        "nnx",
        "flax.nnx.LSTMCell",
        "flax/nnx/nn/recurrent.py, Flax 0.12",
        ('params = init_params(key, I, H, init="flax")', "layers = from_nnx(module)"),
        layout="nnx",
        preset="flax",
        drops=(),
        adam="adam",
        notes=(LENGTH_0,),
    ),
    Card(
        "nnx_optimized",
        "flax.nnx.OptimizedLSTMCell",
        "flax/nnx/nn/recurrent.py, Flax 0.12",
        ('params = init_params(key, I, H, init="flax_optimized_nnx")', "layers = from_nnx(module)"),
        layout="nnx",
        preset="flax_optimized_nnx",
        drops=(),
        adam="adam",
        notes=(Note("names", "its parameters are dense_i and dense_h, which LSTMCell does not take."),),
    ),
    Card(
        "haiku",
        "haiku.LSTM",
        "haiku/_src/recurrent.py, Haiku 0.0.17",
        ('params = init_params(key, I, H, init="haiku")', "layers = from_haiku(module)"),
        layout="haiku",
        preset="haiku",
        drops=(),
        adam="adam",
        notes=(
            Note("weight decay", "the 1 of the forget gate is no parameter and does not decay; here it does, in b."),
            Note("one matrix", "w holds the rows of x above those of h: [I + H, 4H]."),
            Note("time first", "dynamic_unroll takes [T, B, I] unless time_major=False."),
        ),
    ),
    Card(
        "equinox",
        "equinox.nn.LSTMCell",
        "equinox/nn/_rnn.py, Equinox 0.13",
        ('params = init_params(key, I, H, init="equinox")', "layers = from_equinox(module)"),
        layout="equinox",
        preset="equinox",
        drops=(),
        adam="adam",
        notes=(Note("one step", "it takes one step of one sequence, x [I]; scan and vmap are the caller's."),),
    ),
    Card(
        "cudnn",
        "jax.experimental.rnn.lstm",
        "jax/experimental/rnn.py, JAX 0.10",
        ('params = init_params(key, I, H, init="torch")', "layers = from_cudnn(module, I, H)"),
        layout="cudnn",
        preset="torch",
        adam="adam",
        notes=(
            Note("length 0", "lstm_ref returns the state after the last step; here it is the initial one."),
            Note("float32", "weights are float32, in x64 mode too."),
            Note("dropout", "lstm_ref, which needs no GPU, refuses it."),
        ),
        read=(
            "The tests run lstm_ref, JAX's reference, and not cuDNN itself.",
            "On a GPU products are rounded to TF32 unless precision is HIGHEST.",
        ),
    ),
)

PAPERS = (
    Card(
        "hochreiter_1997",
        "Hochreiter & Schmidhuber (1997), Long Short-Term Memory",
        "Neural Computation 9(8), section 4, section 5.1 and appendix A.1",
        (
            'params = init_params(key, I, H, cell="no_forget_gate")  # the nearest row, and not this cell',
            'ys = lstm(params, xs, cell="no_forget_gate")[1]',
        ),
        cell=None,
        notes=(
            Note("forget gate", "there is none, c' = c + i ⊙ g: vanilla is not this cell."),
            Note("ranges", "g is 4σ(z) − 2 = 2·tanh(z/2), h is 2σ(c) − 1 = tanh(c/2); no row has these."),
            Note("blocks", "cells of a block share their gates, and gates see gates: 264 weights for 4 blocks of 1."),
            Note("gradient", "no error flows from net inputs to the step before; our gradients are the full ones."),
        ),
        read=(
            "Weights start within ±0.2 (experiments 1 and 2) or ±0.1, experiment 1's output gate biases at −1, −2, −3.",
            "Learning is online, one sequence after the other; activations are reset after each.",
        ),
    ),
    Card(
        "gers_2000_forget",
        "Gers, Schmidhuber & Cummins (2000), Learning to Forget",
        "Neural Computation 12(10)",
        ("params = init_params(key, I, H)", "ys = lstm(params, xs)[1]"),
        notes=(
            Note("forget gate", "c' = f ⊙ c + i ⊙ g; with f = 1 it is the LSTM without one."),
            Note("blocks", "4 blocks of 2 cells share gates: 8·15 + 12·16 = 312 numbers; 8 units here have 512."),
        ),
        read=(
            "Forget gate biases start at +0.5, +1, +1.5, +2 block by block, those of input and output gates at the "
            "same below 0, weights within ±0.2 (continual Reber grammar).",
        ),
    ),
    Card(
        "gers_2000_peepholes",
        "Gers & Schmidhuber (2000), Recurrent Nets that Time and Count",
        "IJCNN 2000; Gers, Schraudolph & Schmidhuber (2002), JMLR 3, section 3",
        ('params = init_params(key, I, H, cell="peephole")', 'ys = lstm(params, xs, cell="peephole")[1]'),
        cell="peephole",
        notes=(
            Note("new c", "i and f see the old c, o the new one."),
            Note("order", "w_c holds the peepholes of i, f and o; they start at 0 here."),
            Note("gradient", "there no error flows through a peephole into c; here it does."),
        ),
        read=("The functions g and h of the paper were not read; the row has tanh, as Greff et al. (2017).",),
    ),
    Card(
        "sak_2014",
        "Sak, Senior & Beaufays (2014), LSTM with a recurrent projection",
        "arXiv:1402.1128",
        (
            'params = init_params(key, I, H, cell="projection", projection_size=P)',
            'ys = lstm(params, xs, cell="projection")[1]',
        ),
        cell="projection",
        notes=(
            Note("peepholes", "it has them; proj_size of PyTorch has not."),
            Note("projection", "h = m·W_p without a bias; both the recurrence and the output have P numbers."),
        ),
    ),
    Card(
        "jozefowicz_2015",
        "Jozefowicz, Zaremba & Sutskever (2015), An Empirical Exploration of Recurrent Network Architectures",
        "ICML 2015",
        (
            "params = init_params(key, I, H, forget_bias=1.0)",
            'printed = replace(CELLS["vanilla"], name="printed", o=jnp.tanh)',
            "ys = lstm(params, xs, cell=printed)[1]",
        ),
        notes=(
            Note("output gate", "the paper prints o = tanh(…); vanilla has σ, as the frameworks that cite it."),
            Note("forget bias", "1 in total, as our default preset has it."),
        ),
        read=("What the paper calls i is our g, a tanh; its j is our i.",),
    ),
    Card(
        "ba_2016",
        "Ba, Kiros & Hinton (2016), Layer Normalization",
        "arXiv:1607.06450, eq. 20 to 22",
        ('params = init_params(key, I, H, cell="layer_norm")', 'ys = lstm(params, xs, cell="layer_norm")[1]'),
        cell="layer_norm",
        notes=(
            Note("together", "one LN runs over all four gates of x·W_x, another over those of h·W_h."),
            Note("raw c", "only h uses LN(c); TensorFlow Addons carries it to the next step: layer_norm_carried."),
            Note("epsilon", "1e-5 here, under the root; 1e-3 in layer_norm_carried."),
            Note("shifts", "each LN has a gain and a shift, in addition to b."),
        ),
    ),
    Card(
        "gal_2016",
        "Gal & Ghahramani (2016), A Theoretically Grounded Application of Dropout in RNNs",
        "arXiv:1512.05287",
        (
            "params = init_params(key, I, H)",
            "key_x, key_h = jax.random.split(noise)",
            "keep = jax.random.bernoulli(key_x, 0.7, (B, 1, I)).astype(xs.dtype) / 0.7",
            "ys = lstm(params, xs * keep, wrappers=(RecurrentDropout(0.3),), key=key_h)[1]",
        ),
        drops=(Drop("keep", "inputs", "sequence"), Drop("RecurrentDropout", "h", "sequence")),
        notes=(Note("between layers", "stacked(dropout=) draws a new mask for every step, which is not this."),),
        read=("With untied weights each gate may have a mask of its own; RecurrentDropout is the tied form.",),
    ),
    Card(
        "greff_2017",
        "Greff et al. (2017), LSTM: A Search Space Odyssey",
        "IEEE TNNLS 28(10), arXiv:1503.04069, section 3",
        ('params = init_params(key, I, H, cell="peephole")', 'ys = lstm(params, xs, cell="peephole")[1]'),
        cell="peephole",
        notes=(
            Note("vanilla", "its vanilla LSTM has peepholes; what is vanilla here is its NP."),
            Note("variants", "NIG, NFG, NOG, NIAF, NOAF, CIFG, NP and FGR are rows of these names in small letters."),
            Note("coupled", "CIFG is f = 1 − i; code with i = 1 − f is cifg_mirror."),
            Note("fgr", "nine more matrices, from i, f and o to i, f and o; the state is (h, c, i, f, o)."),
        ),
    ),
    Card(
        "krueger_2017",
        "Krueger et al. (2017), Zoneout",
        "ICLR 2017, arXiv:1606.01305",
        ("params = init_params(key, I, H)", "ys = lstm(params, xs, wrappers=(Zoneout(h=0.1, c=0.2),), key=noise)[1]"),
        drops=(Drop("Zoneout(h=)", "h, which stays as it is", "step"), Drop("Zoneout(c=)", "c, likewise", "step")),
        notes=(
            Note("new c", "h' is computed from the new c before c is zoned out."),
            Note("evaluation", "without a key the state is the expected one, rate · old + (1 − rate) · new."),
        ),
    ),
    Card(
        "tensorflow_lite",
        "TensorFlow Lite (LiteRT), LSTM and UNIDIRECTIONAL_SEQUENCE_LSTM with layer normalisation",
        "tensorflow/lite/kernels/lstm_eval.cc, now google-ai-edge/LiteRT, tflite/kernels",
        (
            'params = init_params(key, I, H, cell="layer_norm_per_gate")',
            'ys = lstm(params, xs, cell="layer_norm_per_gate")[1]',
        ),
        cell="layer_norm_per_gate",
        notes=(
            Note("by gate", "each gate has a separate LN, over its sum with the peephole; b is added after it."),
            Note("epsilon", "1e-8, under the root."),
            Note("other forms", "tensorflow_lite_cell(cifg=, peephole=, layer_norm=, cell_clip=, proj_clip=) has all."),
            Note("coupled", "CIFG is i = 1 − f there."),
            Note("limits", "c is limited before o's peephole sees it, a projected h after its bias b_p; 0 is none."),
        ),
        read=("This is the float kernel; hybrid and integer ones round what they multiply.",),
    ),
)

CARDS = MappingProxyType({card.name: card for card in FRAMEWORKS + PAPERS})
"""All cards by name."""


def cards_as_markdown() -> str:
    """Return all cards as the text of docs/replica-cards.md."""
    lines = [
        "# Replica cards",
        "",
        "What the LSTM of a framework or of a paper is, and how to build it here. This file is generated from",
        "`lstmjax.replica.CARDS`. Its statements on frameworks and on our side are tested (`tests/test_cards*.py`),",
        "except those marked as only read; papers are cited. In the recipes B, I, H and P are sizes, xs inputs, key",
        "and noise random keys, and module a layer of the framework, its variables or parameters. In the recipe for",
        "a framework the first line draws new weights as the framework does, the second converts existing ones. Our",
        f"gates stand in the order {', '.join(GATES)}. N is I, or the width of h.",
    ]
    for card in CARDS.values():
        lines += ["", f"## {card.name}", "", card.title, "", "| | |", "|---|---|"]
        lines += [f"| {label.strip()} | {text} |" for label, text in card.facts()]
        lines += ["", "```python", *card.recipe, "```"]
        lines += ["", *(f"- *{note.name}*: {note.text}" for note in card.notes)] if card.notes else []
        lines += ["", *(f"- Read, not tested: {text}" for text in card.read)] if card.read else []
    return "\n".join(lines) + "\n"
