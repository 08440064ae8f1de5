"""ONNX: write networks as models that run anywhere, and read any node LSTM of a model."""

from lstmjax.convert.onnx.model import from_onnx
from lstmjax.convert.onnx.read import OnnxLSTM, read_onnx
from lstmjax.convert.onnx.write import to_onnx

__all__ = ["OnnxLSTM", "from_onnx", "read_onnx", "to_onnx"]
