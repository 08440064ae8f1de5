"""Parameters by the paths of their leaves, such as "layers.0.w_x" or "head.b", and patterns of such paths."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import jax
from jax.lax import stop_gradient

from lstmjax.config import ConfigError
from lstmjax.types import PyTree


def leaf_names(tree: PyTree) -> list[str]:
    """Return the names of the leaves of a tree, such as "params.head.w"."""
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in jax.tree.leaves_with_path(tree)]


def matched(names: Sequence[str], patterns: Sequence[str]) -> list[bool]:
    """Return for each name whether a pattern matches it; * stands for any letters, dots included.

    >>> matched(["layers.0.w_x", "layers.1.w_x", "head.w"], ["layers.0.*", "head.*"])
    [True, False, True]
    """
    return [any(fnmatchcase(name, pattern) for pattern in patterns) for name in names]


def chosen(tree: PyTree, patterns: Sequence[str]) -> PyTree:
    """Return a tree of bool: which leaves a pattern matches."""
    return jax.tree.unflatten(jax.tree.structure(tree), matched(leaf_names(tree), patterns))


def with_frozen(params: PyTree, patterns: Sequence[str]) -> PyTree:
    """Return parameters of which those that a pattern matches get no gradient.

    Without it their gradients would count in its norm, and take time.
    """
    if not patterns:
        return params
    return jax.tree.map(lambda leaf, frozen: stop_gradient(leaf) if frozen else leaf, params, chosen(params, patterns))


def check_patterns(names: Sequence[str], patterns: Sequence[str], key: str) -> None:
    """Refuse patterns that match nothing.

    Args:
        names: all names.
        patterns: patterns of them.
        key: the key of the configuration that holds them, for the message.

    Raises:
        ConfigError: a pattern matches no name; the message lists these.
    """
    for pattern in patterns:
        if not any(matched(names, [pattern])):
            raise ConfigError(f"{key}: {pattern!r} matches no parameter; there are {', '.join(names)}")
