"""The LSTM as Flax NNX modules: `LSTM`, `LSTMNetwork` and `LSTMCell`, thin wrappers of the functions.

A module holds the functional parameters, one `nnx.Param` for each array, and the options of the
function that it calls; it contains no equations. `to_params()` returns the parameters that the
functions take, and `from_params(params)` a module that holds them, also under jit and grad.

    from lstmjax import nnx as lstmnnx    # or: import lstmjax.nnx

Sizes have the names of Flax: in_features is I, hidden_features H, out_features O.
"""

from lstmjax.nnx.cell import LSTMCell
from lstmjax.nnx.layers import LSTM, LSTMNetwork

__all__ = ["LSTM", "LSTMCell", "LSTMNetwork"]
