"""Modules of PyTorch in memory: their weights as PyTorch computes them, and what they do beside an LSTM."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from lstmjax.frameworks.base.layouts import ConvertError, numbers
from lstmjax.frameworks.torch.folds import PARAMETRISED

WEIGHTS_ALONE = "Pass its weights alone, module.state_dict(), or verify(module, xs), which runs it as it is"
OF_WEIGHTS = re.compile(r"torch\.nn\.utils\.(weight_norm|spectral_norm|prune)")
"""The modules of the hooks with which PyTorch computes a weight before each run; `fold` computes it so, too."""


def arrays_of(module: Any) -> dict[str, Any]:
    """Return the `state_dict` of a module, with each parametrised weight as the module computes it at evaluation."""
    arrays = dict(module.state_dict())
    for name in list(arrays):
        parametrised = re.fullmatch(PARAMETRISED, name)
        if parametrised is None:
            continue
        del arrays[name]
        place, weight = parametrised.groups()
        if place + weight not in arrays:
            with at_evaluation(module):
                arrays[place + weight] = getattr(module.get_submodule(place.rstrip(".")), weight)
    return arrays


@contextmanager
def at_evaluation(module: Any) -> Iterator[None]:
    """Put a module into its mode of evaluation, without gradients, and back into the modes that it had."""
    import torch

    modes = [(inner, inner.training) for inner in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for inner, training in modes:
            inner.training = training


def check_runs_as_lstm(module: Any, name: str) -> None:
    """Refuse an LSTM that computes something else than PyTorch's with the same weights.

    Raises:
        ConvertError: its class is another one or has another forward, or hooks may change what enters or leaves it.
    """
    import torch

    if isinstance(module, torch.jit.ScriptModule):  # its forward is compiled, and its class is that of any module
        return
    changes = list(changed(module))
    if changes:
        raise ConvertError(
            f"{name or 'source'} is a {type(module).__name__} with {' and '.join(changes)}, so that what it computes "
            f"with its weights is not known. {WEIGHTS_ALONE}"
        )


def changed(module: Any) -> Iterator[str]:
    """Yield, in words, what a module has that a `torch.nn.LSTM` or `LSTMCell` has not."""
    import torch

    base = next((kind for kind in lstm_kinds() if isinstance(module, kind)), None)
    if base is None:
        yield "the weights of an LSTM"
        return
    if type(module).forward is not base.forward or "forward" in vars(module):
        yield "a forward of its own"
    if type(module).__call__ is not torch.nn.Module.__call__:
        yield "a __call__ of its own"
    hooks = [hook for kind in ("_forward_pre_hooks", "_forward_hooks") for hook in getattr(module, kind).values()]
    if any(not OF_WEIGHTS.fullmatch(type(hook).__module__) for hook in hooks):
        yield "hooks"


def lstm_kinds() -> tuple[Any, Any]:
    """Return the classes of PyTorch's LSTM."""
    import torch

    return torch.nn.LSTM, torch.nn.LSTMCell


def only_lstm(source: Any) -> tuple[str, Any]:
    """Return the name and the only `torch.nn.LSTM` or `LSTMCell` in a module.

    Raises:
        ConvertError: there is none, or there are several.
    """
    if not hasattr(source, "named_modules"):
        raise ConvertError(f"theirs is a {type(source).__name__}, expected one module of PyTorch")
    lstms = [(name, module) for name, module in source.named_modules() if isinstance(module, lstm_kinds())]
    if len(lstms) != 1:
        raise ConvertError(f"there are {len(lstms)} LSTMs in the module; pass the one that is meant")
    return lstms[0]


def beyond(source: Any) -> tuple[str, ...]:
    """Return what a module has and does beside its LSTM; see `Peer.beyond`."""
    name, lstm = only_lstm(source)
    if not name:
        return ()
    inside = {id(module) for module in lstm.modules()}
    leaves = [
        f"{path} ({type(module).__name__})"
        for path, module in source.named_modules()
        if id(module) not in inside and not list(module.children())
    ]
    return (*leaves, f"the forward of {type(source).__name__}, which may do more than call them in order")


def outputs_of(lstm: Any, xs: Any, lengths: Any) -> np.ndarray:
    """Return the outputs `[B, T, P]` of an LSTM or an LSTMCell itself, for xs `[B, T, I]`, at evaluation."""
    import torch

    weight = next(lstm.parameters())
    inputs = torch.from_numpy(np.array(xs, np.float64)).to(weight.dtype).to(weight.device)
    with at_evaluation(lstm):
        if isinstance(lstm, torch.nn.LSTMCell):
            return _over_time(lstm, inputs)
        return numbers(call(lstm, inputs, lengths))


def _over_time(cell: Any, xs: Any) -> np.ndarray:
    """Return the h of each step of a cell."""
    state, ys = None, []
    for x in xs.unbind(1):
        state = cell(x, state)
        ys.append(numbers(state[0]))
    return np.stack(ys, axis=1)


def call(module: Any, xs: Any, lengths: Any) -> Any:
    """Return the outputs of a `torch.nn.LSTM`, `[B, T, P]`, zeros at padding; its batch_first is heeded."""
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    first = module.batch_first
    if lengths is None:
        ys = module(xs if first else xs.transpose(0, 1))
        ys = ys[0] if isinstance(ys, tuple) else ys
        return ys if first else ys.transpose(0, 1)
    if not all(lengths):
        raise ValueError(
            "lengths holds 0, and PyTorch packs no sequence without steps. Leave it out of xs and lengths."
        )
    packed = pack_padded_sequence(xs, [int(n) for n in lengths], batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(module(packed)[0], batch_first=True, total_length=xs.shape[1])[0]
