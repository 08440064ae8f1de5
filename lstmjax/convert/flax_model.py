"""Flax objects as models that run like them: `model_from_linen`, `model_from_nnx`."""

from __future__ import annotations

from typing import Any

from lstmjax.arguments import kind
from lstmjax.convert.flax import linen_layers, nnx_layers, with_module
from lstmjax.convert.flax_object import architecture_of
from lstmjax.convert.layouts import ConvertError
from lstmjax.convert.model import Model


def model_from_linen(variables: Any, module: Any = None) -> Model:
    """Return the LSTM layers of linen variables as a model that runs them like their module; see `from_linen`.

    Args:
        variables, module: as for `from_linen`; there must be a module, or bound variables.

    Returns:
        A `Model`: `model(xs)` takes `[..., T, I]`, whatever time_major of the module is, and returns the
        outputs of all steps.

    Raises:
        ConvertError: the module is run in a way that no `Model` can be.
    """
    variables, module = with_module(variables, module)
    if module is None:
        raise ConvertError(
            "module is None, but variables do not say how they are run. Pass the module that they are of"
        )
    layers, recurrent = linen_layers(variables, module)
    return Model(layers, architecture_of(recurrent))


def model_from_nnx(module: Any) -> Model:
    """Return the LSTM layers of an NNX module as a model that runs them like the module; see `from_nnx`.

    Args:
        module: as for `from_nnx`, but not a state.

    Returns:
        A `Model`: `model(xs)` takes `[..., T, I]`, whatever time_major of the module is, and returns the
        outputs of all steps.

    Raises:
        ConvertError: the module is run in a way that no `Model` can be.

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
    return Model(layers, architecture_of(recurrent))
