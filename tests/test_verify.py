"""Verdicts on planted faults, on frameworks' own objects, on files.

The other side is a NumPy loop of its own or the oracle, so that a cause is not tested against itself.
"""

from dataclasses import replace
from itertools import permutations

import jax
import numpy as np
import pytest
from faulty import B, H, T, coarse, draw, half, hard, moved, numpy_lstm, single, turn

import lstmjax.convert
from lstmjax import Bidirectional, Dense, NetworkParams, network, oracle, oracle_cells
from lstmjax.errors import UserError
from lstmjax.replica import CAUSES, bounds, verify
from lstmjax.replica.verify_files import verify_files


def both(pair, xs, lengths=None):
    return np.concatenate([numpy_lstm(pair[0], xs), turn(numpy_lstm(pair[1], turn(xs, lengths)), lengths)], -1)


def normed(p, xs, epsilon, carried=False):
    rows = []
    for x in xs:
        state, steps = (np.zeros(H), np.zeros(H)), []
        for one in x:
            shown, state = oracle_cells.layer_norm(carried, epsilon)(p, one, state)
            steps.append(shown.h)
        rows.append(steps)
    return np.array(rows)


rng = np.random.default_rng(0)
XS = rng.normal(size=(B, T, H))
P, PEEPING, NORMED = draw(rng), draw(rng, peepholes=True), draw(rng, biases=1, norm=True)
TINY = P._replace(w_x=P.w_x * 10.0 ** rng.integers(-9, 1, size=P.w_x.shape))
PAIR, LENGTHS = Bidirectional(draw(rng), draw(rng)), np.array([T, 2, 4])
STATE = tuple(rng.normal(size=(2, B, H)))


def transposed(w):
    return np.stack([w[:, k].T for k in range(4)], axis=1)


HEAD = Dense(*(np.random.default_rng(6).normal(size=size) for size in ((H, 3), 3)))


def activated(activation):
    """A network, and its head's outputs behind an activation."""
    return NetworkParams((P,), HEAD), lambda: activation(numpy_lstm(P, XS) @ HEAD.w + HEAD.b), (0, "y"), {}


