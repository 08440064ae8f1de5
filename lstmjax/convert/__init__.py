"""Exchange weights with other frameworks: `from_…` returns layers for `stacked`, `to_…` what the framework loads.

`load_weights` and `save_weights` read and write files of PyTorch, Keras, Flax, ONNX, safetensors and NPZ; `load_model`
also reads how a file says that its weights are run. Objects in memory are converted by `from_torch`, `from_keras`,
`from_linen`, `from_nnx`, `from_haiku`, `from_equinox`, `from_cudnn` and `from_onnx`, and by `to_…` of each;
`from_neuralhydrology` reads the models of hydrologists, and `to_stablehlo` exports a function. The layouts are rows of
`LAYOUTS`. What would be lost is refused by name (`ConvertError`). A framework is imported only where it is needed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lstmjax.convert.stablehlo import to_stablehlo
from lstmjax.convert.weights import from_safetensors, load_model, load_weights, save_weights, to_safetensors
from lstmjax.frameworks import LAYOUTS
from lstmjax.frameworks.base.guard import optional
from lstmjax.frameworks.base.layouts import ConvertError, Layout
from lstmjax.frameworks.base.model import Model
from lstmjax.frameworks.cudnn import from_cudnn, to_cudnn
from lstmjax.frameworks.equinox import from_equinox, to_equinox
from lstmjax.frameworks.flax.read import from_linen, from_nnx, model_from_linen, model_from_nnx
from lstmjax.frameworks.flax.trees import to_linen, to_nnx
from lstmjax.frameworks.haiku import from_haiku, to_haiku
from lstmjax.frameworks.keras.model import from_keras
from lstmjax.frameworks.keras.weights import to_keras
from lstmjax.frameworks.neuralhydrology import FromNeuralhydrology, from_neuralhydrology
from lstmjax.frameworks.torch.module import from_torch, to_torch

if TYPE_CHECKING:
    from lstmjax.frameworks.onnx.model import from_onnx
    from lstmjax.frameworks.onnx.read import OnnxLSTM, read_onnx
    from lstmjax.frameworks.onnx.write import to_onnx

_ONNX = {"OnnxLSTM": "read", "from_onnx": "model", "read_onnx": "read", "to_onnx": "write"}
__all__ = [
    "LAYOUTS",
    "ConvertError",
    "FromNeuralhydrology",
    "Layout",
    "Model",
    "OnnxLSTM",
    "from_cudnn",
    "from_equinox",
    "from_haiku",
    "from_keras",
    "from_linen",
    "from_neuralhydrology",
    "from_nnx",
    "from_onnx",
    "from_safetensors",
    "from_torch",
    "load_model",
    "load_weights",
    "model_from_linen",
    "model_from_nnx",
    "read_onnx",
    "save_weights",
    "to_cudnn",
    "to_equinox",
    "to_haiku",
    "to_keras",
    "to_linen",
    "to_nnx",
    "to_onnx",
    "to_safetensors",
    "to_stablehlo",
    "to_torch",
]


def __getattr__(name: str) -> Any:
    """Load the converters of ONNX, which import onnx, when one of their names is first used."""
    if name not in _ONNX:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    optional("onnx")
    return getattr(import_module(f"lstmjax.frameworks.onnx.{_ONNX[name]}"), name)
