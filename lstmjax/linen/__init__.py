"""The LSTM as Flax linen modules: `LSTM`, `LSTMNetwork` and `LSTMCell`, thin wrappers of the functions.

`ScannedRNN` and `StoixScannedRNN` stand for the modules of that name in scripts for recurrent agents.

The variables hold the functional parameters unchanged, under one name: "layers", "network" or
"cell". `to_params(variables)` returns them and `from_params(params)` makes variables of them, also
under jit and grad. A module calls the function and contains no equations.

    from lstmjax import linen as lstmlinen    # or: import lstmjax.linen

Sizes have the names of Flax: features or hidden_features is H, out_features O; I comes from the first
input. The argument `init` of the functions is `preset` here, since every linen module has a method `init`.
"""

from lstmjax.linen.cell import LSTMCell
from lstmjax.linen.layers import LSTM, LSTMNetwork
from lstmjax.linen.scanned import ScannedRNN, StoixScannedRNN

__all__ = ["LSTM", "LSTMCell", "LSTMNetwork", "ScannedRNN", "StoixScannedRNN"]
