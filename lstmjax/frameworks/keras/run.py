"""Keras: `LSTM` and `Bidirectional` layers; gradients where Keras runs on JAX."""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lstmjax.frameworks.base.layouts import ConvertError, to_jax
from lstmjax.frameworks.base.model import Model
from lstmjax.frameworks.base.running import OnJax, Outcome, Part, as_users_have_it, sizes
from lstmjax.frameworks.base.timing import Job
from lstmjax.frameworks.keras.config import HARMLESS, LAYERS, strange
from lstmjax.frameworks.keras.files import description
from lstmjax.frameworks.keras.graph import MASKS, MODELS, get
from lstmjax.frameworks.keras.weights import described, from_list, to_keras, weights_of
from lstmjax.frameworks.keras.words import check_words
from lstmjax.networks import Dense, NetworkParams
from lstmjax.stack import Layers, directions

PARTS = ("keras.initializers", "keras.regularizers", "keras.constraints")
CODE = ("function", "Lambda", "__lambda__")


def backend() -> str:
    """Return the name of the backend that Keras runs on; JAX, if that is not decided yet."""
    if "keras" not in sys.modules:
        os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    return keras.backend.backend()


def run(layers: Layers, xs: Any, lengths: Any = None, d_ys: Any = None) -> Outcome:
    """Return what Keras computes with these layers, without gradients unless it runs on JAX; see `Peer.run`."""
    on = backend()
    if on != "jax":
        for module in build(layers, str(xs.dtype)):
            xs = call(module, xs, lengths)
        return Outcome(xs, without=f"Keras runs on {on}; set KERAS_BACKEND=jax before it is imported")
    return build_on_jax(layers, str(xs.dtype), _mask(xs, lengths)).outcome(xs, d_ys)


def build_on_jax(layers: Layers, dtype: str, mask: Any = None) -> OnJax:
    """Build the Keras layers as a function of their weights, where Keras runs on JAX."""
    modules = build(layers, dtype)

    def forward(values: Any, xs: Any) -> Any:
        for module, weights in zip(modules, values, strict=True):
            constants = [v.value for v in module.non_trainable_variables]
            xs = module.stateless_call(weights, constants, xs, mask=mask)[0]
        return xs

    values = [[v.value for v in module.trainable_variables] for module in modules]

    def to_ours(gradients: Any) -> Layers:
        return tuple(layer for weights in gradients for layer in from_list([np.asarray(a) for a in weights]))

    return OnJax(forward, values, to_ours)


def build_job(job: Job) -> OnJax:
    """Build `keras.layers.LSTM` run by `stateless_call`, as `keras.Model.fit` runs it.

    Raises:
        ConvertError: Keras runs on another backend than JAX.
    """
    if backend() != "jax":
        raise ConvertError(f"Keras runs on {backend()}; set KERAS_BACKEND=jax")
    return build_on_jax(job.layers, str(job.xs.dtype))


def parts(source: Any) -> list[Part]:
    """Return the recurrent layers of a layer or a model, the same objects; see `Peer.parts`."""
    backend()
    import keras

    layers: list[Any] = []
    for layer in _flat(source):
        cell = getattr(layer, "cell", None)
        if isinstance(cell, keras.layers.StackedRNNCells):  # the same cells, each in a layer of its own
            for n, inner in enumerate(cell.cells):
                go_backwards = layer.go_backwards and n == 0
                layers.append(keras.layers.RNN(inner, return_sequences=True, go_backwards=go_backwards))
        elif isinstance(layer, keras.layers.RNN | keras.layers.Bidirectional):
            layers.append(layer)
    if not layers:
        raise ConvertError(f"there is no LSTM in theirs, a {type(source).__name__}")
    for layer in layers:
        if getattr(layer, "merge_mode", "concat") not in ("concat", "sum"):
            raise ConvertError(f"{layer.name}: merge_mode is {layer.merge_mode!r}; 'concat' and 'sum' can be verified")
    return [
        Part(weights_of(layer)[0], partial(_all_steps, layer), getattr(layer, "merge_mode", "concat"))
        for layer in layers
    ]


def itself(source: Any) -> tuple[Model, Callable[[Any, Any], Any]] | None:
    """Return a layer or a model as a `Model`, and what runs it; None: it does more than one can; see `Peer.itself`."""
    backend()
    import keras

    if not isinstance(source, keras.layers.Layer):
        return None
    model = described(source)
    if model.settings or not model.architecture.directions:
        return None
    layers = weights_of(source)
    if len(layers) != len(model.architecture.directions):
        return None
    head = _head(source, model.head)
    params = layers if head is None else NetworkParams(layers, head)
    return Model(params, model.architecture), partial(call, source)


def _head(source: Any, name: str | None) -> Dense | None:
    """Return the weights of the Dense layer of a model that is called so, or that is in the layer called so."""
    import keras

    for layer in _flat(source) if name else ():
        if layer.name == name:
            dense = getattr(layer, "layer", layer)  # of a TimeDistributed
            kernel = keras.ops.convert_to_numpy(dense.kernel)
            bias: Any = np.zeros(kernel.shape[-1], kernel.dtype)
            if dense.bias is not None:
                bias = keras.ops.convert_to_numpy(dense.bias)
            return to_jax(Dense(kernel, bias))
    return None