FAULTS = {  # words of the cause: (our parameters, what theirs computes, the first step and gate, options)
    "adds 1 to the bias of the forget gate": (P, lambda: numpy_lstm(moved(P, 1), XS), (1, "f"), {}),
    "has 1 less in the bias of the forget gate": (P, lambda: numpy_lstm(moved(P, -1), XS), (1, "f"), {}),
    "leaves b_h out": (P, lambda: numpy_lstm(P._replace(b_h=0 * P.b), XS), (0, "i"), {}),
    "leaves b out": (P, lambda: numpy_lstm(P._replace(b=0 * P.b), XS), (0, "i"), {}),
    "counts every bias twice": (P, lambda: numpy_lstm(P._replace(b=2 * P.b, b_h=2 * P.b_h), XS), (0, "i"), {}),
    "has no bias": (P, lambda: numpy_lstm(P._replace(b=0 * P.b, b_h=None), XS), (0, "i"), {}),
    "has w_h transposed": (P, lambda: numpy_lstm(P._replace(w_h=transposed(P.w_h)), XS), (1, "i"), {}),
    "has w_x transposed": (P, lambda: numpy_lstm(P._replace(w_x=transposed(P.w_x)), XS), (0, "i"), {}),
    "has w_x in the place of w_h": (P, lambda: numpy_lstm(P._replace(w_x=P.w_h, w_h=P.w_x), XS), (0, "i"), {}),
    "has no peepholes": (PEEPING, lambda: numpy_lstm(PEEPING._replace(w_c=None), XS), (0, "o"), {"cell": "peephole"}),
    "theirs runs backwards": (P, lambda: turn(numpy_lstm(P, turn(XS))), (0, "i"), {}),
    "xs in reverse order and leaves": (P, lambda: numpy_lstm(P, turn(XS)), (0, "i"), {}),
    "every layer of theirs leaves its outputs": (
        (P, PEEPING._replace(w_c=None)),
        lambda: numpy_lstm(PEEPING._replace(w_c=None), turn(numpy_lstm(P, turn(XS)))),
        (0, "i"),
        {},
    ),
    "gives its outputs in reverse order": (P, lambda: turn(numpy_lstm(P, XS)), (0, "i"), {}),
    "the outputs of the reverse direction in the order it ran": (
        PAIR,
        lambda: np.concatenate([numpy_lstm(PAIR[0], XS), numpy_lstm(PAIR[1], turn(XS))], -1),
        (5, "i"),
        {},
    ),
    "the weights of the two directions": (PAIR, lambda: both(PAIR[::-1], XS), (0, "i"), {}),
    "the outputs of the reverse direction first": (PAIR, lambda: np.roll(both(PAIR, XS), H, -1), (0, "i"), {}),
    "takes the first axis of xs for time": (P, lambda: numpy_lstm(P, XS.swapaxes(0, 1)).swapaxes(0, 1), (0, "i"), {}),
    "runs over the padding": (PAIR, lambda: both(PAIR, XS), (1, "i"), {"lengths": LENGTHS}),
    "has h and c in each other's place": (P, lambda: numpy_lstm(P, XS, STATE[::-1]), (0, "i"), {"state": (STATE,)}),
    "begins with zeros": (P, lambda: numpy_lstm(P, XS), (0, "i"), {"state": (STATE,)}),
    "z/5": (P, lambda: numpy_lstm(P, XS, sigma=hard(5)), (0, "i"), {}),
    "z/6": (P, lambda: numpy_lstm(P, XS, sigma=hard(6)), (0, "i"), {}),
    "relu in the place of both": (
        P,
        lambda: numpy_lstm(P, XS, g=lambda z: np.maximum(z, 0), squash=lambda z: np.maximum(z, 0)),
        (0, "g"),
        {},
    ),
    "relu for the candidate": (P, lambda: numpy_lstm(P, XS, g=lambda z: np.maximum(z, 0)), (0, "g"), {}),
    "no tanh around c": (P, lambda: numpy_lstm(P, XS, squash=lambda c: c), (0, "m"), {}),
    "no tanh for the candidate": (P, lambda: numpy_lstm(P, XS, g=lambda z: z), (0, "g"), {}),
    "relu behind the head": activated(lambda y: np.maximum(y, 0)),
    "softplus behind the head": activated(lambda y: np.log1p(np.exp(y))),
    "σ behind the head": activated(lambda y: 1 / (1 + np.exp(-y))),
    "tanh behind the head": activated(np.tanh),
    "softmax behind the head": activated(lambda y: np.exp(y) / np.exp(y).sum(-1, keepdims=True)),
    "ε = 0.001 ": (NORMED, lambda: normed(NORMED, XS, 1e-3), (0, "i"), {"cell": "layer_norm"}),
    "ε = 1e-05 ": (NORMED, lambda: normed(NORMED, XS, 1e-5, True), (0, "i"), {"cell": "layer_norm_carried"}),
    "ε = 1e-06 ": (NORMED, lambda: normed(NORMED, XS, 1e-6), (0, "i"), {"cell": "layer_norm"}),
    "carries c on where": (NORMED, lambda: normed(NORMED, XS, 1e-3, True), (0, "i"), {"cell": "layer_norm"}),
    "sees the old c": (PEEPING, lambda: numpy_lstm(PEEPING, XS, old=True), (0, "o"), {"cell": "peephole"}),
    "to 11 bits": (P, lambda: numpy_lstm(P, XS, fewer=coarse(10)), (0, "i"), {}),
    "to bfloat16": (P, lambda: numpy_lstm(P, XS, fewer=coarse(7)), (0, "i"), {}),
    "to float16": (TINY, lambda: numpy_lstm(TINY, XS, fewer=half), (0, "i"), {}),
}


def row_of(words):
    rows = [row for row in CAUSES if words in row.sentence]
    assert len(rows) == 1, words
    return rows[0]


@pytest.mark.parametrize(
    "words", [pytest.param(w, marks=pytest.mark.slow if k % 3 else ()) for k, w in enumerate(FAULTS)]
)
def test_a_planted_fault_is_named_with_layer_step_and_gate(words):
    params, theirs, (step, gate), options = FAULTS[words]
    verdict = verify(theirs(), XS, params=params, **options)
    assert not verdict
    assert verdict.cause is not None, str(verdict)
    assert (verdict.cause.name, verdict.cause.sentence) == (row_of(words).name, row_of(words).sentence)
    assert verdict.cause.difference.relative < bounds.FLOAT64["outputs"]
    layer = 1 if gate == "y" else 0
    assert (verdict.place.layer, verdict.place.step, verdict.place.what) == (layer, step, gate)


