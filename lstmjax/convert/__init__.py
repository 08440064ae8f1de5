"""Exchange of weights with other frameworks: `from_…` gives layers for `stacked`, `to_…` what the other one loads.

`from_torch`, `from_keras`, `from_linen`, `from_nnx`, `from_haiku`, `from_equinox`, `from_cudnn`,
`from_safetensors`, and `to_…` of each. The layouts are rows of `LAYOUTS`, read by one engine. What
would be lost is refused by name (`ConvertError`). A framework is imported only where it is needed.
"""

from lstmjax.convert.cudnn import from_cudnn, to_cudnn
from lstmjax.convert.files import from_safetensors, to_safetensors
from lstmjax.convert.flax import from_linen, from_nnx, to_linen, to_nnx
from lstmjax.convert.haiku import from_equinox, from_haiku, to_equinox, to_haiku
from lstmjax.convert.keras import from_keras, to_keras
from lstmjax.convert.layouts import LAYOUTS, ConvertError, Layout
from lstmjax.convert.torch import from_torch, to_torch

__all__ = [
    "LAYOUTS",
    "ConvertError",
    "Layout",
    "from_cudnn",
    "from_equinox",
    "from_haiku",
    "from_keras",
    "from_linen",
    "from_nnx",
    "from_safetensors",
    "from_torch",
    "to_cudnn",
    "to_equinox",
    "to_haiku",
    "to_keras",
    "to_linen",
    "to_nnx",
    "to_safetensors",
    "to_torch",
]
