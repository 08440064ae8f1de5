"""The fables that come with the package; FABLES.md names their sources."""

from __future__ import annotations

from importlib.resources import files


def fables() -> str:
    """Return four short fables of Aesop as one text, for networks that read characters.

    The text is ASCII with 50 different characters; opening and closing quotation marks are the same.

    >>> text = fables()
    >>> text[:25], len(text)
    ('The Hare and the Tortoise', 2507)
    """
    return files("lstmjax.data").joinpath("fables.txt").read_text(encoding="ascii")


def fable() -> str:
    """Return the fable of the mice that would bell the cat, as word networks read it: words and marks between spaces.

    >>> words = fable().split()
    >>> len(words), len(set(words))
    (204, 112)
    """
    return files("lstmjax.data").joinpath("fable.txt").read_text(encoding="ascii")
