"""Read objects of Flax: layers that `stacked` runs as the object does, or models that run like it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from lstmjax.arguments import kind
from lstmjax.cells import Activation, Cell, identity
from lstmjax.frameworks.base.layouts import ConvertError, natural, to_jax
from lstmjax.frameworks.base.model import Model
from lstmjax.frameworks.flax.objects import (
    Recurrent,
    architecture_of,
    called,
    check_dtype,
    check_run,
    described,
    in_sequence,
    is_recurrent,
    other_dtype,
    other_promotion,
)
from lstmjax.frameworks.flax.trees import LINEN, NNX, read_cell, weights_alone
from lstmjax.networks import Dense, NetworkParams
from lstmjax.stack import Layers, directions
from lstmjax.types import Bidirectional, LSTMParams


def from_linen(
    variables: Any,
    module: Any = None,
    *,
    cell: Cell | str = "vanilla",
    merge: str = "concat",
    time_major: bool = False,
    extra: str = "refuse",
) -> Layers:
    """Read the LSTM layers of linen variables, bit by bit.

    Variables are weights alone; the module says how they are run. With a module the layers are returned only if
    `stacked`, called with this cell, merge and time_major, runs them as the module does. Without a module they are
    assumed to be those of Flax's cells with sigmoid and tanh, run forward, with the directions of a pair side by side.

    Args:
        variables: what `init` of a cell, an `RNN`, a `Bidirectional` or a module with several of them returns, or the
            "params" in it; or a bound module. Several layers are read in the order of their names (RNN_2 before
            RNN_10). A cell that a compact method passes to an RNN is named separately, as LSTMCell_0, and the names
            do not say which two cells are a pair: join them by `Bidirectional(*layers[:2])`.
        module: the module of the variables: a cell, an `RNN`, a `Bidirectional`, or a `Sequential` of them; a head
            after them is left out.
        cell: the cell that the layers will run with; `with_activations` makes one of gate_fn and activation_fn.
        merge: how the directions of a pair will be joined, "concat" or "sum".
        time_major: whether time will be the first axis.
        extra: "refuse" variables without a module that hold more than LSTM cells and one Dense layer, the head, which
            is left out; or "drop" that.

    Returns:
        A tuple of `LSTMParams` or `Bidirectional` pairs. Flax's carry is (c, h), the state here (h, c).

    Raises:
        ConvertError: there is no LSTM cell, its arrays do not fit, there is more, or the module runs it in another way.
    """
    variables, module = _with_module(variables, module)
    if module is None:
        return weights_alone(LINEN, variables, extra)
    read = read_linen(variables, module)
    check_run(read.recurrent, cell, merge, time_major, "leave module out, for the weights alone")
    return read.layers


def from_nnx(
    source: Any, *, cell: Cell | str = "vanilla", merge: str = "concat", time_major: bool = False, extra: str = "refuse"
) -> Layers:
    """Read the LSTM layers of an NNX module or state, bit by bit.

    The layers of a module are returned only if `stacked`, called with this cell, merge and time_major, runs them as the
    module does; `model_from_nnx` returns a model that runs them in any way that Flax can. A module of a class of your
    own is refused: what its `__call__` does with its layers cannot be read from it.

    Args:
        source: a cell, an `nnx.RNN`, an `nnx.Bidirectional`, or an `nnx.Sequential` of them; what stands behind the
            last of them, such as a head, is left out. Or a state of any module, `nnx.state(module, nnx.Param)`: the
            weights alone, in the order of their names, which are assumed to be those of Flax's cells with sigmoid and
            tanh, run forward.
        cell, merge, time_major: how the layers will be run; see `from_linen`.
        extra: "refuse" a state that holds more than LSTM cells and one Linear layer, the head, which is left out; or
            "drop" that.

    Returns:
        A tuple of `LSTMParams` or `Bidirectional` pairs. Flax's carry is (c, h), the state here (h, c).

    Raises:
        ConvertError: there is no LSTM cell, its arrays do not fit, there is more, or the module runs it in another way.
    """
    from flax import nnx

    if isinstance(source, nnx.Module):
        read = read_nnx(source)
        check_run(read.recurrent, cell, merge, time_major, "pass nnx.state(module, nnx.Param), the weights alone")
        return read.layers
    tree = nnx.to_pure_dict(source) if isinstance(source, nnx.State) else source
    return weights_alone(NNX, tree, extra)


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
    variables, module = _with_module(variables, module)
    if module is None:
        raise ConvertError(
            "module is None, but variables do not say how they are run. Pass the module that they are of"
        )
    return _model(read_linen(variables, module))


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
    return _model(read_nnx(module))


def _model(read: Read) -> Model:
    architecture, after = architecture_of(read.recurrent), read.behind()
    if after.unread:
        raise ConvertError(
            f"{', '.join(after.unread)}: a Model runs a Dense head in the dtype of the layers and one function of its "
            "logits behind the LSTM layers, and nothing else. Take the layers alone, by from_nnx or from_linen, and "
            "run behind them what stands there"
        )
    if after.head is None:
        return Model(read.layers, architecture)
    architecture = replace(architecture, readout=after.readout, return_sequences=True)
    return Model(NetworkParams(read.layers, after.head), architecture)


class Read(NamedTuple):
    """A module of Flax that was read: its layers, how it runs each of them, and what it runs after them."""

    layers: Layers
    recurrent: list[Recurrent]
    after: list[tuple[str, Any]]  # modules and functions, with words for messages
    behind: Callable[[], Behind]  # reads `after`


def read_nnx(module: Any) -> Read:
    """Read an NNX module.

    Raises:
        ConvertError: it has no LSTM cell, its arrays do not fit, or it is run in a way that no stack of layers can be.
    """
    from flax import nnx

    def weights(inner: Any) -> Any:
        return nnx.to_pure_dict(nnx.state(inner, nnx.Param))

    modules, after = _nnx_modules(module)
    recurrent = [described(nnx, inner, where) for where, inner in modules]
    layers: list[LSTMParams | Bidirectional] = []
    for layer in recurrent:
        parts = [read_cell(NNX, weights(cell), layer.where) for cell in layer.cells]
        layers.append(Bidirectional(*parts) if len(parts) == 2 else parts[0])
        check_dtype(layer, layers[-1])
    converted = to_jax(tuple(layers))
    return Read(converted, recurrent, after, lambda: read_behind(nnx, after, weights, converted))


def _nnx_modules(module: Any) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
    """Return the outermost recurrent modules of an NNX module in the order in which it runs them, and what follows.

    Raises:
        ConvertError: there is none; a `Sequential` has another module between them; or the module is a class of the
            caller's, whose call cannot be read.
    """
    from flax import nnx

    every = {path: inner for path, inner in nnx.iter_modules(module) if is_recurrent(nnx, inner)}
    outer = [path for path in every if not any(path[:n] in every for n in range(len(path)))]
    if not outer:
        held = ", ".join(map(str, nnx.to_pure_dict(nnx.state(module, nnx.Param))))
        raise ConvertError(f"there is no LSTM cell in it, {kind(module)}; it holds {held or 'nothing'}")
    if not isinstance(module, nnx.Sequential) and not is_recurrent(nnx, module):
        raise ConvertError(_unread(module, sorted(outer, key=lambda path: [natural(name) for name in path])))
    recurrent, after = in_sequence(nnx, module)
    missing = [path for path in outer if not any(every[path] is inner for _, inner in recurrent)]
    if missing:
        raise ConvertError(_unread(module, missing))
    return recurrent, after


def _unread(module: Any, paths: list[Any]) -> str:
    """Return why LSTM layers at these paths of an NNX module are refused."""
    listed = ", ".join(f"module.{'.'.join(map(str, path))}" for path in paths)
    return (
        f"module is {kind(module)}, expected a cell, an RNN, a Bidirectional or a Sequential of them. What another "
        f"class does with its layers ({listed}), and in which order, cannot be read from it. Pass one layer, or "
        "nnx.state(module, nnx.Param), the weights alone, in the order of their names. To verify it, run it yourself: "
        "verify(lambda xs: module(xs), xs, params=...)"
    )


def _with_module(variables: Any, module: Any) -> tuple[Any, Any]:
    """Return variables and their module; a bound module, passed as variables, has both."""
    if isinstance(variables, Mapping):
        return variables, module
    from flax import linen

    if not isinstance(variables, linen.Module):
        raise ConvertError(f"variables is {kind(variables)}, expected a mapping, as init gives it")
    if variables.scope is None:
        raise ConvertError(
            f"variables is {kind(variables)} that is not bound and holds no weights. Pass its variables, and the "
            "module behind them"
        )
    unbound, variables = variables.unbind()
    return variables, unbound


def read_linen(variables: Any, module: Any) -> Read:
    """Read variables by their module.

    Raises:
        ConvertError: they do not fit each other, or the module is run in a way that no stack of layers can be.
    """
    from flax import linen

    if not isinstance(module, linen.Sequential) and not is_recurrent(linen, module):
        raise ConvertError(
            f"module is {kind(module)}, expected a cell, an RNN, a Bidirectional or a Sequential of linen. A module of "
            "your own says what it does only while it runs: pass those in it, or leave it out, for the weights alone"
        )
    modules, after = in_sequence(linen, module)
    recurrent = [described(linen, inner, where) for where, inner in modules]
    layers = weights_alone(LINEN, variables, "drop")  # what the module does not use does nothing
    expected, counts = [len(layer.cells) for layer in recurrent], [len(directions(layer)) for layer in layers]
    if expected != counts:
        raise ConvertError(
            f"module has {len(recurrent)} recurrent layers of {_listed(expected)} directions, but the "
            f"variables {len(layers)} of {_listed(counts)}. Are they the variables of this module?"
        )
    for layer, weights in zip(recurrent, layers, strict=True):
        check_dtype(layer, weights)

    def behind() -> Behind:
        bound = module.bind(variables if "params" in variables else {"params": variables})
        modules = in_sequence(linen, bound)[1]
        return read_behind(linen, modules, lambda head: head.variables.get("params", {}), layers)

    return Read(layers, recurrent, after, behind)


def _listed(counts: list[int]) -> str:
    return ", ".join(map(str, counts)) or "no"


class Behind(NamedTuple):
    """What stands behind the last LSTM layer, as far as a `Model` can run it."""

    head: Dense | None = None
    readout: Activation = identity
    unread: tuple[str, ...] = ()
    """In words, everything that stands there, if a `Model` cannot run it; head is None then."""


def read_behind(flax: Any, modules: list[tuple[str, Any]], weights: Callable[[Any], Any], layers: Layers) -> Behind:
    """Return the Dense head behind these layers, and the function after it.

    Args:
        flax: the namespace of the modules, `flax.linen` or `flax.nnx`.
        modules: what stands there, with words for messages.
        weights: a function of a head, which returns its kernel and bias by these names.
        layers: the weights of the layers.
    """
    if not modules:
        return Behind()
    (_, first), *after = modules
    dtype = directions(layers[-1])[0].w_x.dtype
    unread = Behind(unread=tuple(f"{where}{called(module)}" for where, module in modules))
    linear = flax.Linear if hasattr(flax, "Linear") else flax.Dense
    if not isinstance(first, linear) or type(first).__call__ is not linear.__call__ or len(after) > 1:
        return unread
    arrays = {name: jnp.asarray(value) for name, value in weights(first).items()}
    kernel = arrays.pop("kernel", None)
    if kernel is None or kernel.dtype != dtype or other_dtype(first, kernel) or other_promotion(flax, first):
        return unread
    head = Dense(kernel, arrays.get("bias", jnp.zeros(kernel.shape[-1], kernel.dtype)))
    if not after:
        return Behind(head)
    ((_, function),) = after
    return Behind(head, function) if _is_readout(flax, function, kernel) else unread


def _is_readout(flax: Any, function: Any, kernel: Any) -> bool:
    """Return whether what follows a head is a function of each step by itself, by a trial on random numbers."""
    if isinstance(function, flax.Module):
        return False
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, kernel.shape[-1])), kernel.dtype)
    try:
        together = function(logits)
    except Exception:  # any function may stand there; one that does not take logits is no readout
        return False
    if jnp.shape(together) != logits.shape:
        return False
    single = [[function(logits[b : b + 1, t : t + 1])[0, 0] for t in range(3)] for b in range(2)]
    return bool(np.allclose(np.asarray(together, np.float64), np.asarray(single, np.float64), rtol=1e-4, atol=1e-5))
