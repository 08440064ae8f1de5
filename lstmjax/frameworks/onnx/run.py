"""ONNX Runtime: files as they are; exported graphs, float32 by its LSTM operator, float64 as a Scan; no gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lstmjax.frameworks.base.layouts import ConvertError
from lstmjax.frameworks.base.running import Outcome, cpus
from lstmjax.frameworks.base.timing import Eager, Job, Step
from lstmjax.stack import Layers


def run(layers: Layers, xs: Any, lengths: Any = None, d_ys: Any = None) -> Outcome:
    """Return what ONNX Runtime computes with these layers; see `Peer.run`. There are no gradients."""
    import onnxruntime

    from lstmjax.frameworks.onnx.write import to_onnx

    model = to_onnx(layers, lengths=lengths is not None)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {"xs": np.asarray(xs)}
    if lengths is not None:
        feeds["lengths"] = np.asarray(lengths, np.int32)
    return Outcome(session.run(["ys"], feeds)[0], without="it only runs networks")


def build_job(job: Job) -> Eager:
    """Build the exported graph in ONNX Runtime, on the CPU with as many threads as XLA has."""
    import onnxruntime

    from lstmjax.frameworks.onnx.write import to_onnx

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = cpus(), 1
    graph = to_onnx(job.layers).SerializeToString()
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    feeds = {"xs": np.asarray(job.xs)}
    return Eager(lambda: session.run(["ys"], feeds)[0], np.asarray)


def build_steps(job: Job) -> Callable[[], Step]:
    """Build the exported graph with states in ONNX Runtime, with one thread, for one step after the other."""
    import onnxruntime

    from lstmjax.frameworks.onnx.write import to_onnx

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    graph = to_onnx(job.layers, state=True).SerializeToString()
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    zeros = np.zeros((job.xs.shape[0], job.weights.shape[-1]), np.float32)
    names = ["ys", "layers.0.h.last", "layers.0.c.last"]

    def begin() -> Step:
        h = c = zeros

        def one(x: np.ndarray) -> np.ndarray:
            nonlocal h, c
            y, h, c = session.run(names, {"xs": x[:, None], "layers.0.h": h, "layers.0.c": c})
            return y[:, 0]

        return one

    return begin


def load(path: Path) -> File:
    """Load an ONNX file, untouched, into ONNX Runtime; see `Peer.load`.

    Raises:
        ConvertError: ONNX Runtime does not run this file, or puts out nothing that a stack of layers does.
    """
    import onnxruntime

    from lstmjax.frameworks.onnx.model import read_stack

    chain = read_stack(path).chain
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # fatal only: the error that it raises says what is wrong
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own classes of errors, one for each status, have no other parent
        raise ConvertError(f"ONNX Runtime does not run it: {_line(error)}") from None
    kinds = {entry.type for entry in session.get_inputs() if entry.name == chain.xs}
    if kinds - {"tensor(float)"}:
        raise ConvertError(f"ONNX Runtime does not run it: its LSTM is float32, and the input is {kinds.pop()}")
    if not chain.outputs or chain.outputs[0].kind == "state":
        raise ConvertError("no output of the file is one of its last layer; its outputs are states")
    return File(session, chain, _unchecked(chain))


def _unchecked(chain: Any) -> tuple[str, ...]:
    """Return the parts of a file that are not compared, in words."""
    words = []
    if len(chain.outputs) > 1:
        names = ", ".join(output.name for output in chain.outputs[1:])
        words.append(f"of the file's outputs only {chain.outputs[0].name} was compared, and not {names}")
    if chain.states:
        words.append(f"initial states, inputs of the file ({', '.join(chain.states)}): both sides began with zeros")
    return tuple(words)


@dataclass(frozen=True)
class File:
    """A file in ONNX Runtime, as a function of xs `[B, T, I]` and lengths `[B]` or None."""

    session: Any
    chain: Any
    unchecked: tuple[str, ...]

    def __call__(self, xs: Any, lengths: Any) -> np.ndarray:
        """Return the outputs, `[B, T, P]`, or `[B, P]` if the file puts out the last step only.

        Raises:
            ValueError: the file has no input of lengths, or does not take arrays of these sizes.
        """
        if lengths is not None and self.chain.lengths is None:
            raise ValueError("lengths are given, but the file has no input for them. Leave lengths out.")
        xs = np.asarray(xs)
        lengths = np.full(len(xs), xs.shape[1]) if lengths is None else np.asarray(lengths)
        if "batch" not in self.chain.xs_axes and len(xs) > 1:  # of a batch of one, or of none
            each = [self._run(xs[n : n + 1], lengths[n : n + 1]) for n in range(len(xs))]
            return np.concatenate(each)
        return self._run(xs, lengths)

    def _run(self, xs: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        inputs = {entry.name: entry for entry in self.session.get_inputs()}
        sizes = dict(zip(AXES, xs.shape, strict=True))
        order = [word for word in self.chain.xs_axes if word != "1"]
        if any(size != 1 for word, size in sizes.items() if word not in order):
            raise ValueError(f"xs has shape {xs.shape}, but the input of the file is {inputs[self.chain.xs].shape}.")
        turned = xs.transpose([AXES.index(word) for word in [*order, *(word for word in AXES if word not in order)]])
        shape = [1 if word == "1" else sizes[word] for word in self.chain.xs_axes]
        feeds = {self.chain.xs: turned.reshape(shape)}
        if self.chain.lengths is not None:
            dtype = np.int64 if inputs[self.chain.lengths].type == "tensor(int64)" else np.int32
            feeds[self.chain.lengths] = lengths.astype(dtype)
        for name in self.chain.states:  # the only axis of an initial state without a fixed length is the batch
            shape = [size if isinstance(size, int) else len(xs) for size in inputs[name].shape]
            feeds[name] = np.zeros(shape, np.float32)
        output = self.chain.outputs[0]
        try:
            (ys,) = self.session.run([output.name], feeds)
        except Exception as error:  # as above
            raise ValueError(f"xs has shape {xs.shape}, and ONNX Runtime says: {_line(error)}.") from None
        return _batch_first(ys, output.axes, bool(self.chain.return_sequences))


AXES = ("batch", "time", "features")


def _batch_first(ys: np.ndarray, words: tuple[str, ...], sequences: bool) -> np.ndarray:
    """Return the outputs of a file, whose axes `words` names, as `[B, T, P]` or `[B, P]`."""
    order = ["batch", *(["time"] if sequences else []), "sources", "features"]
    sizes = {word: size for word, size in zip(words, ys.shape, strict=True) if word != "1"}
    present = [word for word in order if word in sizes]
    turned = ys.reshape(list(sizes.values())).transpose([list(sizes).index(word) for word in present])
    lengths = [sizes.get(word, 1) for word in order]
    return turned.reshape(*lengths[:-2], lengths[-2] * lengths[-1])


def _line(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:300]
