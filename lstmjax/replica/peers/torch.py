"""PyTorch: `torch.nn.LSTM`, with packed sequences where there are lengths, and autograd."""

from __future__ import annotations

from typing import Any

import numpy as np

from lstmjax.convert import from_torch, to_torch
from lstmjax.convert.layouts import ConvertError, numbers
from lstmjax.replica.peers.outcome import Outcome, Part, sizes
from lstmjax.stack import Layers, directions


def run(layers: Layers, xs: Any, lengths: Any = None, d_ys: Any = None) -> Outcome:
    """Return what a `torch.nn.LSTM` with these layers computes; see `Peer.run`."""
    module = build(layers)
    inputs = tensor(xs, module).requires_grad_()
    ys = call(module, inputs, lengths)
    if d_ys is None:
        return Outcome(numbers(ys))
    ys.backward(tensor(d_ys, module))
    gradients = from_torch({name: p.grad for name, p in module.named_parameters()})
    return Outcome(numbers(ys), gradients, numbers(inputs.grad))


def parts(source: Any) -> list[Part]:
    """Return the layers of the only `torch.nn.LSTM` or `LSTMCell` in a module; see `Peer.parts`."""
    import torch

    lstms = [m for m in source.modules() if isinstance(m, torch.nn.LSTM | torch.nn.LSTMCell)]
    if len(lstms) != 1:
        raise ConvertError(f"there are {len(lstms)} LSTMs in the module; pass the one that is meant")
    # A torch.nn.LSTM has no option that changes its equations: each layer may run as a module by itself.
    modules = [build((layer,)) for layer in from_torch(lstms[0])]

    def part(module: Any) -> Part:
        return Part(from_torch(module)[0], lambda xs, lengths: numbers(call(module, tensor(xs, module), lengths)))

    return [part(module) for module in modules]


def build(layers: Layers) -> Any:
    """Build the `torch.nn.LSTM` with these layers."""
    import torch

    inputs, hidden, count = sizes(layers[0])
    first = directions(layers[0])[0]
    state = to_torch(layers)
    module = torch.nn.LSTM(
        inputs,
        hidden,
        len(layers),
        bias="bias_ih_l0" in state,
        batch_first=True,
        bidirectional=count == 2,
        proj_size=0 if first.w_p is None else first.output_size,
        dtype=state["weight_ih_l0"].dtype,
    )
    module.load_state_dict(state)
    return module


def tensor(a: Any, module: Any) -> Any:
    """Return an array as a tensor of the dtype of a module's weights."""
    import torch

    return torch.from_numpy(np.array(a, np.float64)).to(next(module.parameters()).dtype)


def call(module: Any, xs: Any, lengths: Any) -> Any:
    """Return the outputs of a `torch.nn.LSTM`, `[B, T, P]`, zeros at padding."""
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    if lengths is None:
        return module(xs)[0]
    if not all(lengths):
        raise ValueError(
            "lengths holds 0, and PyTorch packs no sequence without steps. Leave it out of xs and lengths."
        )
    packed = pack_padded_sequence(xs, [int(n) for n in lengths], batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(module(packed)[0], batch_first=True, total_length=xs.shape[1])[0]
