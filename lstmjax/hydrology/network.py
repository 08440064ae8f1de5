"""The networks of regional models: their parameters and their discharge, in a table by cell."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.entity import EntityParams, as_vanilla
from lstmjax.forecast.network import Normal, normal_of
from lstmjax.forecast.series import SeriesError, SeriesSet
from lstmjax.hydrology.basins import Period, by_basin, during
from lstmjax.hydrology.design import Design
from lstmjax.init_hydrology import init_entity_aware, init_mass_conserving
from lstmjax.init_stack import init_network
from lstmjax.layer import lstm
from lstmjax.mass import MassParams, MassStep
from lstmjax.mass_layer import mass_conserving, outflow
from lstmjax.networks import Dense, NetworkParams
from lstmjax.stack import drop, stacked
from lstmjax.types import Array, PyTree

MASS_FORM = "hydrology"
"""The row of `lstmjax.mass.MASS_FORMS` that was made for rainfall and runoff."""

EPSILON = 0.1
"""mm/day, added to the standard deviation of each basin in the loss, so that dry basins do not rule it."""


class Scales(NamedTuple):
    """Means and standard deviations over the training period; kept with a model, and never computed again."""

    normal: Normal
    """Of forcing ("known") and attributes ("numbers")."""
    discharge: tuple[np.ndarray, np.ndarray]
    """Of all discharges, float32 `[]`."""
    deviation: np.ndarray
    """Standard deviation of the discharge of each basin of the training, float32 `[S]`; only the loss uses it."""


def scales_of(basins: SeriesSet, period: Period) -> Scales:
    """Return what is known of a training period, and of nothing else.

    Raises:
        SeriesError: a basin has no discharge in the period, or an attribute is missing.
    """
    training = during(basins, period)
    missing = np.isnan(basins.numbers)
    if missing.any():
        s, column = np.argwhere(missing)[0]
        raise SeriesError(
            f"basin {basins.names[s]!r} has no {basins.number_names[column]!r}; every attribute is needed for every "
            "basin. Fill it, or leave out the attribute or the basin."
        )
    counts = [np.sum(~np.isnan(discharge)) for discharge in by_basin(training, training.target)]
    if min(counts) < 2:
        raise SeriesError(
            f"basin {basins.names[int(np.argmin(counts))]!r} has {min(counts)} discharges between {period[0]} and "
            f"{period[1]}, expected at least 2. Leave it out with basins.subset(...), or choose another period."
        )
    deviation = np.array([np.nanstd(discharge) for discharge in by_basin(training, training.target)], np.float32)
    mean, spread = (np.asarray(of(training.target), np.float32) for of in (np.nanmean, np.nanstd))
    return Scales(normal_of(training), (mean, np.where(spread > 0, spread, np.float32(1.0))), deviation)


class Setting(NamedTuple):
    """What a network needs beside its parameters."""

    design: Design
    scales: Scales
    mass: int | None
    """Column of the forcing that is conserved; None: the cell conserves nothing."""


class Network(NamedTuple):
    """A row of `NETWORKS`."""

    init: Callable[..., PyTree]
    """(key, design, F, A) -> parameters."""
    layer: Callable[..., tuple[PyTree, Array]]
    """(params, forcing [B, T, F], attributes [B, A], state, lengths [B] or None, setting, emit) -> (state, h or c
    [B, T, H]), forcing and attributes as they are, emit "h" or "c"."""
    read_out: Callable[..., Array]
    """(params, h [B, T, H], setting, key) -> discharge [B, T] in mm/day; key is for dropout."""


def run(
    params: PyTree, forcing: Array, attributes: Array, setting: Setting, *, state: PyTree = None,
    lengths: Array | None = None, last: int | None = None, key: Array | None = None,
) -> tuple[PyTree, Array]:  # fmt: skip
    """Run one network; return its state after the last day, and the discharge.

    Args:
        params: of one network.
        forcing: as it is, `[B, T, F]`.
        attributes: as they are, `[B, A]`.
        setting: the design and the scales.
        state: to begin from; None: zeros.
        lengths: days of each sequence, `[B]`; None: T.
        last: how many of the last days to return; None: all.
        key: for dropout; None: evaluation.

    Returns:
        (state, discharge `[B, last]` in mm/day).
    """
    network = NETWORKS[setting.design.cell]
    state, hs = network.layer(params, forcing, attributes, state, lengths, setting, "h")
    return state, network.read_out(params, hs if last is None else hs[:, -last:], setting, key)


def scaled(scales: Scales, forcing: Array, attributes: Array) -> tuple[Array, Array]:
    """Return forcing `[..., F]` and attributes `[..., A]` with mean 0 and standard deviation 1 in training."""
    forcing = (forcing - _like(scales.normal.known[0], forcing)) / _like(scales.normal.known[1], forcing)
    attributes = (attributes - _like(scales.normal.numbers[0], attributes)) / _like(
        scales.normal.numbers[1], attributes
    )
    return forcing, attributes


def _like(values: np.ndarray, other: Array) -> Array:
    return jnp.expand_dims(jnp.asarray(values), range(other.ndim - 1))


def beside(forcing: Array, attributes: Array) -> Array:
    """Return forcing with the attributes repeated at each step, `[B, T, F + A]`."""
    repeated = jnp.broadcast_to(attributes[:, None], (*forcing.shape[:2], attributes.shape[-1]))
    return jnp.concatenate([forcing, repeated], -1)


def _read_head(params: NetworkParams | EntityNetwork, hs: Array, setting: Setting, key: Array | None) -> Array:
    hs = drop(key, hs, setting.design.dropout)
    mean, deviation = setting.scales.discharge
    return ((hs @ params.head.w)[..., 0] + params.head.b[0]) * deviation + mean


def _init_vanilla(key: Array, design: Design, forcing: int, attributes: int) -> NetworkParams:
    return init_network(key, forcing + attributes, design.hidden_size, 1, forget_bias=design.forget_bias)


def _vanilla(
    params: NetworkParams, forcing: Array, attributes: Array, state: PyTree, lengths: Array | None, setting: Setting,
    emit: str,
) -> tuple[PyTree, Array]:  # fmt: skip
    xs = beside(*scaled(setting.scales, forcing, attributes))
    return stacked(params.layers, xs, state, lengths=lengths, emit=emit)


class EntityNetwork(NamedTuple):
    """The parameters of an entity-aware network."""

    layer: EntityParams
    head: Dense


def _init_entity_aware(key: Array, design: Design, forcing: int, attributes: int) -> EntityNetwork:
    layer_key, head_key = jax.random.split(key)
    layer = init_entity_aware(layer_key, forcing, attributes, design.hidden_size, forget_bias=design.forget_bias)
    w = jax.random.normal(head_key, (design.hidden_size, 1)) / design.hidden_size**0.5
    return EntityNetwork(layer, Dense(w, jnp.zeros(1)))


def _entity_aware(
    params: EntityNetwork, forcing: Array, attributes: Array, state: PyTree, lengths: Array | None, setting: Setting,
    emit: str,
) -> tuple[PyTree, Array]:  # fmt: skip
    # as the vanilla layer that it equals, since the native kernel runs that: the gradient for five seeds, 32 windows
    # and 32 units took 0.18 s, and that of `entity_aware` 0.32 s, on two CPU cores
    xs = beside(*scaled(setting.scales, forcing, attributes))
    return lstm(as_vanilla(params.layer), xs, state, lengths=lengths, emit=emit)


def _init_mass_conserving(key: Array, design: Design, forcing: int, attributes: int) -> MassParams:
    return init_mass_conserving(key, forcing - 1 + attributes, design.hidden_size, form=MASS_FORM)


def _mass_conserving(
    params: MassParams, forcing: Array, attributes: Array, state: PyTree, lengths: Array | None, setting: Setting,
    emit: str,
) -> tuple[PyTree, Array]:  # fmt: skip
    assert setting.mass is not None
    auxiliary = jnp.delete(beside(*scaled(setting.scales, forcing, attributes)), setting.mass, axis=-1)
    mass = forcing[..., setting.mass, None]  # mm/day: what is to be conserved must not be scaled
    return mass_conserving(
        params, mass, auxiliary, state, lengths=lengths, form=MASS_FORM, emit=stored if emit == "c" else emit
    )


def stored(step: MassStep) -> Array:
    """Return c of a step."""
    return step.c


def _read_outflow(params: MassParams, hs: Array, setting: Setting, key: Array | None) -> Array:
    return outflow(hs)


NETWORKS = MappingProxyType(
    {
        "vanilla": Network(_init_vanilla, _vanilla, _read_head),
        "entity_aware": Network(_init_entity_aware, _entity_aware, _read_head),
        "mass_conserving": Network(_init_mass_conserving, _mass_conserving, _read_outflow),
    }
)
"""The networks, by the name of their cell."""
