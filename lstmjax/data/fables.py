"""The fables that come with the package; FABLES.md tells where they are from."""

from __future__ import annotations

from importlib.resources import files


def fables() -> str:
    """Gives four short fables of Aesop as one text, for networks that read characters.

    ASCII, 50 kinds of characters; a quotation mark looks the same at both ends of a quotation.

    >>> text = fables()
    >>> text[:25], len(text)
    ('The Hare and the Tortoise', 2507)
    """
    return files("lstmjax.data").joinpath("fables.txt").read_text(encoding="ascii")
