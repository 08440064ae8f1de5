"""ONNX Runtime: the exported graph, float32 by its LSTM operator, float64 as a Scan; no gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstmjax.replica.peers.outcome import Outcome
from lstmjax.stack import Layers


def run(layers: Layers, xs: Any, lengths: Any = None, d_ys: Any = None) -> Outcome:
    """Gives what ONNX Runtime computes with these layers; see `Peer.run`. There are no gradients."""
    import onnxruntime

    from lstmjax.convert.onnx import to_onnx

    model = to_onnx(layers, lengths=lengths is not None)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    given = {"xs": np.asarray(xs)}
    if lengths is not None:
        given["lengths"] = np.asarray(lengths, np.int32)
    return Outcome(session.run(["ys"], given)[0], without="it only runs networks")
