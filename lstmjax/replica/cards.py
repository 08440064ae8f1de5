"""All replica cards: those of the frameworks, in the table of frameworks, and those of papers."""

from __future__ import annotations

from types import MappingProxyType

from lstmjax.frameworks import FRAMEWORKS
from lstmjax.frameworks.base.card import Card, Drop, Note
from lstmjax.types import GATES

OF_FRAMEWORKS = tuple(card for row in FRAMEWORKS.values() for card in row.cards)
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

HYDROLOGY = (
    Card(
        "neuralhydrology",
        "neuralhydrology.modelzoo.CudaLSTM",
        "neuralhydrology/modelzoo/cudalstm.py and customlstm.py, neuralhydrology 1.13",
        (
            'layers = init_stacked(key, I, H, 1, init="torch")',
            "layers, head = from_neuralhydrology(module)",
            "ys = network(NetworkParams(layers, head), xs, return_sequences=True)[1]",
        ),
        drops=(Drop("output_dropout", "h, before the head", "step"),),
        notes=(
            Note("inputs", "xs are the dynamic inputs, followed by the static attributes at each step."),
            Note("forget bias", "initial_forget_bias replaces bias_hh of f; bias_ih stays as it was drawn."),
            Note("custom", "CustomLSTM is the same function; its arrays are cell.w_ih, w_hh, b_ih and b_hh."),
        ),
    ),
    Card(
        "kratzert_2019",
        "Kratzert et al. (2019), Towards learning universal, regional, and local hydrological behaviors",
        "Hydrol. Earth Syst. Sci. 23, 5089; neuralhydrology/modelzoo/ealstm.py, neuralhydrology 1.13",
        (
            "params = init_entity_aware(key, I, S, H, forget_bias=3.0)",
            "statics = jax.random.normal(noise, (B, S))",
            "ys = entity_aware(params, xs, statics)[1]",
        ),
        cell=None,
        notes=(
            Note("static gate", "i = σ(s·W_s + b_s), once for all steps; f, g and o see x and h, and no attributes."),
            Note("as vanilla", "as_vanilla(params) is the same network: an LSTM on x and s, with blocks of zeros."),
            Note("gate order", "EALSTM stores f, o, g side by side, [N, 3H], and a single bias."),
            Note("start", "EALSTM's weight_hh starts as three identities; ours as the preset has it."),
        ),
        read=("The equations were read in neuralhydrology, not in the paper.",),
    ),
    Card(
        "hoedt_2021",
        "Hoedt et al. (2021), MC-LSTM: Mass-Conserving LSTM",
        "ICML 2021, arXiv:2101.05186; neuralhydrology/modelzoo/mclstm.py, neuralhydrology 1.13",
        (
            "params = init_mass_conserving(key, I, H)",
            "rain = jax.random.exponential(noise, (B, T, 1))",
            "hs = mass_conserving(params, rain, xs)[1]",
            "ys = outflow(hs)",
        ),
        cell=None,
        notes=(
            Note("balance", "what enters is stored or leaves: Σ mass = Σ hs + c, to rounding."),
            Note("trash", "the first unit is a sink, and no part of the discharge."),
            Note("batch", "MCLSTM divides c by a norm over the batch: its outputs depend on the batch, ours do not."),
            Note("lost mass", "MCLSTM loses the mass of a unit whose row of relu(R) is 0; here it stays there."),
        ),
        read=("The equations were read in neuralhydrology and ml-jku/mc-lstm, not in the paper.",),
    ),
)
"""Cells that are no rows of `CELLS`, and the package that hydrologists train them with."""

CARDS = MappingProxyType({card.name: card for card in OF_FRAMEWORKS + PAPERS + HYDROLOGY})
"""All cards by name."""


def cards_as_markdown() -> str:
    """Return all cards as the text of docs/replica-cards.md."""
    lines = [
        "# Replica cards",
        "",
        "What the LSTM of a framework or of a paper is, and how to build it here. This file is generated from",
        "`lstmjax.replica.CARDS`. Its statements on frameworks and on our side are tested (`tests/test_cards*.py`),",
        "except those marked as only read; papers are cited. In the recipes B, T, I, H, P and S are sizes, xs",
        "inputs, key and noise random keys, and module a layer of the framework, its variables or parameters. In the",
        "recipe for a framework the first line draws new weights as the framework does, the second converts existing",
        f"ones. Our gates stand in the order {', '.join(GATES)}. N is I, or the width of h.",
    ]
    for card in CARDS.values():
        lines += ["", f"## {card.name}", "", card.title, "", "| | |", "|---|---|"]
        lines += [f"| {label.strip()} | {text} |" for label, text in card.facts()]
        lines += ["", "```python", *card.recipe, "```"]
        lines += ["", *(f"- *{note.name}*: {note.text}" for note in card.notes)] if card.notes else []
        lines += ["", *(f"- Read, not tested: {text}" for text in card.read)] if card.read else []
    return "\n".join(lines) + "\n"
