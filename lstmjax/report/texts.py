"""What the page shows of a language model: pieces of a text, with a token at each step as a one-hot vector."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from lstmjax.data import Sequences, Tokens, load, text_of
from lstmjax.language_model import one_hot_network
from lstmjax.runs import RunError
from lstmjax.training.forward import Trained

STEPS = 100  # tokens of a piece
PIECES = 64  # that are looked at, at most
NUMBERS = 2**25  # of their one-hot vectors at most: of a large vocabulary there are fewer pieces
AS_ONE_HOT = (
    "The language model is shown as the network over one-hot tokens that computes the same: the input weights of its "
    "first layer are the embedding times those of the model, and its number of parameters is that of this form."
)


class Part(NamedTuple):
    """The sequences of a page."""

    total: int  # number of sequences, of which some are looked at
    scaled: Sequences  # these, with names, as the network sees them
    shown: np.ndarray  # their x in the units of the training data
    description: str  # "the test part"
    labelled: Sequences | None = None  # all of them, with names, as the network sees them; None: there are no labels
    rows: np.ndarray | None = None  # which of these are looked at


def text_to_show(trained: Trained, run: str | Path, path: str | Path | None) -> tuple[Trained, Part]:
    """Return a language model as a network of one-hot vectors, and the pieces of a text that the page shows.

    Args:
        trained: the language model.
        run: the folder of its run, for messages.
        path: a text; None: the test part of the run's data, or the validation part if there is no test part.

    Raises:
        UserError: the text cannot be read, or the data of the run have changed.
    """
    about = trained.about
    assert about.classes is not None
    size = len(about.classes)
    if path is not None:
        return shown_as_one_hot(trained), _pieces(text_of(str(path), about), size, Path(path).name)
    parts, current = load(trained.config.data, trained.config.loss.name)
    if not current.has_same_data(about):
        raise RunError(f"{run}: the data have changed since this run began; name a text by --input")
    name, tokens = ("validation", parts.validation) if parts.test is None else ("test", parts.test)
    return shown_as_one_hot(trained), _pieces(cast(Any, tokens), size, f"the {name} part")


def shown_as_one_hot(trained: Trained) -> Trained:
    """Return a language model as the network that takes its tokens as one-hot vectors; see `one_hot_network`."""
    params, config, about = trained
    assert about.classes is not None
    size = len(about.classes)
    as_features = {"input_size": size, "features": about.classes, "offset": (0.0,) * size, "scale": (1.0,) * size}
    return Trained(one_hot_network(cast(Any, params)), config, about.model_copy(update=as_features))


def _pieces(tokens: Tokens, size: int, description: str) -> Part:
    """Return pieces of a text, spread over it, each with the token after each of its tokens.

    Args:
        tokens: the text.
        size: V, of the vocabulary.
        description: of the text, in words.
    """
    steps = min(STEPS, tokens.count - 1)
    total = (tokens.count - 1) // steps
    count = max(min(total, PIECES, NUMBERS // (steps * size)), 1)
    starts = np.linspace(0, total - 1, count).round().astype(np.int64) * steps
    rows = np.stack([tokens.read(start, start + steps + 1) for start in starts.tolist()])
    x = np.zeros((count, steps, size), np.float32)
    np.put_along_axis(x, rows[:, :-1, None], np.float32(1), axis=2)
    names = tuple(f"tokens {start} to {start + steps - 1}" for start in starts.tolist())
    data = Sequences(x, rows[:, 1:], None, names)
    what = f"{total} pieces of {steps} tokens of {description}, each read from a state of zeros"
    return Part(total, data, x, what, data, np.arange(count))
