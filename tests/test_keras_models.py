"""Models that Keras itself builds: read from their files and in memory, run as they say or refused by name."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from keras_files import B, H, I, T
from tolerances import assert_close

from lstmjax import stacked, verify
from lstmjax.convert import ConvertError, from_keras, load_model
from lstmjax.frameworks.keras.run import itself

pytest.importorskip("h5py")
XS = np.random.default_rng(1).normal(size=(B, T, I)).astype(np.float32)
ENDS = (".keras", ".h5")


def built(keras, *layers, functional=False):
    """A model of Keras with random weights."""
    first = keras.Input((T, I))
    if functional:
        ys = first
        for one in layers:
            ys = one(ys)
        model = keras.Model(first, ys)
    else:
        model = keras.Sequential([first, *layers])
    rng = np.random.default_rng(3)
    for w in model.weights:
        if "seed" not in w.path:
            w.assign(rng.normal(size=w.shape) * 0.6)
    return model


def of_keras(made):
    """Models by what they are about; None: run as the file says, else words of the refusal."""
    several = made.StackedRNNCells([made.LSTMCell(H, activation="elu"), made.LSTMCell(3, activation="elu")])
    return {
        "settings": (
            [
                made.LSTM(H, activation="relu", recurrent_activation="hard_sigmoid", return_sequences=True),
                made.Dropout(0.5),
                made.LSTM(3, activation="relu", recurrent_activation="hard_sigmoid", use_bias=False),
                made.Dense(2, activation="softmax"),
            ],
            None,
        ),
        "backwards": ([made.LSTM(H, go_backwards=True, return_sequences=True), made.LSTM(3, go_backwards=True)], None),
        "sum": (
            [
                made.Bidirectional(made.LSTM(H, return_sequences=True), merge_mode="sum"),
                made.LSTM(3, return_sequences=True),
                made.Bidirectional(made.LSTM(H), merge_mode="sum"),
                made.Dense(2, activation="sigmoid", use_bias=False),
            ],
            None,
        ),
        "cells": (
            [made.RNN(several, go_backwards=True, return_sequences=True), made.TimeDistributed(made.Dense(2))],
            None,
        ),
        "mask": ([made.Masking(0.0), made.LSTM(H, return_sequences=True), made.Dense(2)], None),
        "mask of pairs": (
            [made.Masking(0.0), made.Bidirectional(made.LSTM(H, return_sequences=True)), made.LSTM(3)],
            None,
        ),
        "backward layer": (
            [
                made.Bidirectional(
                    made.LSTM(H, return_sequences=True, name="up"),
                    backward_layer=made.LSTM(H, return_sequences=True, go_backwards=True, use_bias=False, name="low"),
                ),
                made.Bidirectional(
                    made.LSTM(2, return_sequences=True),
                    backward_layer=made.LSTM(3, return_sequences=True, go_backwards=True),
                ),
            ],
            None,
        ),
        "names of a pair": (
            [made.LSTM(H, return_sequences=True, name="forward_lstm"), made.LSTM(H, name="backward_lstm")],
            None,
        ),
        "softmax layer": ([made.LSTM(H), made.Dense(3), made.Softmax()], None),
        "pooling": ([made.AveragePooling1D(2), made.LSTM(H)], r"average_pooling1d(_\d+)? \(AveragePooling1D\)"),
        "ave": ([made.Bidirectional(made.LSTM(H), merge_mode="ave")], "merge_mode is 'ave'"),
        "other cells": ([made.LSTM(H, return_sequences=True), made.LSTM(H, activation="relu")], "its cell is 'relu,"),
    }


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize(
    "what",
    [
        "settings",
        "backwards",
        "sum",
        "cells",
        "mask",
        "mask of pairs",
        "backward layer",
        "names of a pair",
        "softmax layer",
        "pooling",
        "ave",
        "other cells",
    ],
)
def test_keras_models_run_as_their_files_say_or_are_refused(what, keras, tmp_path):
    layers, refusal = of_keras(keras.layers)[what]
    model, xs = built(keras, *layers, functional=what == "mask"), XS.copy()
    xs[0, 3:] = 0
    if what == "cells":  # files of models that were trained hold an optimizer, too
        model.compile("adam", "mse")
    expected = np.asarray(model(xs))
    for end in ENDS:
        path = tmp_path / f"model{end}"
        model.save(path)
        if refusal:
            with pytest.raises(ConvertError, match=refusal):
                load_model(path)
            continue
        assert_close(load_model(path)(xs), jnp.asarray(expected))
        if end == ".keras":
            verdict = verify(path, xs)
            assert verdict, str(verdict)
            assert f"as keras {keras.__version__} builds it" in verdict.who
            assert not verdict.unchecked
    if what in ("backward layer", "names of a pair"):
        ys = stacked(from_keras(model), xs, return_sequences=what == "backward layer")[1]
        assert_close(ys, jnp.asarray(expected))
    with pytest.raises(ConvertError, match=refusal or "Pass "):
        from_keras(
            model, cell="vanilla" if refusal or what in ("settings", "cells", "mask", "backwards") else "peephole"
        )


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
@pytest.mark.parametrize(("pair", "sequences"), [(False, False), (True, False), (True, True)])
def test_lengths_of_models_with_a_mask_of_their_own(pair, sequences, keras, tmp_path):
    """Keras computes the mask of such a model from its inputs alone, whatever mask it is called with."""
    made = keras.layers
    layer = made.LSTM(H, return_sequences=sequences)
    model = built(keras, made.Masking(-1.0), made.Bidirectional(layer) if pair else layer, made.Dense(2))
    model.save(tmp_path / "model.keras")
    xs, lengths = XS.copy(), np.arange(1, len(XS) + 1)
    xs[-1, 0] = -1.0  # a step that is left out among those that are valid
    for theirs in (model, tmp_path / "model.keras"):
        verdict = verify(theirs, xs, lengths=lengths)
        assert verdict, str(verdict)
        assert not verdict.unchecked
    read = load_model(tmp_path / "model.keras")
    verdict = verify(lambda xs: np.asarray(model(xs)), xs, params=read, lengths=lengths)
    assert verdict, str(verdict)
    head = read.params.head
    wrong = replace(read, params=read.params._replace(head=head._replace(b=head.b + 0.1)))
    assert not verify(lambda xs: np.asarray(model(xs)), xs, params=wrong, lengths=lengths)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
def test_models_in_memory_are_verified_with_their_merge(keras, tmp_path):
    made = keras.layers
    both = (made.Bidirectional(made.LSTM(H, return_sequences=True), merge_mode="sum") for _ in range(2))
    model = built(keras, made.Rescaling(2.0, name="scale"), *both, made.Dense(2, name="last"))
    verdict = verify(model, XS)
    assert verdict, str(verdict)
    assert "its recurrent layers alone were compared, not scale (Rescaling), its head last" in str(verdict)
    with pytest.raises(ConvertError, match=r"does more than its LSTM layers: scale \(Rescaling\)\. Pass extra='drop'"):
        from_keras(model)
    assert len(from_keras(model, extra="drop", merge="sum")) == 2


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
def test_classes_of_the_caller_with_names_of_keras_are_refused_and_run(keras, tmp_path):
    made = keras.layers

    class LSTM(made.LSTM):
        def call(self, sequences, initial_state=None, mask=None, training=False):
            return -super().call(sequences, initial_state, mask, training)

    class Dropout(made.Dropout):
        def call(self, inputs, training=False):
            return inputs * 0.5

    class Model(keras.Model):
        def call(self, inputs, *args, **options):
            return super().call(inputs * 2.0, *args, **options)

    first = keras.Input((T, I))
    models = {
        "LSTM": built(keras, LSTM(H, return_sequences=True)),
        "Dropout": built(keras, Dropout(0.5), made.LSTM(H, return_sequences=True)),
        "Model": Model(first, made.LSTM(H, return_sequences=True)(first)),
    }
    for name, model in models.items():
        words = rf"\(test_keras_models\.{name}\)"  # of a module that can be imported; else without one
        with pytest.raises(ConvertError, match=words):
            from_keras(model)
        model.save(tmp_path / "model.keras")
        with pytest.raises(ConvertError, match=words):
            load_model(tmp_path / "model.keras")
        assert re.search(words, verify(model, XS).unchecked[0])
    assert not verify(models["LSTM"], XS)


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
@pytest.mark.parametrize("what", ["settings", "backwards", "sum", "cells", "mask", "softmax layer", "operation"])
def test_models_in_memory_are_verified_as_their_files_are(what, keras):
    if what == "operation":  # of keras.ops, or of JAX
        options = {"activation": keras.ops.tanh, "recurrent_activation": jax.nn.hard_sigmoid}
        layers = [keras.layers.LSTM(H, **options), keras.layers.Dense(2, activation=keras.ops.silu)]
    else:
        layers = of_keras(keras.layers)[what][0]
    model, xs = built(keras, *layers, functional=what == "mask"), XS.copy()
    xs[0, 3:] = 0
    verdict = verify(model, xs)
    assert verdict, str(verdict)
    assert f"of keras {keras.__version__}" in verdict.who
    assert not verdict.unchecked
    model.layers[-1].set_weights([w + 0.01 for w in model.layers[-1].get_weights()])
    if what != "softmax layer":
        theirs = np.asarray(model(xs)) * 1.001
        assert not verify(lambda _: theirs, xs, params=itself(model)[0])


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
@pytest.mark.parametrize("name", ["gelu", "leaky_relu"])
def test_functions_of_jax_that_are_other_functions_in_keras_are_refused(name, keras):
    model = built(keras, keras.layers.LSTM(H, activation=getattr(jax.nn, name)))
    with pytest.raises(ConvertError, match=r"activation is .*\. Pass extra='drop' to leave it behind$"):
        from_keras(model)
    verdict = verify(model, XS)
    assert not verdict
    assert "activation is " in verdict.unchecked[0]


def tanh(z):
    """A function of the caller's with a name of Keras."""
    return 2.0 * z


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
@pytest.mark.parametrize("where", ["layer", "cells", "pair", "model"])
def test_functions_in_a_model_are_read_by_what_they_are_and_the_model_is_left_alone(where, keras, monkeypatch):
    made = keras.layers

    def model(function):
        options = {"activation": function, "recurrent_activation": jax.nn.sigmoid}
        if where == "cells":
            return built(keras, made.RNN(made.StackedRNNCells([made.LSTMCell(3), made.LSTMCell(H, **options)])))
        if where == "pair":
            backward = made.LSTM(3, go_backwards=True, **options)
            return built(keras, made.Bidirectional(made.LSTM(H), backward_layer=backward))
        layer = made.LSTM(H, **options)
        return built(keras, keras.Sequential([keras.Input((T, I)), layer])) if where == "model" else built(keras, layer)

    def refused(layer, name, value):
        raise AssertionError(f"{name} of {layer} is set")

    theirs = model(jnp.tanh)
    expected = np.asarray(theirs(XS))
    other = model(tanh)
    with monkeypatch.context() as patch:
        patch.setattr(keras.layers.Layer, "__setattr__", refused)
        layers = from_keras(theirs)
        with pytest.raises(ConvertError, match=r"activation is '.*test_keras_models\.tanh'"):
            from_keras(other)
    assert_close(stacked(layers, XS, return_sequences=False)[1], jnp.asarray(expected))


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
@pytest.mark.parametrize("name", ["any", "backward_lstm", "forward_up"])
def test_a_pair_in_memory_is_recognised_whatever_its_layers_are_called(name, keras):
    made = keras.layers
    layer = made.Bidirectional(
        made.LSTM(H, return_sequences=True, name="up"),
        backward_layer=made.LSTM(H + 1, return_sequences=True, go_backwards=True, name=name),
    )
    expected = np.asarray(layer(XS))
    assert_close(stacked(from_keras(layer), XS)[1], jnp.asarray(expected))