def test_every_cause_has_a_planted_fault():
    planted = {row_of(words).sentence for words in FAULTS}
    assert {row.sentence for row in CAUSES if row.name != "gate order"} == planted
    assert sum(row.name == "gate order" for row in CAUSES) == 23


def test_every_order_of_the_gates_is_told():
    for order in permutations("ifgo"):
        at = [order.index(gate) for gate in "ifgo"]
        theirs = P._replace(**{name: getattr(P, name)[..., at, :] for name in ("w_x", "w_h", "b", "b_h")})
        verdict = verify(numpy_lstm(theirs, XS), XS, params=P)
        if order == tuple("ifgo"):
            assert verdict.agree
            continue
        assert verdict.cause.name == "gate order"
        assert f"in the order {', '.join(order)}" in verdict.cause.sentence
        assert verdict.place.what == next(ours for ours, k in zip("ifgo", at, strict=True) if "ifgo"[k] != ours)
    assert any("i, g, f, o, that of haiku; they" in row.sentence for row in CAUSES)


TWO = (P, draw(rng), draw(rng))
WRONG = (P, moved(TWO[1], 1), TWO[2])


def up_to(layers, n):
    xs = XS
    for p in layers[:n]:
        xs = numpy_lstm(p, xs)
    return xs


@pytest.mark.parametrize(
    "recorded",
    [
        lambda: up_to(WRONG, 3),
        lambda: [up_to(WRONG, n) for n in (1, 2, 3)],
        lambda: [None, up_to(WRONG, 2), up_to(WRONG, 3)],
        lambda: lambda xs: up_to(WRONG, 3),
    ],
    ids=["last", "all", "some", "function"],
)
def test_the_layer_is_found(recorded):
    verdict = verify(recorded(), XS, params=TWO)
    assert (verdict.place.layer, verdict.place.step, verdict.place.what) == (1, 1, "f")
    assert verdict.cause.name == "forget bias added twice"
    assert f"{verdict.place.theirs:.6g}" in str(verdict)
    assert "first: layer 1, step 1 of sequence" in str(verdict)
    assert "with that, both sides agree to" in str(verdict)


def test_the_direction_and_the_step_that_it_runs_first_are_found():
    wrong = Bidirectional(PAIR.forward, PAIR.reverse._replace(b_h=0 * PAIR.reverse.b_h))
    verdict = verify(both(wrong, XS, LENGTHS), XS, params=PAIR, lengths=LENGTHS)
    assert verdict.cause.where == "the reverse direction only"
    assert verdict.place.direction == "reverse"
    assert verdict.place.step == LENGTHS[verdict.place.sequence] - 1
    assert "reverse direction, step" in str(verdict)


def test_recorded_gates_name_the_gate_without_a_cause():
    (_, steps), _ = oracle.lstm(P, XS[0])
    gates = {name: getattr(steps, name)[None] for name in ("i", "f", "g", "o", "c", "h")}
    assert verify(gates, XS[:1], params=P).agree
    gates["o"] = gates["o"].copy()
    gates["o"][0, 4, 2] += 0.1
    verdict = verify({name: a[0] for name, a in gates.items()}, XS[0], params=P)  # one sequence, no batch axis
    assert verdict.cause is None
    assert verdict.place[:6] == (0, None, 0, 4, 2, "o")
    assert verdict.place.theirs - verdict.place.ours == pytest.approx(0.1)
    assert "cause: not found; tried forget bias added twice" in str(verdict)
    assert "peepholes" not in str(verdict)  # there are none, so that it was not tried


def test_what_comes_close_is_told_and_not_called_the_cause():
    theirs = numpy_lstm(moved(P, 1), XS) * (1 + 1e-4 * np.random.default_rng(1).normal(size=(B, T, H)))
    verdict = verify(theirs, XS, params=P)
    assert verdict.cause is None
    assert "closest: forget bias added twice: theirs adds 1" in str(verdict)


def test_the_last_step_alone():
    pair = both(PAIR, XS, LENGTHS)
    last = np.concatenate([pair[np.arange(B), LENGTHS - 1, :H], pair[:, 0, H:]], -1)
    assert verify(last, XS, params=PAIR, lengths=LENGTHS).agree
    verdict = verify(numpy_lstm(moved(P, 1), XS)[:, -1], XS, params=P)
    assert verdict.cause.name == "forget bias added twice"
    assert verdict.place.step is None
    assert "the last step (others are not recorded)" in str(verdict)


