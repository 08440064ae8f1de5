"""What a function with its own derivative must observe under vmap."""

import jax

from lstmjax.types import PyTree


def settled(tree: PyTree) -> PyTree:
    """Return the tree; where `jax.vmap` maps an axis of a leaf, that axis is the first one afterwards.

    JAX assumes that a `jax.custom_jvp` and its rule put the mapped axes of their outputs at the same places. They do
    not if one returns the outputs of a scan and the other its carry: the gradient of a vmap of a compiled call then
    fails, or takes one axis for another. So both the function and its rule end in `settled`, which the compiler drops.
    """
    return jax.tree.map(lambda a: jax.lax.squeeze(jax.lax.expand_dims(a, (0,)), (0,)), tree)
