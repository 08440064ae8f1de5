"""Write a trained network to a file that runs without this library: what `lstmjax export` does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp

from lstmjax.convert.stablehlo import to_stablehlo
from lstmjax.frameworks.base.guard import optional
from lstmjax.frameworks.base.layouts import ConvertError
from lstmjax.language_model import language, zero_state
from lstmjax.training.forward import Trained, logits_of, wrappers_of
from lstmjax.training.losses import LOSSES
from lstmjax.training.reading import load_run
from lstmjax.training.streams import stream_options
from lstmjax.types import Array

Lines = Iterator[str]


def export_run(run: str | Path, out: str | Path, lengths: bool = False) -> Lines:
    """Write the network of a run to a file, and yield lines that name its inputs and outputs.

    The file computes everything that predicting does: the scaling of the training data, the network in evaluation mode,
    the numbers of a regression in their units, and the probabilities beside the logits, if the loss has them. A
    language model takes tokens by their numbers in the vocabulary, and its state, zeros at the beginning of a text; it
    returns the probabilities of the next token after each, and the state from which the text goes on.

    Args:
        run: the run's folder.
        out: the file: .onnx, or .stablehlo for `jax.export.deserialize`.
        lengths: add an input for the valid steps of each sequence.

    Raises:
        UserError: no such run.
        ConvertError: another kind of file, or a network that cannot be exported.
    """
    write = KINDS.get(Path(out).suffix.lower())
    if write is None:
        raise ConvertError(f"{out}: unknown kind of file; expected a name that ends in {' or '.join(KINDS)}")
    trained = load_run(run)
    with jax.enable_x64(trained.config.model.needs_x64):
        yield from write(trained, out, lengths)


def _onnx(trained: Trained, out: str | Path, lengths: bool) -> Lines:
    optional("onnx")
    from lstmjax.frameworks.onnx.write import to_onnx

    params, config, about = trained
    model = config.model
    readout = None if config.loss.kind == "numbers" else config.loss.name
    classes = {} if about.classes is None else {"classes": json.dumps(about.classes)}
    exported = to_onnx(
        params,
        out,
        lengths=lengths,
        state=about.is_stream,
        return_sequences=about.per_step,
        merge=model.merge,
        residual=model.residual,
        wrappers=wrappers_of(model),
        cell=model.cell,
        scaling=None if about.is_stream else (about.offset, about.scale),
        readout=readout,
        unscaling=_target_scaling(trained),
        metadata=classes,
    )
    for role, tensors in (("input", exported.graph.input), ("output", exported.graph.output)):
        for tensor in tensors:
            shape = [str(d.dim_param or d.dim_value) for d in tensor.type.tensor_type.shape.dim]
            yield f"{role} {tensor.name} ({', '.join(shape)})"
    if model.dtype != model.param_dtype:
        yield f"it computes in {model.param_dtype}, the dtype of the parameters, and not in {model.dtype}"
    kinds = [node.op_type for node in exported.graph.node if node.op_type in ("LSTM", "Scan")]
    yield f"{len(params.layers)} layer(s) as {len(kinds)} node(s) {' and '.join(sorted(set(kinds)))}, written to {out}"


def _target_scaling(trained: Trained) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return offset and scale of each output; the quantiles of a number have those of the number."""
    scaling = trained.about.target_scaling
    if scaling is None:
        return None
    width = trained.config.loss.width
    offset, scale = (tuple(value for value in values for _ in range(width)) for values in scaling)
    return offset, scale


def _stablehlo(trained: Trained, out: str | Path, lengths: bool) -> Lines:
    params: Any = trained.params
    config, about = trained.config, trained.about
    readout, unscaling = LOSSES[config.loss.name].readout, _target_scaling(trained)

    def predict(xs: Array, lengths: Array | None = None) -> dict[str, Array]:
        offset, scale = (jnp.broadcast_to(jnp.array(a, jnp.float32), xs.shape) for a in (about.offset, about.scale))
        logits = logits_of(params, (xs - offset) / scale, lengths, model=config.model, per_step=about.per_step)
        if unscaling is not None:
            offset, scale = (jnp.broadcast_to(jnp.array(a, jnp.float32), logits.shape) for a in unscaling)
            logits = logits.astype(jnp.float32) * scale + offset
        if config.loss.kind == "numbers":
            return {"logits": logits}
        return {"logits": logits, "probabilities": readout(logits)}

    def next_tokens(tokens: Array, *others: Any) -> dict[str, Any]:
        *ends, state = others
        state, logits = language(
            params, tokens, state, lengths=ends[0] if ends else None, **stream_options(config.model)
        )
        return {"logits": logits, "probabilities": readout(logits.astype(jnp.float32)), "state": state}

    if about.is_stream:
        state = zero_state(params, (), stream_options(config.model))
        exported = to_stablehlo(next_tokens, None, out, lengths=lengths, state=state)
    else:
        exported = to_stablehlo(predict, about.input_size, out, lengths=lengths)
    names = ("tokens" if about.is_stream else "xs", *(("lengths",) if lengths else ()), "state")
    (arguments, _) = jax.tree.unflatten(exported.in_tree, exported.in_avals)
    outputs = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    yield from _named_shapes("input", dict(zip(names, arguments, strict=False)))
    yield from _named_shapes("output", outputs)
    yield f"StableHLO for {', '.join(exported.platforms)}, written to {out}"


def _named_shapes(role: str, arrays: dict[str, Any]) -> Lines:
    """Yield the name and shape of each array; those of a state by layer."""
    for name, value in arrays.items():
        for path, leaf in jax.tree.leaves_with_path(value):
            yield f"{role} {name}{jax.tree_util.keystr(path)} ({', '.join(map(str, leaf.shape))})"


KINDS: MappingProxyType[str, Callable[[Trained, str | Path, bool], Lines]] = MappingProxyType(
    {".onnx": _onnx, ".stablehlo": _stablehlo}
)
"""The function that writes each kind of file, by the end of its name."""
