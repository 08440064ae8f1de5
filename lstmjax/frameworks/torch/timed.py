"""The `torch.nn.LSTM` that is timed: eager, on the CPU with as many threads as XLA has, on a GPU by cuDNN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from lstmjax.frameworks.base.layouts import ConvertError, numbers
from lstmjax.frameworks.base.running import cpus
from lstmjax.frameworks.base.timing import Eager, Job, Step
from lstmjax.frameworks.torch.module import as_tensor, build, from_torch


def build_job(job: Job, tf32: bool = False) -> Eager:
    """Build `torch.nn.LSTM`; `tf32` is what cuDNN computes in where it is wanted.

    Raises:
        ConvertError: JAX is on a GPU, and this PyTorch has no CUDA.
    """
    import torch

    torch.set_num_threads(cpus())
    on_gpu = jax.default_backend() == "gpu"
    if on_gpu and not torch.cuda.is_available():
        raise ConvertError("this PyTorch has no CUDA")
    module = build(job.layers).to("cuda" if on_gpu else "cpu")
    device = module.weight_ih_l0.device
    xs = as_tensor(np.asarray(job.xs), module).to(device)
    weights = as_tensor(np.asarray(job.weights), module).to(device)

    def run() -> Any:  # the switch is one of the process, and another program may have turned it
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        return module(xs)[0]

    def wait(result: Any) -> Any:
        if on_gpu:
            torch.cuda.synchronize()
        return result

    def forward() -> Any:
        with torch.inference_mode():
            return wait(run())

    def training() -> Any:
        module.zero_grad(set_to_none=True)
        xs.grad = None
        (run() * weights).sum().backward()
        return wait(xs.grad)

    def trained(d_xs: Any) -> Any:
        return from_torch({name: p.grad for name, p in module.named_parameters()}), numbers(d_xs)

    if job.mode == "forward":
        return Eager(forward, numbers)
    xs.requires_grad_()
    return Eager(training, trained)


def build_steps(cell: bool, job: Job) -> Callable[[], Step]:
    """Build `torch.nn.LSTM` for sequences of one step, or `torch.nn.LSTMCell`; eager, with one thread."""
    import torch

    torch.set_num_threads(1)
    module = build(job.layers)
    if cell:
        lstm_cell = torch.nn.LSTMCell(module.input_size, module.hidden_size)
        lstm_cell.load_state_dict({name.removesuffix("_l0"): a for name, a in module.state_dict().items()})

    def begin() -> Step:
        state: Any = None

        def of_layer(x: np.ndarray) -> Any:
            nonlocal state
            with torch.inference_mode():
                y, state = module(torch.from_numpy(x)[:, None], state)
            return y[:, 0]

        def of_cell(x: np.ndarray) -> Any:
            nonlocal state
            with torch.inference_mode():
                state = lstm_cell(torch.from_numpy(x), state)
            return state[0]

        return of_cell if cell else of_layer

    return begin
