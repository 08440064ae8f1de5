"""What a function with a derivative of its own must mind under vmap."""

import jax

from lstmjax.types import PyTree


def settled(tree: PyTree) -> PyTree:
    """Gives the tree itself; where vmap maps over an axis of a leaf, it is the first one from here on.

    JAX takes it for granted that a `jax.custom_jvp` and its rule put the mapped axes of their outputs at the same
    places, which they do not if the one gives a scan's outputs and the other what a scan carries: the gradient of a
    vmap of a compiled call then fails, or mistakes one axis for the other. So both end in this. The compiler drops it.
    """
    return jax.tree.map(lambda a: jax.lax.squeeze(jax.lax.expand_dims(a, (0,)), (0,)), tree)