def test_the_gate_that_differs_first_is_of_the_direction_that_is_named():
    """At step 1 the reverse direction has run most of its steps, and differs in every gate by then."""
    wrong = Bidirectional(*(moved(part, 1) for part in PAIR))
    verdict = verify(both(wrong, XS), XS, params=PAIR)
    assert verdict.cause.where == ""
    assert verdict.place[1:4:2] == ("forward", 1)
    assert verdict.place.what == "f"


def test_a_head():
    params = NetworkParams((P,), Dense(rng.normal(size=(H, 2)), rng.normal(size=2)))
    ys = numpy_lstm(P, XS)
    assert verify(params, XS).agree
    assert verify(ys @ params.head.w + params.head.b, XS, params=params).agree
    verdict = verify([ys, ys @ params.head.w], XS, params=params)
    assert "first: the head, step 0 of sequence" in str(verdict)
    verdict = verify(XS[..., :2], XS, params=params)  # unlike anything, so that it may come from below
    assert "first: the head or a layer below it, step 0 of sequence" in str(verdict)
    wrong = numpy_lstm(moved(P, 1), XS) @ params.head.w + params.head.b
    assert verify(wrong, XS, params=params).place[:2] == (0, None)


@pytest.mark.parametrize("fewer", [np.asarray, coarse(10)], ids=["whole", "TF32"])
def test_causes_are_found_in_float32(fewer):
    """Where a rounding tips the other way in float32, the bound knows of it: our own side is as far from float64."""
    params, xs = jax.tree.map(lambda a: a.astype(np.float32), (P, XS))
    theirs = numpy_lstm(moved(params, fewer is np.asarray), xs, fewer=fewer).astype(np.float32)
    verdict = verify(theirs, xs, params=params)
    assert verdict.cause.name == ("forget bias added twice" if fewer is np.asarray else "rounding")


def test_what_rounding_alone_may_be_is_no_verdict():
    """Two large products cancel, so that float32 is as far from float64 as a fault would be."""
    params = single()
    params = params._replace(w_x=params.w_x + np.float32([3e7, -3e7, 3e7, -3e7])[:, None, None])
    noise = 1 + 1e-7 * np.random.default_rng(2).normal(size=XS.shape)
    xs = np.repeat(XS[..., :1], H, -1).astype(np.float32) * noise.astype(np.float32)
    verdict = verify(numpy_lstm(params, xs), xs, params=params)
    assert verdict.undecided
    assert not verdict
    assert str(verdict).startswith("cannot tell: lstmjax and the recorded outputs")
    assert "away from itself in float64, so that rounding alone may be the difference" in str(verdict)
    assert verdict.compared[0].bound == bounds.LIMIT
    # h is between -1 and 1: what is far outside differs, although it is never more than about 1 as a share of itself
    for far in (numpy_lstm(params, xs) + 100, np.full_like(xs, 1e6), np.full_like(xs, -1e30)):
        verdict = verify(far, xs, params=params)
        assert not verdict.undecided
        assert "differ: " in str(verdict)


def test_a_head_on_the_last_step_of_a_pair():
    params = NetworkParams((PAIR,), Dense(rng.normal(size=(2 * H, 2)), rng.normal(size=2)))
    with jax.enable_x64(True):
        _, logits = network(params, XS, lengths=LENGTHS)
    assert logits.shape == (B, 2)
    assert verify(logits, XS, params=params, lengths=LENGTHS).agree
    wrong = params._replace(layers=(Bidirectional(moved(PAIR[0], 1), PAIR[1]),))
    with jax.enable_x64(True):
        _, logits = network(wrong, XS, lengths=LENGTHS)
    verdict = verify(logits, XS, params=params, lengths=LENGTHS)
    assert verdict.cause.where == "the forward direction only"
    assert verdict.place[:2] == (0, "forward")


def test_a_cell_against_the_oracle():
    params = (draw(rng, peepholes=True), draw(rng, peepholes=True))
    verdict = verify(params, XS, lengths=LENGTHS, cell="peephole")
    assert verdict.agree
    assert "agree: lstmjax and the NumPy oracle, 2 layers, xs (3, 6, 4), float64" in str(verdict)
    assert "bound 1.0e-13" in str(verdict)


