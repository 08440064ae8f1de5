"""Flax objects as models that run like them: `model_from_linen`, `model_from_nnx`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lstmjax.arguments import kind
from lstmjax.convert.flax import linen_layers, nnx_layers, with_module
from lstmjax.convert.flax_head import Behind, read_behind
from lstmjax.convert.flax_object import Recurrent, architecture_of, behind
from lstmjax.convert.layouts import ConvertError
from lstmjax.convert.model import Model
from lstmjax.networks import NetworkParams
from lstmjax.stack import Layers, directions


def model_from_linen(variables: Any, module: Any = None) -> Model:
    """Return linen variables as a model that runs like their module; see `from_linen`.

    Of what stands behind the last LSTM layer of a `Sequential`, a Dense head and one function of its logits are read.

    Args:
        variables, module: as for `from_linen`; there must be a module, or bound variables.

    Returns:
        A `Model`: `model(xs)` takes `[..., T, I]`, whatever time_major of the module is, and returns the
        outputs of all steps, those of the head if there is one.

    Raises:
        ConvertError: the module is run in a way that no `Model` can be, or has something else behind its layers.
    """
    variables, module = with_module(variables, module)
    if module is None:
        raise ConvertError(
            "module is None, but variables do not say how they are run. Pass the module that they are of"
        )
    layers, recurrent = linen_layers(variables, module)
    from flax import linen

    bound = module.bind(variables if "params" in variables else {"params": variables})
    after = read_behind(linen, behind(linen, bound), lambda head: head.variables.get("params", {}), dtype_of(layers))
    return _model(layers, recurrent, after)


def model_from_nnx(module: Any) -> Model:
    """Return an NNX module as a model that runs like it; see `from_nnx`.

    Of what stands behind the last LSTM layer of a `Sequential`, a Linear head and one function of its logits are read.

    Args:
        module: as for `from_nnx`, but not a state.

    Returns:
        A `Model`: `model(xs)` takes `[..., T, I]`, whatever time_major of the module is, and returns the
        outputs of all steps, those of the head if there is one.

    Raises:
        ConvertError: the module is run in a way that no `Model` can be, or has something else behind its layers.

    Example:
        >>> import jax
        >>> from flax import nnx
        >>> rnn = nnx.RNN(nnx.LSTMCell(5, 8, activation_fn=nnx.relu, rngs=nnx.Rngs(0)), reverse=True)
        >>> model = model_from_nnx(rnn)
        >>> xs = jax.random.normal(jax.random.key(0), (2, 7, 5))
        >>> bool(abs(model(xs) - rnn(xs)).max() < 1e-6), model.architecture.directions
        (True, ('turned',))
    """
    from flax import nnx

    if not isinstance(module, nnx.Module):
        raise ConvertError(f"module is {kind(module)}, which does not say how it is run; expected an nnx.Module")
    layers, recurrent = nnx_layers(module)
    return _model(layers, recurrent, nnx_behind(module, layers))


def nnx_behind(module: Any, layers: Layers) -> Behind:
    """Return what an NNX module that has been read as these layers does behind them."""
    from flax import nnx

    def weights(head: Any) -> Any:
        return nnx.to_pure_dict(nnx.state(head, nnx.Param))

    return read_behind(nnx, behind(nnx, module), weights, dtype_of(layers))


def dtype_of(layers: Layers) -> Any:
    """Return the dtype of the weights of the last layer."""
    return directions(layers[-1])[0].w_x.dtype


def _model(layers: Layers, recurrent: list[Recurrent], after: Behind) -> Model:
    architecture = architecture_of(recurrent)
    if after.left:
        raise ConvertError(
            f"{', '.join(after.left)}: a Model runs a Dense head in the dtype of the layers and one function of its "
            "logits behind the LSTM layers, and nothing else. Take the layers alone, by from_nnx or from_linen, and "
            "run behind them what stands there"
        )
    if after.head is None:
        return Model(layers, architecture)
    architecture = replace(architecture, readout=after.readout, return_sequences=True)
    return Model(NetworkParams(layers, after.head), architecture)
