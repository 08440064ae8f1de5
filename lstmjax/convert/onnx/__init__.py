"""ONNX: networks out of here as models that run anywhere, and any node LSTM of a model into here."""

from lstmjax.convert.onnx.model import from_onnx
from lstmjax.convert.onnx.read import OnnxLSTM, read_onnx
from lstmjax.convert.onnx.write import to_onnx

__all__ = ["OnnxLSTM", "from_onnx", "read_onnx", "to_onnx"]
