"""Refuse configurations that need more memory than is available, before any is allocated.

JAX is not imported here, so that a configuration that cannot run is refused before JAX is loaded.
"""

from __future__ import annotations

from types import MappingProxyType

from lstmjax.claims import available, counted, words
from lstmjax.config import Config, Data, Model
from lstmjax.errors import ConfigError

MOMENTS = MappingProxyType({"adamw": 2, "adam": 2, "adam_keras": 2, "sgd": 1, "rmsprop": 1, "lion": 1})
"""Arrays in the optimizer's state for each parameter that is trained."""


def copies(config: Config) -> dict[str, int]:
    """Return how many numbers training holds for each parameter, by what they are.

    Frozen parameters have no moments; how many these are is not counted here, so that none are, then.
    """
    optimizer = config.optimizer
    moments = 0 if optimizer.freeze else MOMENTS[optimizer.name]
    return {
        "the parameters": 1,
        "gradients": 1,
        optimizer.name: moments,
        "accumulated gradients": int(optimizer.accumulate > 1 and not optimizer.freeze),
        "averaged parameters": int(config.average.decay is not None),
        "sums of gradients": int(config.gradients),
    }


def check_network(config: Config, inputs: int, outputs: int, room: int | None = None) -> None:
    """Refuse a network whose parameters, gradients and optimizer do not fit into the memory.

    This is a lower bound of what training needs: activations are not counted.

    Args:
        config: configuration of the run.
        inputs: I.
        outputs: O.
        room: bytes of memory of the device; None: of this machine.

    Raises:
        ConfigError: it does not fit; the message says how much is needed and how much is available.
    """
    if config.data.source == "order":
        check_order(config.data, "batch_size", config.batch_size, inputs)
    model = config.model
    count = parameters(model, inputs, outputs)
    held = copies(config)
    needed = count * sum(held.values()) * (8 if model.param_dtype == "float64" else 4)
    free = available() if room is None else room
    if needed > free:
        sizes = f"model.hidden_size {model.hidden_size:,} and model.layers {model.layers:,}"
        if model.projection_size is not None:
            sizes += f" and model.projection_size {model.projection_size:,}"
        *others, last = [name for name, number in held.items() if number][1:]
        named = f"{', '.join(others)} and {last}" if others else last
        raise ConfigError(
            f"{sizes} make {count:,} parameters at least, which with {named} take {words(needed)} of memory, and "
            f"{words(free)} are available; set them lower"
        )


def check_batch(config: Config, rows: int, steps: int, inputs: int, room: int | None = None) -> None:
    """Refuse a batch whose inputs and gates do not fit into the memory, which the backward pass needs.

    This is a lower bound, as of `parameters`.

    Args:
        config: configuration of the run.
        rows: B, sequences in the batch.
        steps: T, with padding.
        inputs: I.
        room: bytes of memory of the device; None: of this machine.

    Raises:
        ConfigError: it does not fit; the message says how much is needed and how much is available.
    """
    model = config.model
    gates = 3 * model.hidden_size * model.layers * (2 if model.bidirectional else 1)
    needed = 4 * rows * steps * (inputs + gates)
    free = available() if room is None else room
    if needed > free:
        fewer = "set batch_size lower, or " if rows > 1 else ""
        raise ConfigError(
            f"a batch of {counted(rows, 'sequence', ',')} of {counted(steps, 'step', ',')} takes {words(needed)} of "
            f"memory at least, and {words(free)} are available; {fewer}cut long sequences into pieces, or use a "
            "smaller network"
        )


def parameters(model: Model, inputs: int, outputs: int) -> int:
    """Return a lower bound of the number of parameters: those of three gates in each layer, and of the head."""
    width = model.hidden_size if model.projection_size is None else model.projection_size
    above = width * (2 if model.bidirectional and model.merge == "concat" else 1)
    first, further = (3 * model.hidden_size * (below + width) for below in (inputs, above))
    directions = 2 if model.bidirectional else 1
    return directions * (first + (model.layers - 1) * further) + above * outputs


def check_order(data: Data, key: str, sequences: int, features: int) -> None:
    """Refuse sequences of the temporal-order task that do not fit into the memory.

    Args:
        data: section of the configuration with T, `data.length`.
        key: the key that the message asks to reduce: "data.length" or "batch_size".
        sequences: N, number of sequences in memory at once.
        features: I.

    Raises:
        ConfigError: they do not fit; the message says how much is needed and how much is available.
    """
    length = data.length or 100
    needed, free = sequences * (11 * length // 10) * (4 * features + 8), available()
    if needed > free:
        most = (length if key == "data.length" else sequences) * free // needed
        raise ConfigError(
            f"{sequences:,} sequences of data.length {length:,} take {words(needed)} of memory, and {words(free)} are "
            f"available; set {key} to {most:,} at most"
        )