def test_nan_agrees_with_nothing():
    ys = numpy_lstm(P, XS)
    ys[1, 3, 2] = np.nan
    verdict = verify(ys, XS, params=P)
    assert verdict.place[:5] == (0, None, 1, 3, 2)
    xs = XS.copy()
    xs[0, 0, 0] = np.nan
    assert not verify(numpy_lstm(P, xs), xs, params=P)
    narrow, wrong = single(), single()._replace(b=single().b * np.nan)
    for params, inputs in ((narrow, xs), (wrong, XS)):  # our own error is no number either, and allows nothing
        for theirs in (numpy_lstm(params, inputs.astype(np.float32)), ys):
            verdict = verify(theirs, inputs, params=params)
            assert not verdict
            assert np.isfinite(verdict.compared[0].bound)


@pytest.mark.peers
def test_torch_runs_itself_a_state_dict_and_a_file(tmp_path):
    torch = pytest.importorskip("torch")
    module = torch.nn.LSTM(H, 5, 2, batch_first=True, bidirectional=True)
    verdict = verify(module, XS, lengths=LENGTHS)
    assert verdict.agree
    assert str(verdict).startswith(f"agree: lstmjax and the LSTM of torch {torch.__version__}, 2 layers, xs (3, 6, 4)")
    assert verify(module.double(), XS).compared[0].bound == 1e-13
    torch.save(module.state_dict(), tmp_path / "weights.pt")
    for theirs in (module.state_dict(), tmp_path / "weights.pt"):
        verdict = verify(theirs, XS)
        assert verdict.agree
        assert verdict.who.startswith(f"torch {torch.__version__} with")
    with pytest.raises(ValueError, match="there are 2 LSTMs in the module; pass the one that is meant"):
        verify(torch.nn.Sequential(module, module.to(torch.float32), torch.nn.LSTM(H, 5)), XS)
    with pytest.raises(ValueError, match="lengths holds 0, and PyTorch packs no sequence without steps"):
        verify(module, XS, lengths=[T, 0, 4])
    first = torch.nn.LSTM(H, 5)  # without batch_first, on [batch, time, features]
    verdict = verify(lambda xs: first(torch.from_numpy(xs))[0], XS, params=lstmjax.convert.from_torch(first))
    assert "in PyTorch that is batch_first" in verdict.cause.sentence