def beyond(source: Any) -> tuple[str, ...]:
    """Return what a model or a layer does that is no LSTM over all steps: other layers, a head, masks."""
    model = described(source)
    words = list(model.settings)
    if model.architecture.mask_value is not None:
        words.append("its mask")
    if model.head is not None:
        words.append(f"its head {model.head}")
    return tuple(words)


def load(path: Path) -> Callable[[Any, Any], np.ndarray]:
    """Build the model in a `.keras` or whole `.h5` file as Keras itself does; see `Peer.load`.

    The file has been read by `lstmjax.convert` before, which refuses layers that it does not know.

    Raises:
        ConvertError: the description names what is not of Keras, or this Keras would run another model.
    """
    config, version = description(path)
    strange = list(foreign(config))
    if strange:
        raise ConvertError(f"Keras is not asked to build {', '.join(strange)}, which may run code")
    installed = importlib.metadata.version("keras")
    if version and version.split(".")[0] != installed.split(".")[0] and "hard_sigmoid" in json.dumps(config):
        raise ConvertError(
            f"it is of Keras {version}, and the hard_sigmoid of the installed Keras {installed} is another"
        )
    if not path.name.lower().endswith(".keras"):
        check_words(path)
    backend()
    import keras

    try:
        with as_users_have_it():
            model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # whatever Keras raises over a file: its words are the reason
        words = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ConvertError(f"Keras {installed} does not build it: {words}") from None

    return partial(call, model)


def foreign(tree: Any) -> Iterator[str]:
    """Yield the names in a model's description that are no plain part of Keras, and could run code when it is built.

    Losses and optimizers are skipped, since the model is built without them (compile=False).
    """
    stack: list[Any] = [tree]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            kind, module = get(item, "class_name", str), get(item, "module", str)
            known = kind == "DTypePolicy" or any(kind in kinds for kinds in (LAYERS, HARMLESS, MODELS, MASKS))
            # Without a module Keras only searches its own classes of the kind that the setting needs.
            plain = not module or module in PARTS or (known and module.split(".")[0] == "keras")
            if kind in CODE or (kind and kind != "__keras_tensor__" and not plain):
                yield f"{module}.{kind}".lstrip(".")[:60]
            elif name := strange(item):
                yield name
        stack += _children(item)


def _children(item: Any) -> Iterable[Any]:
    if isinstance(item, dict):
        return [value for key, value in item.items() if key != "compile_config"]
    return item if isinstance(item, list | tuple) else ()


def build(layers: Layers, dtype: str) -> list[Any]:
    """Build a Keras layer for each of these layers."""
    import keras

    modules = []
    with as_users_have_it():
        for layer, weights in zip(layers, to_keras(layers), strict=True):
            inputs, hidden, count = sizes(layer)
            biased = any(b is not None for part in directions(layer) for b in (part.b, part.b_h))
            module = keras.layers.LSTM(
                hidden,
                return_sequences=True,
                use_bias=biased,
                recurrent_initializer="zeros",  # the orthogonal one has no half precision
                dtype=dtype,
            )
            if count == 2:
                module = keras.layers.Bidirectional(module, dtype=dtype)
            module.build((None, None, inputs))
            module.set_weights(weights)
            modules.append(module)
    return modules


def call(module: Any, xs: Any, lengths: Any) -> np.ndarray:
    """Return the outputs of a Keras layer or model as a NumPy array."""
    import keras

    with as_users_have_it(), warnings.catch_warnings():
        # Keras says of each model with a mask that layers behind it will not see the mask; there are none.
        warnings.filterwarnings("ignore", message=".*was passed an input with a mask attached")
        return keras.ops.convert_to_numpy(module(xs, mask=_mask(xs, lengths)))


def _mask(xs: Any, lengths: Any) -> Any:
    return None if lengths is None else np.arange(xs.shape[1]) < np.asarray(lengths)[:, None]


def _all_steps(layer: Any, xs: Any, lengths: Any) -> np.ndarray:
    """Return a layer's outputs at all steps, whatever it is set to return, and leave its settings as they were."""
    settings = {"return_sequences": True, "return_state": False, "stateful": False}
    layers = [layer]
    for name in ("forward_layer", "backward_layer"):
        if getattr(layer, name, None) is not None:
            layers.append(getattr(layer, name))
    previous = [(item, name, getattr(item, name)) for item in layers for name in settings if hasattr(item, name)]
    try:
        for item, name, _ in previous:
            setattr(item, name, settings[name])
        return call(layer, xs, lengths)
    finally:
        for item, name, value in previous:
            setattr(item, name, value)


def _flat(source: Any) -> list[Any]:
    """Return the layers of a model in their order, those of models within it included."""
    if not hasattr(source, "layers"):
        return [source]
    return [item for layer in source.layers for item in _flat(layer)]
