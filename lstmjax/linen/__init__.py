"""The LSTM as Flax linen modules: `LSTM`, `LSTMNetwork` and `LSTMCell`, thin around the functions.

The variables hold the functional parameters as they are, under one name: "layers", "network" or
"cell". `to_params(variables)` takes them out and `from_params(params)` makes variables of them, also
under jit and grad; a module calls the function and adds no equation.

    from lstmjax import linen as lstmlinen    # or: import lstmjax.linen

Sizes carry Flax's names: features or hidden_features is H, out_features O; I is read off the first
input. What the functions call `init` is `preset` here, since `init` is a method of every linen module.
"""

from lstmjax.linen.cell import LSTMCell
from lstmjax.linen.layers import LSTM, LSTMNetwork

__all__ = ["LSTM", "LSTMCell", "LSTMNetwork"]
