"""The program of each competitor, with our weights, run as its users run it."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax import frameworks
from lstmjax.bench import machine
from lstmjax.bench.points import BenchError, Job
from lstmjax.bench.program import Program, gradients, on_jax, outputs
from lstmjax.frameworks.base.running import OnJax
from lstmjax.frameworks.flax.run import build_linen, build_nnx
from lstmjax.frameworks.keras import run as keras_run
from lstmjax.frameworks.torch import module as torch_module
from lstmjax.layer import lstm
from lstmjax.stack import Layers, stacked
from lstmjax.types import Array, Bidirectional, LSTMParams


def ours(backend: str, job: Job, precision: str = "highest") -> Program:
    """Build `lstm`, or `stacked` where there are several layers or directions, on a backend.

    The precision of products is one of JAX's: "highest" is float32, "tensorfloat32" is TF32 where a GPU has it.
    """
    with jax.default_matmul_precision(precision):
        return on_jax(ours_of(backend, job.layers), job)


def ours_of(backend: str, layers: Layers) -> OnJax:
    """Return `lstm` or `stacked` as a function of parameters and inputs."""

    def forward(layers: Any, xs: Array) -> Array:
        if len(layers) == 1 and isinstance(layers[0], LSTMParams):
            return lstm(layers[0], xs, backend=backend)[1]
        return stacked(layers, xs, backend=backend)[1]

    return OnJax(forward, layers, lambda gradients: gradients)


def plain(job: Job) -> Program:
    """Build the textbook's LSTM in twenty lines of `jax.lax.scan`, without lstmjax."""
    return on_jax(plain_of(job.layers), job)


def plain_of(layers: Layers) -> OnJax:
    """Return the textbook's LSTM as a function of parameters and inputs."""

    def direction(p: LSTMParams, xs: Array, reverse: bool) -> Array:
        hidden = p.w_x.shape[-1]
        w_x, w_h = p.w_x.reshape(-1, 4 * hidden), p.w_h.reshape(-1, 4 * hidden)
        b = p.b.reshape(-1)  # type: ignore[union-attr]

        def step(state: tuple[Array, Array], x: Array) -> tuple[tuple[Array, Array], Array]:
            h, c = state
            i, f, g, o = jnp.split(x @ w_x + h @ w_h + b, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zeros = jnp.zeros((xs.shape[0], hidden), xs.dtype)
        return jax.lax.scan(step, (zeros, zeros), xs.swapaxes(0, 1), reverse=reverse)[1].swapaxes(0, 1)

    def forward(layers: Any, xs: Array) -> Array:
        for layer in layers:
            pair = layer if isinstance(layer, Bidirectional) else (layer,)
            xs = jnp.concatenate([direction(p, xs, bool(n)) for n, p in enumerate(pair)], axis=-1)
        return xs

    return OnJax(forward, layers, lambda gradients: gradients)


def linen(optimized: bool, job: Job) -> Program:
    """Build `linen.RNN` of `LSTMCell` or `OptimizedLSTMCell`."""
    return on_jax(build_linen(job.layers, job.xs.dtype, optimized=optimized), job)


def nnx(optimized: bool, job: Job) -> Program:
    """Build `nnx.RNN` of `LSTMCell` or `OptimizedLSTMCell`."""
    return on_jax(build_nnx(job.layers, job.xs.dtype, optimized=optimized), job)


def haiku(job: Job) -> Program:
    """Build `haiku.LSTM` run by `dynamic_unroll`."""
    return on_jax(frameworks.haiku.build(job.layers), job)


def equinox(job: Job) -> Program:
    """Build `equinox.nn.LSTMCell` in a scan, over the batch by vmap."""
    return on_jax(frameworks.equinox.build(job.layers), job)


def keras(job: Job) -> Program:
    """Build `keras.layers.LSTM` run by `stateless_call`, as `keras.Model.fit` runs it."""
    if keras_run.backend() != "jax":
        raise BenchError(f"Keras runs on {keras_run.backend()}; set KERAS_BACKEND=jax")
    return on_jax(keras_run.build_on_jax(job.layers, str(job.xs.dtype)), job)


def cudnn(job: Job, precision: jax.lax.Precision = jax.lax.Precision.HIGHEST) -> Program:
    """Build `jax.experimental.rnn.lstm`; at a lower precision than the highest, cuDNN computes in TF32."""
    from jax.experimental import rnn

    from lstmjax.frameworks.cudnn import from_cudnn, to_cudnn

    first = job.layers[0]
    count = 2 if isinstance(first, Bidirectional) else 1
    params = first.forward if isinstance(first, Bidirectional) else first
    sizes = {"input_size": params.input_size, "hidden_size": params.hidden_size, "num_layers": len(job.layers)}
    options: dict[str, Any] = {"dropout": 0.0, "bidirectional": count == 2, "precision": precision}
    batch, steps, _ = job.xs.shape

    def forward(flat: Array, xs: Array) -> Array:
        zeros = jnp.zeros((len(job.layers) * count, batch, params.hidden_size), xs.dtype)
        lengths = jnp.full((batch,), steps, jnp.int32)
        return rnn.lstm(xs, zeros, zeros, flat, lengths, **sizes, **options)[0]

    return on_jax(OnJax(forward, to_cudnn(job.layers), partial(from_cudnn, **sizes, bidirectional=count == 2)), job)


def torch(job: Job, tf32: bool = False) -> Program:
    """Build `torch.nn.LSTM`, eager: on the CPU with as many threads as XLA has, on a GPU by cuDNN.

    TF32 is what cuDNN computes in where it is wanted.
    """
    import torch

    from lstmjax.frameworks.base.layouts import numbers
    from lstmjax.frameworks.torch.module import from_torch

    torch.set_num_threads(machine.cpus())
    on_gpu = jax.default_backend() == "gpu"
    if on_gpu and not torch.cuda.is_available():
        raise BenchError("this PyTorch has no CUDA")
    module = torch_module.build(job.layers).to("cuda" if on_gpu else "cpu")
    device = module.weight_ih_l0.device
    xs = torch_module.as_tensor(np.asarray(job.xs), module).to(device)
    weights = torch_module.as_tensor(np.asarray(job.weights), module).to(device)

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
        layers = from_torch({name: p.grad for name, p in module.named_parameters()})
        return gradients(layers, numbers(d_xs))

    if job.mode == "forward":
        return Program(forward, lambda ys: outputs(numbers(ys)))
    xs.requires_grad_()
    return Program(training, trained)


def onnxruntime(job: Job) -> Program:
    """Build the exported graph in ONNX Runtime, on the CPU with as many threads as XLA has."""
    import onnxruntime

    from lstmjax.frameworks.onnx.write import to_onnx

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = machine.cpus(), 1
    graph = to_onnx(job.layers).SerializeToString()
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    feeds = {"xs": np.asarray(job.xs)}
    return Program(lambda: session.run(["ys"], feeds)[0], outputs)
