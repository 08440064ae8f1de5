"""Train on several devices: each has a slice of the batch and, with the axis model, a part of the hidden units."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from lstmjax.config import ConfigError
from lstmjax.config.devices import AXES, parse_mesh
from lstmjax.data import Sequences
from lstmjax.types import LETTERS, Array, LSTMParams, PyTree

DATA, MODEL = AXES
Gradients = Callable[..., tuple[PyTree, Array, PyTree, PyTree]]
"""(params, carried, batch, key) -> (gradient, loss, sums, carried)."""


def make_mesh(
    split: str | Mapping[str, int] | Mesh | None, batch_size: int | None = None, *, streams: bool = False
) -> Mesh | None:
    """Return the devices of a training in the form in which they share the work; None: there is one device only.

    The devices of a process lie side by side, so that each process has one slice of the batch.

    Args:
        split: "auto", all devices of all processes, but no more than sequences in a batch; words such as
            "data=4,model=2", or a mapping; a mesh with the axes data and model; None: one device.
        batch_size: B; None: unknown.
        streams: whether the sequences of the batch go on from step to step, so that each device has as many of them.

    Raises:
        ConfigError: there are not so many devices, or processes or devices would have unequal parts.
    """
    if split is None:
        return None
    if isinstance(split, Mesh):
        if set(split.axis_names) - set(AXES) or DATA not in split.axis_names:
            raise ConfigError(
                f"mesh has the axes {', '.join(map(str, split.axis_names))}; they should be data, or data and model"
            )
        return split
    text = split if isinstance(split, str) else ",".join(f"{name}={size}" for name, size in split.items())
    try:
        sizes = parse_mesh(text)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    devices, processes = jax.devices(), jax.process_count()
    data = sizes.data
    if data is None:
        data = len(devices) // sizes.model
        if batch_size is not None and processes == 1:
            data = min(data, batch_size)
            while streams and batch_size % data:
                data -= 1
    if data * sizes.model > len(devices) or data == 0:
        raise ConfigError(
            f"mesh is {text}, which needs {max(data, 1) * sizes.model} devices, but there are {len(devices)}; give "
            "smaller sizes, or --mesh auto"
        )
    if processes > 1 and (data * sizes.model != len(devices) or jax.local_device_count() % sizes.model):
        raise ConfigError(
            f"mesh is {text}, but {processes} processes have {len(devices)} devices, {jax.local_device_count()} each; "
            "data times model should be all of them, and model divide those of a process"
        )
    if streams and batch_size is not None and batch_size % data:
        raise ConfigError(
            f"mesh splits the streams of a text into {data} parts, but batch_size is {batch_size}, which {data} does "
            "not divide; change one of the two"
        )
    if data * sizes.model == 1:
        return None
    grid = np.array(devices[: data * sizes.model]).reshape(data, sizes.model)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def check_hidden(mesh: Mesh | None, hidden_size: int) -> None:
    """Refuse hidden units that the axis model does not divide.

    Raises:
        ConfigError: it does not.
    """
    parts = 1 if mesh is None else mesh.shape.get(MODEL, 1)
    if hidden_size % parts:
        raise ConfigError(
            f"mesh splits the hidden units into {parts} parts, but model.hidden_size is {hidden_size}, which {parts} "
            "does not divide; change one of the two"
        )


def described(mesh: Mesh) -> str:
    """Say how a batch and the hidden units are split, for the log."""
    data, model, processes = mesh.shape[DATA], mesh.shape.get(MODEL, 1), jax.process_count()
    return (
        f"{data * model} devices"
        + (f" of {processes} processes" if processes > 1 else "")
        + f": the batch in {data} slices"
        + (f", the hidden units in {model} parts" if model > 1 else "")
    )


def split_model(mesh: Mesh) -> bool:
    """Return whether the hidden units are split."""
    return bool(mesh.shape.get(MODEL, 1) > 1)


def shardings(tree: PyTree, mesh: Mesh) -> PyTree:
    """Return how each array of a state lies on the devices.

    Hidden units are split where `types.LETTERS` has an H. An array of the optimizer has the path of a parameter behind
    its own, and its shape, and lies as that does; everything else is on each device.
    """
    names: dict[str, tuple[tuple[int, ...], PartitionSpec]] = {}
    if split_model(mesh):
        names = _specs_of_params(getattr(tree, "params", tree))
        if not names:
            raise ConfigError(
                f"mesh has model={mesh.shape[MODEL]}, but the parameters are not those of lstmjax layers, of which "
                "alone the hidden units are known; leave model out"
            )

    def place(path: Any, leaf: Any) -> NamedSharding:
        for n in range(len(path)):
            shape, spec = names.get(_name(path[n:]), (None, None))
            if spec is not None and shape == np.shape(leaf):
                for size, axis in zip(np.shape(leaf), spec, strict=True):
                    if axis is not None and size % mesh.shape[axis]:
                        check_hidden(mesh, size)
                return NamedSharding(mesh, spec)
        return NamedSharding(mesh, PartitionSpec())

    return jax.tree_util.tree_map_with_path(place, tree)


def _specs_of_params(params: PyTree) -> dict[str, tuple[tuple[int, ...], PartitionSpec]]:
    """Return shape and partition of each array of each layer, by its path."""
    specs = {}
    layers, _ = jax.tree_util.tree_flatten_with_path(params, is_leaf=lambda node: isinstance(node, LSTMParams))
    for above, node in layers:
        if not isinstance(node, LSTMParams):
            continue
        for path, leaf in jax.tree.leaves_with_path(node):
            letters = LETTERS[_name(path)]
            axes = [MODEL if letter == "H" else None for letter in letters]
            specs[_name((*above, *path))] = (np.shape(leaf), PartitionSpec(*axes))
    return specs


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def placed(tree: PyTree, mesh: Mesh) -> PyTree:
    """Return a state on the devices of a mesh; arrays that lie there stay."""
    leaves, structure = jax.tree.flatten(tree)
    if all(isinstance(leaf, jax.Array) and leaf.sharding.device_set == set(mesh.devices.flat) for leaf in leaves):
        return tree
    return jax.tree.unflatten(
        structure,
        [_put(leaf, place) for leaf, place in zip(leaves, jax.tree.leaves(shardings(tree, mesh)), strict=True)],
    )


def _put(leaf: Any, place: NamedSharding) -> Array:
    if jax.process_count() == 1:
        return jax.device_put(leaf, place)
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return leaf
    array = np.asarray(leaf)
    return jax.make_array_from_callback(array.shape, place, lambda index: array[index])


def on_one_device(tree: PyTree) -> PyTree:
    """Return a tree without its partition: arrays of one device, or of the host where they were split."""
    return jax.tree.map(_local, tree)


def _local(leaf: Any) -> Any:
    if not isinstance(leaf, jax.Array) or len(leaf.sharding.device_set) == 1:
        return leaf
    if leaf.is_fully_replicated:
        return leaf.addressable_data(0)
    array = np.empty(leaf.shape, leaf.dtype)  # a process has all parts, though not all copies of them
    for shard in leaf.addressable_shards:
        array[shard.index] = np.asarray(shard.data)
    return array


def placed_batch(batch: Any, mesh: Mesh) -> Any:
    """Return a batch with a slice of it on each device of the axis data.

    `Sequences` whose number these do not divide are filled up by copies at weight 0, which changes no result.

    Raises:
        ValueError: a batch of another kind has a leading axis that is not divisible.
    """
    parts = mesh.shape[DATA]
    if isinstance(batch, Sequences):
        batch = filled_up(batch, parts)
    rows = NamedSharding(mesh, PartitionSpec(DATA))
    for leaf in jax.tree.leaves(batch):
        if np.ndim(leaf) == 0 or len(leaf) % parts:
            raise ValueError(
                f"the batch has an array of shape {np.shape(leaf)}, expected a leading axis of sequences that {DATA}="
                f"{parts} divides; take another batch size, or mesh={{'data': ...}} with a number that divides it."
            )
    if jax.process_count() == 1:
        return jax.device_put(batch, rows)
    return jax.tree.map(lambda leaf: _from_slice(np.asarray(leaf), rows), batch)


def _from_slice(array: np.ndarray, place: NamedSharding) -> Array:
    share = len(array) // jax.process_count()
    first = jax.process_index() * share
    return jax.make_array_from_process_local_data(place, array[first : first + share], array.shape)


def filled_up(batch: Sequences, parts: int) -> Sequences:
    """Return a batch whose number of sequences `parts` divides; those that are added have weight 0."""
    count = len(batch.x)
    missing = -count % parts
    if not missing:
        return batch
    rows = np.concatenate([np.arange(count), np.zeros(missing, int)])
    more = batch.take(rows)
    weight = np.ones(count, np.float32) if batch.weight is None else batch.weight
    return more._replace(weight=np.concatenate([weight, np.zeros(missing, weight.dtype)]))


def by_slices(objective: Any, mesh: Mesh) -> Gradients:
    """Return the gradient of a sum over sequences that is divided by another one: each device adds up its slice.

    All is added up over the devices at once: gradient, loss and statistics, in one flat array for each dtype. Were the
    step split by the compiler, it could add up inside of the loop over time steps. What the model carries from step to
    step, with the sequences on its first axis, is complete on each device, which reads and writes its rows of it: they
    come back by the same sum, as rows among zeros. They are few beside the parameters.

    Args:
        objective: with `total(params, carried, batch, key)`, the loss before it is divided, the sums and what is
            carried, and `divisor(sums)`.
        mesh: the devices.
    """
    replicated, rows = PartitionSpec(), PartitionSpec(DATA)
    flat = not split_model(mesh)

    def local(params: PyTree, carried: PyTree, batch: Any, key: Array) -> tuple[PyTree, Array, PyTree, PyTree]:
        draws = jax.random.fold_in(key, jax.lax.axis_index(DATA))
        # Else JAX would add up the gradients itself, once an array.
        params, carried = jax.lax.pcast((params, carried), DATA, to="varying")
        mine = jax.tree.map(lambda array: _rows_of(array, mesh), carried)
        total = lambda params: objective.total(params, mine, batch, draws)
        (value, (sums, after)), gradient = jax.value_and_grad(total, has_aux=True)(params)
        after = jax.tree.map(_among_zeros, carried, after)
        added: tuple[PyTree, Array, PyTree, PyTree] = _added((gradient, value, sums, after), flat=flat)
        return added

    manual = {DATA} if split_model(mesh) else set(mesh.axis_names)  # the axis model is left to the compiler
    specs = (replicated, replicated, rows, replicated)
    run = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=replicated, axis_names=manual)

    def gradients(params: PyTree, carried: PyTree, batch: Any, key: Array) -> tuple[PyTree, Array, PyTree, PyTree]:
        gradient, value, sums, after = run(params, carried, batch, key)
        divisor = objective.divisor(sums)
        gradient = jax.tree.map(lambda leaf: leaf / divisor.astype(leaf.dtype), gradient)
        return gradient, value / divisor.astype(value.dtype), sums, after

    return gradients


def _rows_of(array: Array, mesh: Mesh) -> Array:
    """Return the rows of this device."""
    count = len(array) // mesh.shape[DATA]
    return jax.lax.dynamic_slice_in_dim(array, jax.lax.axis_index(DATA) * count, count)


def _among_zeros(array: Array, rows: Array) -> Array:
    """Return an array of zeros with the rows of this device in their place."""
    first = jax.lax.axis_index(DATA) * len(rows)
    return jax.lax.dynamic_update_slice_in_dim(jnp.zeros_like(array), rows, first, axis=0)


def _added(tree: PyTree, *, flat: bool) -> PyTree:
    """Add up a tree over the devices, as one flat array for each dtype."""
    leaves, structure = jax.tree.flatten(tree)
    zero = jax.lax.pcast(jnp.zeros(()), DATA, to="varying")  # what is the same on each device is added up, too
    leaves = [leaf + zero.astype(leaf.dtype) for leaf in leaves]
    if not flat:
        return jax.tree.unflatten(structure, jax.lax.psum(leaves, DATA))
    results = list(leaves)
    for dtype in sorted({leaf.dtype for leaf in leaves}, key=str):
        places = [n for n, leaf in enumerate(leaves) if leaf.dtype == dtype]
        total = jax.lax.psum(jnp.concatenate([leaves[n].reshape(-1) for n in places]), DATA)
        first = 0
        for n in places:
            results[n] = total[first : first + leaves[n].size].reshape(leaves[n].shape)
            first += leaves[n].size
    return jax.tree.unflatten(structure, results)


def over(mesh: Mesh, step: Callable[..., tuple[Any, Any]], *, donate: bool) -> Callable[..., tuple[Any, Any]]:
    """Return the compiled step over a mesh, which takes states and batches from anywhere.

    Args:
        mesh: the devices.
        step: (state, batch, key) -> (state, info).
        donate: as for `make_train_step`.
    """

    def on_mesh(state: PyTree, batch: Any, bits: Any, kind: str) -> tuple[Any, Any]:
        after, info = step(state, batch, jax.random.wrap_key_data(bits, impl=kind))
        return jax.lax.with_sharding_constraint(after, shardings(after, mesh)), info

    compiled = jax.jit(on_mesh, static_argnames="kind", donate_argnums=(0,) if donate else ())
    latest: list[Any] = [None, None]  # a key and its bits on the host, which go to every process

    def run(state: PyTree, batch: Any, key: Array) -> tuple[Any, Any]:
        if latest[0] is not key:
            latest[:] = [key, np.asarray(jax.random.key_data(key))]
        return compiled(placed(state, mesh), placed_batch(batch, mesh), latest[1], str(jax.random.key_impl(key)))

    return run