@pytest.mark.thorough
@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
def test_keras_runs_itself_with_its_own_options(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        cells = keras.layers.StackedRNNCells([keras.layers.LSTMCell(5), keras.layers.LSTMCell(5)])
        both = keras.layers.Bidirectional(keras.layers.LSTM(5, return_sequences=True))
        last = keras.layers.LSTM(5, recurrent_activation="hard_sigmoid")
        plain = keras.Sequential([keras.Input((T, H)), both, keras.layers.RNN(cells), keras.layers.Dense(2)])
        model = keras.Sequential([keras.Input((T, H)), keras.layers.LSTM(H, return_sequences=True), last])
        back = keras.layers.LSTM(5, go_backwards=True)
        back.build((None, None, H))
    assert verify(plain, XS, lengths=LENGTHS).agree
    verdict = verify(model, XS)
    assert (verdict.place.layer, verdict.cause.name) == (1, "activation")
    assert "that of Keras 3" in verdict.cause.sentence
    assert not last.return_sequences  # as it was
    assert verify(back, XS).agree  # as it says, like the file of it
    model.save_weights(tmp_path / "model.weights.h5")
    verdict = verify(tmp_path / "model.weights.h5", XS)  # the weights alone: the activation is not among them
    assert verdict.agree
    assert verdict.who.startswith(f"keras {keras.__version__} with the weights of")


@pytest.mark.peers
def test_flax_haiku_and_equinox_run_themselves():
    from flax import linen, nnx

    module = nnx.Sequential(
        nnx.RNN(nnx.LSTMCell(H, 5, rngs=nnx.Rngs(0))),
        nnx.Bidirectional(*(nnx.RNN(nnx.OptimizedLSTMCell(5, 3, rngs=nnx.Rngs(n))) for n in (1, 2))),
    )
    verdict = verify(module, XS, lengths=LENGTHS)
    assert verdict.agree
    assert "the Sequential of nnx of flax" in str(verdict)
    net = linen.RNN(linen.LSTMCell(5))
    assert "linen" in verify(net.init(jax.random.key(0), XS.astype(np.float32)), XS).who
    with pytest.raises(ValueError, match="theirs is a RNN of linen, which holds no weights; pass its variables"):
        verify(net, XS)
    with pytest.raises(ValueError, match=r"there is no RNN in theirs, a LSTMCell of nnx; pass nnx\.RNN\(cell\)"):
        verify(nnx.LSTMCell(H, 5, rngs=nnx.Rngs(0)), XS)
    equinox = pytest.importorskip("equinox")
    verdict = verify([equinox.nn.LSTMCell(H, 5, key=jax.random.key(0))], XS, lengths=LENGTHS)
    assert verdict.agree
    assert "the LSTMCell of equinox" in str(verdict)
    pytest.importorskip("haiku")
    assert "haiku" in verify(lstmjax.convert.to_haiku(single()), XS).who


def test_the_oracle_stands_in_for_what_is_not_installed(monkeypatch):
    monkeypatch.setattr("lstmjax.frameworks.base.framework.find_spec", lambda name: None)
    state = {"weight_ih_l0": np.ones((8, H), np.float32), "weight_hh_l0": np.ones((8, 2), np.float32)}
    verdict = verify(state, XS)
    assert verdict.agree
    assert verdict.who == "the NumPy oracle (in the place of torch: torch not installed) with these weights"


WRONG_ARGUMENTS = {
    "theirs is a int, expected the path of a weights file, a module of PyTorch": lambda: verify(3, XS),
    "state is given, but without params= theirs runs itself": lambda: verify(P, XS, state=(STATE,)),
    "xs has shape (4,), expected [B, T, I] or [T, I]": lambda: verify(P, XS[0, 0]),
    "xs has 3 features on its last axis, but the parameters expect I = 4": lambda: verify(P, XS[..., :3]),
    "xs has shape (3, 0, 4), and lengths leave nothing to": lambda: verify(P, XS[:, :0]),
    "xs has shape (0, 6, 4), and lengths leave nothing to": lambda: verify(XS[:0], XS[:0], params=P),
    "xs has shape (3, 6, 4), and lengths leave nothing to": lambda: verify(P, XS, lengths=[0, 0, 0]),
    "xs is object, expected real numbers": lambda: verify(P, XS.astype(object)),
    "theirs has h of shape (3, 6, 2), expected (3, 6, 4)": lambda: verify(XS[..., :2], XS, params=P),
    "theirs is a list of 1, expected what each of 3 layers gives": lambda: verify([XS], XS, params=TWO),
    "theirs has 'q'; known names are i, f, g, o": lambda: verify({"q": XS}, XS, params=P),
    "theirs has arrays of {4} axes": lambda: verify(XS[None], XS, params=P),
    "the weights are float32, float64; cast them to one dtype": lambda: verify((single(), P), XS),
    "w.txt: unknown kind of file; expected a name that ends in .pt": lambda: verify("w.txt", XS),
    "w.pt: no such file": lambda: verify("w.pt", XS),
    "the oracle has no cell 'own'": lambda: verify(P, XS, cell=replace(lstmjax.CELLS["vanilla"], name="own")),
}


@pytest.mark.parametrize("words", WRONG_ARGUMENTS)
def test_what_does_not_fit_is_refused(words):
    if "w.pt" in words:
        pytest.importorskip("torch")
    with pytest.raises((ValueError, TypeError)) as error:
        WRONG_ARGUMENTS[words]()
    assert words in str(error.value)


def test_a_file_that_holds_more_is_refused_with_a_way_out(tmp_path):
    arrays = {"lstm.weight_ih_l0": np.ones((8, 3), "f"), "lstm.weight_hh_l0": np.ones((8, 2), "f"), "words": np.ones(3)}
    np.savez(tmp_path / "model.npz", **arrays)
    np.save(tmp_path / "x.npy", np.ones((1, 4, 3), "f"))
    with pytest.raises(UserError, match=r"words\. Pass extra='drop' to leave it behind$"):
        verify_files(tmp_path / "model.npz", tmp_path / "x.npy")
    verdict = verify_files(tmp_path / "model.npz", tmp_path / "x.npy", extra="drop")
    assert verdict
    assert "left out on both sides: words" in str(verdict)
