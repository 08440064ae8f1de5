"""Measure a trained network, of whatever kind, on a part of its data."""

from __future__ import annotations

from typing import Any

from lstmjax.training import inference
from lstmjax.training.forward import Trained
from lstmjax.training.streams import evaluate_stream


def evaluate(trained: Trained, data: Any, part: str = "the data") -> dict[str, float]:
    """Return the mean loss and the metrics of the configuration over labelled sequences, or over a text.

    The loss of a regression is that of the scaled targets, which training minimises; the metrics are in the units of
    the data. Over a text the state is carried from its beginning to its end.

    Args:
        trained: the network.
        data: sequences, scaled and labelled as `lstmjax.data.load` and `labelled` return them; `Tokens` for a language
            model.
        part: what they are, for messages.

    Raises:
        DataError: a metric is not defined on these labels.
    """
    return evaluate_stream(trained, data) if trained.about.is_stream else inference.evaluate(trained, data, part)
