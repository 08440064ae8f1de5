"""Limits of a configuration: memory wanted against memory available, before any is taken.

No JAX here, so that a configuration that cannot run is refused before it is loaded.
"""

from __future__ import annotations

from types import MappingProxyType

from lstmjax.claims import available, words
from lstmjax.config import Config, Data, Model
from lstmjax.errors import ConfigError

MOMENTS = MappingProxyType({"adamw": 2, "adam": 2, "adam_keras": 2})  # arrays of the optimizer for each parameter


def check_network(config: Config, inputs: int, outputs: int, room: int | None = None) -> None:
    """Refuse a network whose parameters, gradients and optimizer do not fit into the memory.

    What is counted is the least that training takes: activations are not in it.

    Args:
        config: the whole run.
        inputs: I.
        outputs: O.
        room: bytes of memory of the device; None: of this machine.

    Raises:
        ConfigError: it does not fit; the message says what is wanted and what is available.
    """
    if config.data.source == "order":
        check_order(config.data, "batch_size", config.batch_size, inputs)
    model, optimizer = config.model, config.optimizer
    count = parameters(model, inputs, outputs)
    copies = 2 + MOMENTS.get(optimizer.name, 0)
    wanted, free = count * copies * (8 if model.param_dtype == "float64" else 4), available() if room is None else room
    if wanted > free:
        sizes = f"model.hidden_size {model.hidden_size:,} and model.layers {model.layers:,}"
        if model.projection_size is not None:
            sizes += f" and model.projection_size {model.projection_size:,}"
        raise ConfigError(
            f"{sizes} make {count:,} parameters at least, which with gradients and {optimizer.name} take "
            f"{words(wanted)} of memory, and {words(free)} are available; set them lower"
        )


def parameters(model: Model, inputs: int, outputs: int) -> int:
    """Return how many parameters a network has at least: those of three gates, and of the head."""
    width = model.hidden_size if model.projection_size is None else model.projection_size
    above = width * (2 if model.bidirectional and model.merge == "concat" else 1)
    first, further = (3 * model.hidden_size * (below + width) for below in (inputs, above))
    each = 2 if model.bidirectional else 1
    return each * (first + (model.layers - 1) * further) + above * outputs


def check_order(data: Data, key: str, sequences: int, features: int) -> None:
    """Refuse sequences of the temporal-order task that do not fit into the memory.

    Args:
        data: says T.
        key: key of the configuration that is to be set lower: "data.length" or "batch_size".
        sequences: N, all those that are in memory at once.
        features: I.

    Raises:
        ConfigError: they do not; the message says what is wanted and what is available.
    """
    length = data.length or 100
    wanted, free = sequences * (11 * length // 10) * (4 * features + 8), available()
    if wanted > free:
        most = (length if key == "data.length" else sequences) * free // wanted
        raise ConfigError(
            f"{sequences:,} sequences of data.length {length:,} take {words(wanted)} of memory, and {words(free)} are "
            f"available; set {key} to {most:,} at most"
        )
