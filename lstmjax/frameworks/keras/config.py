"""Read the description of a Keras model: the order of its layers, and how they are run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from lstmjax.cells import VANILLA, Activation, Cell, identity
from lstmjax.frameworks.base.architecture import Architecture, same_cell
from lstmjax.frameworks.base.contents import DTYPES, Contents
from lstmjax.frameworks.keras.activations import KERAS, READOUTS
from lstmjax.frameworks.keras.graph import MASKS, MODELS, get, in_call_order, layers_of, name_of
from lstmjax.published import CELLS, hard_sigmoid_fifth, hard_sigmoid_sixth

HARMLESS = (
    "InputLayer", "Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout", "AlphaDropout",
    "ActivityRegularization", "Identity",
)  # fmt: skip
"""Layers that do nothing at inference."""
COMMON = {
    "name", "trainable", "dtype", "units", "use_bias", "seed", "activity_regularizer", "batch_input_shape",
    "batch_shape", "input_shape", "input_dim", "input_length", "kernel_initializer", "bias_initializer",
    "kernel_regularizer", "bias_regularizer", "kernel_constraint", "bias_constraint",
}  # fmt: skip
CELL = COMMON | {
    "activation", "recurrent_activation", "unit_forget_bias", "recurrent_initializer", "recurrent_regularizer",
    "recurrent_constraint", "dropout", "recurrent_dropout", "implementation",
}  # fmt: skip
OVER_TIME = {"return_sequences", "go_backwards", "unroll", "zero_output_for_mask", "use_cudnn"}
OFF: tuple[Any, ...] = (None, False, 0, 0.0, [], {})


def describe(model: Any, version: str | None = None, *, by_name: bool = False) -> Contents:
    """Return the contents of a file with this description of a model, but for the arrays.

    Args:
        model: the tree in config.json or `model_config`, of a `Sequential` or a functional model, or of a layer.
        version: the version of Keras that wrote it; hard_sigmoid is another function in Keras 2 than in Keras 3.
        by_name: identify layers by their names, like `.h5` files; otherwise by their classes, like `.keras` files.
    """
    reader = Reader(version, by_name)
    reader.walk(model, "")
    order = tuple(reader.places)
    doubled = [place for place, count in Counter(order).items() if count > 1]
    if by_name and doubled:
        reader.refuse(f"several layers are called {', '.join(doubled)}")
    architecture = reader.architecture()  # may add to the settings
    settings = tuple(dict.fromkeys(reader.settings))
    pairs = reader.pairs if by_name else None
    return Contents({}, order or None, settings, architecture=architecture, head=reader.head, pairs=pairs)


@dataclass
class Reader:
    """Reads the layers of a model in order, from the input on, and collects their settings."""

    version: str | None
    by_name: bool
    settings: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    cells: list[tuple[str, Cell]] = field(default_factory=list)
    merges: list[tuple[str, str]] = field(default_factory=list)
    pairs: dict[str, str] = field(default_factory=dict)
    directions: list[str] = field(default_factory=list)
    dtypes: dict[str, str] = field(default_factory=dict)
    sequences: bool = True
    padding: str = "zero"
    mask_value: float | None = None
    head: str | None = None
    readout: Activation = identity
    activated: bool = False

    def refuse(self, words: str) -> None:
        """Note something that cannot be carried over."""
        self.settings.append(words)

    def architecture(self) -> Architecture:
        """Return how the layers are run."""
        cell = self.cells[0][1] if self.cells else VANILLA
        for name, other in self.cells:
            if not same_cell(cell, other):
                self.refuse(f"{name}: its cell is {other.name!r}, but {self.cells[0][0]} has {cell.name!r}")
        merge = self.merges[0][1] if self.merges else "concat"
        for name, other_merge in self.merges:
            if other_merge != merge:
                self.refuse(f"{name}: merge_mode is {other_merge!r}, but {self.merges[0][0]} has {merge!r}")
        for name, dtype in self.dtypes.items():
            first_name, first_dtype = next(iter(self.dtypes.items()))
            if dtype != first_dtype:
                self.refuse(f"{name}: dtype is {dtype}, but {first_name} has {first_dtype}")
        if self.mask_value is not None and self.sequences and "turned" in self.directions:
            self.refuse("a mask over a layer with go_backwards, which Keras does not turn with it")
        if self.mask_value is not None and "turned" in self.directions[:-1]:
            self.refuse("a mask over a layer with go_backwards below another one, which Keras does not turn with it")
        return Architecture(
            cell,
            merge,
            return_sequences=self.sequences,
            stated=True,
            directions=tuple(self.directions),
            readout=self.readout,
            mask_value=self.mask_value,
            padding=self.padding,
        )

    def walk(self, model: Any, path: str) -> None:
        """Read a model, or a layer that is not part of a model."""
        kind = get(model, "class_name", str)
        layers = layers_of(model)
        if layers is None:
            self.layer(model, name_of(model) if self.by_name else f"{path}{place_of(kind)}")
            return
        if kind:
            self.accepts(model, MODELS, name_of(model))
        counts: Counter[str] = Counter()
        places = {}
        for n, layer in enumerate(layers):
            place = place_of(get(layer, "class_name", str))
            number = counts[place]
            counts[place] += 1
            places[n] = f"{path}layers/{place}" + (f"_{number}" if number else "")
        order, faults = in_call_order(model)
        self.settings += faults
        for n in order:
            if layers_of(layers[n]) is not None:
                if self.mask_value is not None:
                    self.refuse(f"a mask into the model {name_of(layers[n])}")
                self.walk(layers[n], f"{places[n]}/")
            elif get(layers[n], "class_name", str) not in MASKS:
                self.layer(layers[n], name_of(layers[n]) if self.by_name else places[n])

    def layer(self, layer: Any, place: str) -> None:
        """Read a layer."""
        kind, config, name = get(layer, "class_name", str), get(layer, "config"), name_of(layer)
        self.places.append(place)
        readable = [kind for kind, (read, _) in LAYERS.items() if read is not None]
        if self.accepts(layer, (*HARMLESS, *readable), name) and kind not in HARMLESS:
            self.check(kind, config, name)
            LAYERS[kind][0](self, config, name, place)

    def accepts(self, layer: Any, kinds: Container[str], where: str) -> bool:
        """Return whether a layer is of one of these classes of Keras; another one is refused by its name."""
        kind, other = get(layer, "class_name", str), strange(layer)
        if kind in kinds and other is None:
            return True
        self.refuse(f"{where} ({other or kind})")
        return False

    def check(self, kind: str, config: dict[str, Any], name: str) -> None:
        """Refuse settings that are not read, and dtypes other than floating-point ones."""
        for key, value in config.items():
            if key not in LAYERS[kind][1] and value not in OFF:
                self.refuse(f"{name}: {key} is {value!r}")
        dtype = config.get("dtype")
        if isinstance(dtype, dict):
            policy = get(get(dtype, "config"), "name", str)
            dtype = policy if get(dtype, "class_name", str) == "DTypePolicy" else get(dtype, "class_name", str)
        if dtype is None:
            return
        if dtype not in DTYPES:
            self.refuse(f"{name}: dtype is {dtype}")
        else:
            self.dtypes[name] = dtype

    def recurrent(self, config: dict[str, Any], name: str) -> bool:
        """Read what all recurrent layers have in common; return whether the layer runs backwards."""
        if self.head is not None or self.activated:
            self.refuse(f"{name} stands behind the head")
        if self.cells and not self.sequences:
            self.refuse(f"{name} stands behind the last step alone")
        self.sequences = bool(config.get("return_sequences", False))
        self.pad(config, name, bool(config.get("zero_output_for_mask")))
        return bool(config.get("go_backwards", False))

    def pad(self, config: dict[str, Any], name: str, zeros: bool) -> None:
        """Read what a layer puts out at steps that are skipped."""
        if self.mask_value is None:
            return
        if zeros and config.get("unroll"):
            self.refuse(f"{name}: unroll is True, and its zeros at masked steps are not the same on Keras' backends")
        self.padding = "zero" if zeros else "hold"

    def lstm(self, config: dict[str, Any], name: str, place: str) -> None:
        """Read an LSTM of one direction."""
        backwards = self.recurrent(config, name)
        self.cells.append((name, self.cell(config, name)))
        self.directions.append("turned" if backwards else "forward")

    def rnn(self, config: dict[str, Any], name: str, place: str) -> None:
        """Read an RNN over cells; if it runs backwards, only the first cell reads its inputs in reverse."""
        backwards = self.recurrent(config, name)
        cells = self.inner_cells(config, name)
        self.cells += cells
        for n in range(len(cells)):
            self.directions.append("turned" if backwards and n == 0 else "forward")

    def inner_cells(self, config: dict[str, Any], name: str) -> list[tuple[str, Cell]]:
        """Return the cells of an RNN."""
        cell: Any = config.get("cell")
        listed: Any = config.get("cells") if cell is None else [cell]
        if get(cell, "class_name", str) == "StackedRNNCells" and not strange(cell):
            self.check("StackedRNNCells", get(cell, "config"), name)
            listed = get(cell, "config").get("cells")
        cells = []
        numbers = []
        for inner in listed if isinstance(listed, list) else []:
            if not self.accepts(inner, ("LSTMCell",), f"{name}/cell"):
                continue
            where = f"{name}/{name_of(inner)}"
            self.check("LSTMCell", get(inner, "config"), where)
            cells.append((where, self.cell(get(inner, "config"), where)))
            numbers.append([int(n) for n in re.findall(r"\d+", where.rpartition("/")[2])])
        if self.by_name and numbers != sorted(numbers):
            self.refuse(f"{name}: its cells are called in another order than they stand")
        return cells

    def bidirectional(self, config: dict[str, Any], name: str, place: str) -> None:
        """Read a layer of two directions."""
        merge = config.get("merge_mode", "concat")
        if merge in ("concat", "sum"):
            self.merges.append((name, merge))
        else:
            self.refuse(f"{name}: merge_mode is {merge!r}")
        self.pairs[name] = name_of(config.get("layer"))
        first = True
        for side, backwards in (("layer", False), ("backward_layer", True)):
            layer = config.get(side)
            if layer is None and side == "backward_layer":
                continue
            kind, inner, where = get(layer, "class_name", str), get(layer, "config"), f"{name}/{side}"
            if not self.accepts(layer, ("LSTM", "CuDNNLSTM", "RNN"), where):
                continue
            self.check(kind, inner, where)
            go_backwards = bool(inner.get("go_backwards", False))
            if go_backwards != backwards:
                self.refuse(f"{where}: go_backwards is {go_backwards}")
            if first:  # Bidirectional overrides zero_output_for_mask of its layers by return_sequences
                self.recurrent({**inner, "zero_output_for_mask": inner.get("return_sequences")}, name)
                first = False
            elif bool(inner.get("return_sequences", False)) != self.sequences:
                self.refuse(f"{where}: return_sequences is {not self.sequences}")
            self.cells += [(where, self.cell(inner, where))] if kind != "RNN" else self.inner_cells(inner, where)
        self.directions.append("forward")

    def cell(self, config: dict[str, Any], name: str) -> Cell:
        """Return the cell with the activations of a layer."""
        values = [config.get("activation", "tanh"), config.get("recurrent_activation", "sigmoid")]
        functions = []
        for key, value in zip(("activation", "recurrent_activation"), values, strict=True):
            function = self.activation(value, KERAS)
            if function is None:
                self.refuse(f"{name}: {key} is {spelled(value)}{self.doubt(value)}")
            functions.append(function or identity)
        squash, gate = functions
        title = ", ".join("linear" if value is None else str(value)[:40] for value in values)
        row = Cell(title, "Keras", i=gate, f=gate, g=squash, o=gate, squash=squash)
        return next((known for known in CELLS.values() if same_cell(known, row)), row)

    def activation(self, value: Any, known: MappingProxyType[str, Activation]) -> Activation | None:
        """Return the function that a setting names, or None if it is unknown."""
        if value is None:
            return identity
        if value == "hard_sigmoid" and self.version is not None:
            return hard_sigmoid_fifth if int(self.version.split(".")[0]) < 3 else hard_sigmoid_sixth
        return known.get(value) if isinstance(value, str) else None

    def doubt(self, value: Any) -> str:
        """Return why an activation is refused although its name is known; empty for other names."""
        if value == "hard_sigmoid":
            return ", which is another function in Keras 2 than in Keras 3, and the version is not said"
        return ""

    def dense(self, config: dict[str, Any], name: str, place: str) -> None:
        """Read a Dense layer, which is the head if it is the first one after the LSTM."""
        if not self.cells:
            self.refuse(f"{name} (Dense) stands before the LSTM")
            return
        if self.head is not None or self.activated:
            self.refuse(f"{name} (Dense) stands behind the head")
            return
        self.head = place
        self.follow(config.get("activation"), name)

    def time_distributed(self, config: dict[str, Any], name: str, place: str) -> None:
        """Read a Dense layer in a TimeDistributed, which changes nothing: Dense works on every step anyway."""
        layer = config.get("layer")
        if not self.accepts(layer, ("Dense",), f"{name}/layer"):
            return
        if not self.sequences:
            self.refuse(f"{name} (TimeDistributed) stands behind the last step alone")
        self.check("Dense", get(layer, "config"), f"{name}/layer")
        self.dense(get(layer, "config"), name, place)

    def follow(self, value: Any, name: str) -> None:
        """Read the activation that follows the head."""
        function = self.activation(value, READOUTS)
        if function is None:
            self.refuse(f"{name}: activation is {spelled(value)}{self.doubt(value)}")
        elif function is not identity:
            self.readout, self.activated = function, True

    def activate(self, config: dict[str, Any], name: str, place: str) -> None:
        """Read a layer that is an activation, which may only follow the head."""
        value = config.get("activation")
        if value in (None, "linear"):
            return
        if self.head is None or self.activated:
            self.refuse(f"{name}: activation is {spelled(value)}, and it does not stand behind a linear head")
            return
        self.follow(value, name)

    def softmax(self, config: dict[str, Any], name: str, place: str) -> None:
        """Read a softmax layer."""
        axis = config.get("axis", -1)
        if axis != -1 and axis != [-1]:
            self.refuse(f"{name}: axis is {axis!r}")
        self.activate({"activation": "softmax"}, name, place)

    def mask(self, config: dict[str, Any], name: str, place: str) -> None:
        """Read a mask, which may only follow the input."""
        value = config.get("mask_value", 0.0)
        if self.cells or self.mask_value is not None or isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(f"{name} (Masking) with mask_value {value!r}")
            return
        self.mask_value = float(value)


LAYERS: MappingProxyType[str, tuple[Any, set[str]]] = MappingProxyType(
    {
        "LSTM": (Reader.lstm, CELL | OVER_TIME),
        "CuDNNLSTM": (Reader.lstm, CELL - {"activation", "recurrent_activation"} | OVER_TIME),
        "LSTMCell": (None, CELL),
        "RNN": (Reader.rnn, COMMON | OVER_TIME | {"cell", "cells"}),
        "StackedRNNCells": (None, COMMON | {"cells"}),
        "Bidirectional": (Reader.bidirectional, COMMON | {"layer", "backward_layer", "merge_mode"}),
        "TimeDistributed": (Reader.time_distributed, COMMON | {"layer"}),
        "Dense": (Reader.dense, COMMON | {"activation"}),
        "Activation": (Reader.activate, COMMON | {"activation"}),
        "Softmax": (Reader.softmax, COMMON | {"axis"}),
        "Masking": (Reader.mask, COMMON | {"mask_value"}),
    }
)
"""The method that reads a layer of each class, None for what is part of a layer, and the settings that are read, or
change nothing at inference; others must be off. Layers of other classes are refused by name."""


def place_of(kind: str) -> str:
    """Return the name in a `.keras` file of a layer of this class.

    >>> place_of("TimeDistributed"), place_of("LSTM")
    ('time_distributed', 'lstm')
    """
    return re.sub("([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", kind)).lower()


def spelled(value: Any) -> str:
    """Return a setting in words; for an object that Keras writes as a tree, the name of its class."""
    if isinstance(value, dict):
        return str(value.get("registered_name") or value.get("class_name"))[:60]
    return repr(value)[:60]


def strange(layer: Any) -> str | None:
    """Return the name of a layer's class if it is not a class of Keras, or None."""
    kind, module = get(layer, "class_name", str), get(layer, "module", str)
    registered = get(layer, "registered_name", str)
    if registered and registered != kind:
        return registered[:60]
    if module and module.split(".")[0] not in ("keras", "tf_keras", "tensorflow", "builtins"):
        return f"{module}.{kind}"[:60]
    # Keras 3 states the module of each of its classes, but None for a class of the caller's that was not registered.
    if kind and isinstance(layer, dict) and "module" in layer and not module:
        return f"{kind[:60]}, a class of the caller's"
    return None
