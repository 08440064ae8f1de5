"""Files as Keras writes them, made by hand from a description and random arrays; and its LSTM in NumPy."""

import io
import json
import zipfile

import numpy as np

B, T, I, H = 3, 6, 2, 4
RNG = np.random.default_rng(0)


def lstm(name="lstm", kind="LSTM", **config):
    """The description of a layer over all steps, unless it says otherwise."""
    return {"class_name": kind, "config": {"name": name, "units": H, "return_sequences": True, **config}}


def pair(name="both", merge="concat", **config):
    return {"class_name": "Bidirectional", "config": {"name": name, "merge_mode": merge, "layer": lstm("l", **config)}}


def other(kind, name=None, **config):
    return {"class_name": kind, "config": {"name": name or kind.lower(), **config}}


def sequential(*layers):
    return {"class_name": "Sequential", "config": {"name": "model", "layers": list(layers)}}


def functional(*layers, **config):
    """Each layer, named with what it reads: (description, names of layers)."""
    described = []
    for layer, sources in layers:
        tensors = [{"class_name": "__keras_tensor__", "config": {"keras_history": [one, 0, 0]}} for one in sources]
        described.append({**layer, "inbound_nodes": [{"args": tensors, "kwargs": {}}] if sources else []})
    ends = {"input_layers": [["in", 0, 0]], "output_layers": [[described[-1]["config"]["name"], 0, 0]]}
    return {"class_name": "Functional", "config": {"name": "model", "layers": described, **ends, **config}}


def cell(inputs=I, hidden=H):
    """Kernel, recurrent kernel and bias, `[I, 4H]`, `[H, 4H]`, `[4H]`, gates i, f, c, o."""
    shapes = (inputs, 4 * hidden), (hidden, 4 * hidden), (4 * hidden,)
    return tuple(RNG.normal(size=shape).astype(np.float32) * 0.7 for shape in shapes)


def dense(inputs=H, outputs=3):
    return tuple(RNG.normal(size=shape).astype(np.float32) for shape in ((inputs, outputs), (outputs,)))


def write(path, model, weights, version="3.9.0"):
    """Write a whole model; `weights`: arrays of each layer by its name, of a pair those of both directions."""
    import h5py

    if path.suffix == ".keras":
        store, buffer = {}, io.BytesIO()
        counts = {}
        for layer in model["config"]["layers"]:
            kind = {"LSTM": "lstm", "Bidirectional": "bidirectional", "Dense": "dense"}.get(layer["class_name"])
            arrays = weights.get(layer["config"]["name"])
            if kind is None or arrays is None:
                continue
            number = counts[kind] = counts.get(kind, -1) + 1
            place = f"layers/{kind}_{number}" if number else f"layers/{kind}"
            within = {"lstm": ["/cell"], "dense": [""]}.get(kind, ["/forward_layer/cell", "/backward_layer/cell"])
            for k, folder in enumerate(within):
                each = len(arrays) // len(within)
                for n, a in enumerate(arrays[k * each : (k + 1) * each]):
                    store[f"{place}{folder}/vars/{n}"] = a
        with h5py.File(buffer, "w") as file:
            for name, a in store.items():
                file[name] = a
        with zipfile.ZipFile(path, "w") as parts:
            parts.writestr("config.json", json.dumps(model))
            parts.writestr("metadata.json", json.dumps({"keras_version": version}))
            parts.writestr("model.weights.h5", buffer.getvalue())
        return path
    names = ("kernel", "recurrent_kernel", "bias")
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = version
        file.attrs["model_config"] = json.dumps(model).encode()
        for layer, arrays in weights.items():
            sides = ["lstm_cell"] if len(arrays) <= 3 else ["forward_l/lstm_cell", "backward_l/lstm_cell"]
            sides = [""] if len(arrays) == 2 else sides
            each = len(arrays) // len(sides)
            for k, side in enumerate(sides):
                for name, a in zip(
                    names if each == 3 else ("kernel", "bias"), arrays[k * each : (k + 1) * each], strict=True
                ):
                    file["/".join(filter(None, ("model_weights", layer, layer, side, f"{name}:0")))] = a
    return path


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def numpy_lstm(arrays, xs, activation=np.tanh, recurrent=sigmoid):
    """Keras' LSTM in float64: outputs `[B, T, H]` of xs `[B, T, I]`."""
    kernel, matrix, bias = (np.asarray(a, np.float64) for a in arrays)
    h = c = np.zeros((len(xs), matrix.shape[0]))
    ys = []
    for x in np.asarray(xs, np.float64).swapaxes(0, 1):
        i, f, g, o = np.split(x @ kernel + h @ matrix + bias, 4, axis=-1)
        c = recurrent(f) * c + recurrent(i) * activation(g)
        h = recurrent(o) * activation(c)
        ys.append(h)
    return np.stack(ys, axis=1)
