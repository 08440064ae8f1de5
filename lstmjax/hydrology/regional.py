"""One network for many basins: run over windows, or over decades."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lstmjax.forecast.calendar import shown_time
from lstmjax.forecast.series import SeriesError, SeriesSet
from lstmjax.forecast.windows import Table, table_of
from lstmjax.hydrology.basins import Levels, Period, by_basin, days_of, encoded, is_mm_a_day, unit_of, within
from lstmjax.hydrology.design import Design
from lstmjax.hydrology.network import NETWORKS, Scales, Setting, run
from lstmjax.hydrology.windows import cut
from lstmjax.types import Array, PyTree

LARGEST_SHARE = 3.0
"""Of the precipitation that runs off, in the median basin; above 1 where snow and glaciers melt or rain is missed."""
LARGEST_RAIN = 50.0
"""mm/day in the median basin; the wettest places on Earth have 33."""


class Frozen:
    """Constants of a program, compared by their values."""

    def __init__(self, value: PyTree) -> None:
        self.value = value
        self._bytes = tuple(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(value))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frozen) and self._bytes == other._bytes

    def __hash__(self) -> int:
        return hash(self._bytes)


class Simulation(NamedTuple):
    """Discharge of all days of all basins, by each network, and the state after the last day."""

    discharge: np.ndarray
    """float32 `[seeds, N]`, mm/day, a column for each row of the basins: `by_basin` splits them."""
    state: PyTree
    """Of each network and basin, `[seeds, S, H]`."""
    names: tuple[str, ...] = ()
    """The basins."""
    last_days: np.ndarray | None = None
    """The last day of each basin, datetime64[D] `[S]`; None: the basins have no dates."""

    @property
    def mean(self) -> np.ndarray:
        """The mean of the networks, `[N]`."""
        return self.discharge.mean(0)


@dataclass(frozen=True)
class RegionalModel:
    """An ensemble of networks that differ by their seed; it may have one member."""

    params: PyTree
    """Of all members: each array has the seeds on its first axis."""
    design: Design
    scales: Scales
    seeds: tuple[int, ...]
    forcing_names: tuple[str, ...]
    attribute_names: tuple[str, ...]
    losses: tuple[tuple[float, ...], ...] = ()
    """Mean loss of each member, at ten points of the training."""
    levels: Levels = ()
    """Categories among the attributes, and the words of each that were learnt."""

    @property
    def setting(self) -> Setting:
        """What the networks need beside their parameters."""
        conserved = self.design.cell == "mass_conserving"
        return Setting(self.design, self.scales, self.forcing_names.index(self.design.mass) if conserved else None)

    def member(self, index: int) -> RegionalModel:
        """Return one network as a model of its own."""
        params = jax.tree.map(lambda leaf: leaf[index : index + 1], self.params)
        return replace(self, params=params, seeds=self.seeds[index : index + 1], losses=self.losses[index : index + 1])

    def predict(
        self, basins: SeriesSet, period: Period, *, last: int | None = None, batch_size: int = 256
    ) -> np.ndarray:
        """Predict every day of a period from a window of days that begins with empty stores, as in the training.

        Args:
            basins: with the forcing and the attributes of the training. Discharges are not read.
            period: first and last day.
            last: days that each window predicts, its last ones; 1: each day has a window of its own. None: as in the
                training, `design.predict`.
            batch_size: windows at a time.

        Returns:
            float32 `[seeds, N]`, mm/day, a column for each row of the basins; NaN outside of the period, and where
            there is no window: too early in a record, or with a missing forcing in it.
        """
        basins = self._encoded(basins)
        design = self.design if last is None else replace(self.design, predict=last)
        days = np.flatnonzero(within(basins, period))
        basin = np.searchsorted(basins.starts, days, "right") - 1
        ends = np.concatenate([_tiled(days[basin == s], design.predict) for s in np.unique(basin)])
        basin = np.searchsorted(basins.starts, ends, "right") - 1
        first = ends - design.window + 1
        missing = np.concatenate([[0], np.cumsum(np.isnan(basins.known).any(1))])
        usable = (first >= basins.starts[basin]) & (missing[ends + 1] == missing[np.maximum(first, 0)])
        ends, basin = ends[usable], basin[usable].astype(np.int32)
        day = (ends - basins.starts[basin]).astype(np.int32)
        out = np.full((len(self.seeds), len(basins.target)), np.nan, np.float32)
        table, setting = table_of(basins), Frozen(self.setting._replace(design=design))
        for start in range(0, len(ends), batch_size):
            # the last batch repeats its last window, so that one program serves all
            at = np.minimum(np.arange(start, start + batch_size), len(ends) - 1)
            predicted = _predict(self.params, table, basin[at], day[at], setting=setting)
            out[:, ends[at][:, None] + np.arange(1 - design.predict, 1)] = np.asarray(predicted)
        out[:, ~within(basins, period)] = np.nan
        return out

    def simulate(
        self, basins: SeriesSet, *, state: PyTree | Simulation | None = None, batch_size: int = 64
    ) -> Simulation:
        """Run the networks over all days of the basins, however many, in one scan.

        Args:
            basins: with the forcing and the attributes of the training. Discharges are not read.
            state: the simulation of the days before, to go on from: its basins and days are compared with these. Or
                the `state` of it alone, of as many basins, which are taken to be the same. None: empty stores, so that
                the first year is warm-up.
            batch_size: basins at a time, which bounds the memory.

        Raises:
            SeriesError: a forcing is missing, or the state belongs to other basins or days or another ensemble.
        """
        after, discharge = self._over_time(_simulate, basins, state, batch_size)
        last_days = None
        if basins.times is not None:
            last_days = np.array([days_of(basins, s)[-1] for s in range(len(basins))])
        return Simulation(discharge, after, basins.names, last_days)

    def cell_states(self, basins: SeriesSet, *, state: PyTree | None = None, batch_size: int = 64) -> np.ndarray:
        """Return the cell states c after each day, float32 `[seeds, N, H]`: what the networks store.

        Args:
            basins, state, batch_size: as for `simulate`.
        """
        return self._over_time(partial(_units, emit="c"), basins, state, batch_size)[1]

    def balance(self, basins: SeriesSet, *, state: PyTree | None = None, batch_size: int = 64) -> np.ndarray:
        """Return what a mass-conserving network loses or gains over all days, as a fraction of the precipitation.

            (Σ mass in + stored before − Σ mass out of all units − stored after) / Σ mass in

        Args:
            basins, state, batch_size: as for `simulate`.

        Returns:
            float64 `[seeds, S]`, 0 to rounding.

        Raises:
            SeriesError: the cell conserves nothing.
        """
        mass = self.setting.mass
        if mass is None:
            raise SeriesError(f"the cell is {self.design.cell!r}, which has no balance; fit a mass-conserving one.")
        after, left = self._over_time(partial(_units, emit="h"), basins, state, batch_size)
        entered = np.array([rain.sum() for rain in by_basin(basins, basins.known[:, mass])])
        out = np.array([[part.sum() for part in by_basin(basins, of)] for of in left.astype(np.float64).sum(-1)])
        stored = _state_of(state, basins)
        before = 0.0 if stored is None else np.asarray(stored, np.float64).sum(-1)
        return (entered + before - out - np.asarray(after, np.float64).sum(-1)) / entered

    def _over_time(
        self, program: Callable[..., tuple[PyTree, Array]], basins: SeriesSet, state: PyTree | None, batch_size: int
    ) -> tuple[PyTree, np.ndarray]:
        """Run a program over all days, some basins at a time; return the states, and values `[seeds, N, …]`."""
        basins = self._encoded(basins)
        _check_forcing(basins)
        state = _state_of(state, basins)
        _check_state(state, len(self.seeds), len(basins))
        lengths = np.diff(basins.starts)
        states, parts = [], []
        for start in range(0, len(basins), batch_size):
            which = np.arange(start, min(start + batch_size, len(basins)))
            longest = lengths[which].max()
            # a shorter record repeats its last day, which its length hides
            days = np.minimum(np.arange(longest), lengths[which][:, None] - 1)
            forcing = basins.known[basins.starts[which][:, None] + days]
            ragged = bool((lengths[which] < longest).any())
            after, values = program(
                self.params,
                jnp.asarray(forcing, jnp.float32),
                jnp.asarray(basins.numbers[which], jnp.float32),
                None if state is None else jax.tree.map(lambda leaf, at=which: jnp.asarray(leaf)[:, at], state),
                jnp.asarray(lengths[which], jnp.int32) if ragged else None,
                setting=Frozen(self.setting),
            )
            parts.append(np.asarray(values)[:, np.arange(longest) < lengths[which][:, None]])
            states.append(jax.tree.map(np.asarray, after))
        return jax.tree.map(lambda *of: np.concatenate(of, 1), *states), np.concatenate(parts, 1)

    def _encoded(self, basins: SeriesSet) -> SeriesSet:
        """Return checked basins whose attributes are numbers."""
        check_columns(basins, self.forcing_names, self.attribute_names)
        check_mass(basins, self.design)
        if np.isnan(basins.numbers).any():
            s, column = np.argwhere(np.isnan(basins.numbers))[0]
            raise SeriesError(f"basin {basins.names[s]!r} has no {self.attribute_names[column]!r}; fill it.")
        return encoded(basins, self.levels)


def check_columns(basins: SeriesSet, forcing: tuple[str, ...], attributes: tuple[str, ...]) -> None:
    """Refuse basins with other columns than a model was fitted with."""
    for word, names, expected in (
        ("forcing", basins.known_names, forcing),
        ("attributes", basins.number_names, attributes),
    ):
        if names != expected:
            raise SeriesError(
                f"the basins have the {word} {', '.join(names)}, but the model was fitted with {', '.join(expected)}, "
                "in this order."
            )


def check_mass(basins: SeriesSet, design: Design) -> None:
    """Refuse basins without the mass of a design, in another unit than mm/day, or with a negative one."""
    if design.cell != "mass_conserving":
        return
    if design.mass not in basins.known_names:
        raise SeriesError(
            f"mass is {design.mass!r}, but the forcing is {', '.join(basins.known_names)}; pass the name of the "
            "precipitation."
        )
    unit = unit_of(basins, design.mass)
    if unit is not None and not is_mm_a_day(unit):
        raise SeriesError(
            f"mass is {design.mass!r}, which is in {unit!r}, expected mm/day, the unit of the discharge: the cell adds "
            "and subtracts both. Bring it to mm/day, neither standardised nor in metres, and its unit, too."
        )
    mass = basins.known[:, basins.known_names.index(design.mass)]
    if (mass < 0).any():
        row = int(np.argmax(mass < 0))
        s = int(np.searchsorted(basins.starts, row, "right")) - 1
        raise SeriesError(
            f"basin {basins.names[s]!r} has {mass[row]:g} of {design.mass!r} in row {row - basins.starts[s]}; mass is "
            "at least 0, in mm/day, not standardised."
        )


def check_water(basins: SeriesSet, design: Design) -> None:
    """Refuse a mass whose size does not fit the discharge: one of them is in another unit.

    Args:
        basins: with the discharges and the mass of a training period.
        design: of the network.
    """
    if design.cell != "mass_conserving":
        return
    mass = basins.known[:, basins.known_names.index(design.mass)]
    known = ~np.isnan(mass) & ~np.isnan(basins.target)
    count, rain, flow = (
        np.array([part.sum() for part in by_basin(basins, np.where(known, values, 0.0))])
        for values in (np.ones(len(mass)), mass, basins.target)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        share, daily = float(np.nanmedian(flow / rain)), float(np.nanmedian(rain / count))
    if share > LARGEST_SHARE or daily > LARGEST_RAIN:
        raise SeriesError(
            f"mass is {design.mass!r}, with {daily:.3g} a day, and the discharge is {share:.3g} times as much (medians "
            "of the basins). Both should be in mm/day: no more than falls can run off. Is the precipitation in metres, "
            "or scaled, or the discharge in m³/s?"
        )


def _check_forcing(basins: SeriesSet) -> None:
    missing = np.isnan(basins.known)
    if missing.any():
        row, column = np.argwhere(missing)[0]
        s = int(np.searchsorted(basins.starts, row, "right")) - 1
        when = f"day {row - basins.starts[s]}" if basins.times is None else shown_time(basins.times[row])
        raise SeriesError(
            f"basin {basins.names[s]!r} has no {basins.known_names[column]!r} on {when}; a simulation needs the "
            "forcing of every day. Fill it, or use predict, which leaves out windows with such a day."
        )


def _state_of(state: PyTree | Simulation | None, basins: SeriesSet) -> PyTree | None:
    """Return the state after a simulation, whose basins must go on with these days.

    Raises:
        SeriesError: other basins, or other days than the next ones.
    """
    if not isinstance(state, Simulation):
        return state
    if state.names != basins.names:
        pairs = zip(state.names, basins.names, strict=False)
        differing = next((f"{a!r} in the place of {b!r}" for a, b in pairs if a != b), "another number of them")
        raise SeriesError(
            f"state is a simulation of other basins, or in another order: {differing}. Pass that of the same basins."
        )
    if state.last_days is not None and basins.times is not None:
        for s, last in enumerate(state.last_days):
            first, expected = days_of(basins, s)[0], last + np.timedelta64(1, "D")
            if first != expected:
                raise SeriesError(
                    f"state is a simulation that ends on {last} for basin {basins.names[s]!r}, whose days go on with "
                    f"{first}, expected {expected}. Simulate the days between them first."
                )
    return state.state


def _check_state(state: PyTree | None, seeds: int, count: int) -> None:
    for leaf in jax.tree.leaves(state):
        if np.ndim(leaf) != 3 or np.shape(leaf)[:2] != (seeds, count):
            raise SeriesError(
                f"state has an array {list(np.shape(leaf))}, expected [{seeds}, {count}, H]: {seeds} networks and "
                f"{count} basins, as the simulation of the days before returned it."
            )
        if not np.isfinite(leaf).all():
            raise SeriesError("state is not finite; pass what the simulation of the days before returned.")


def _tiled(rows: np.ndarray, predict: int) -> np.ndarray:
    """Return last rows of windows that together predict all of consecutive rows, `predict` each."""
    ends = np.arange(rows[0] + predict - 1, rows[-1] + predict, predict)
    return np.unique(np.minimum(ends, rows[-1]))


@partial(jax.jit, static_argnames="setting")
def _predict(params: PyTree, table: Table, basin: Array, day: Array, *, setting: Frozen) -> Array:
    design = setting.value.design
    window = cut(table, basin, day, design)

    def member(params: PyTree) -> Array:
        return run(params, window.forcing, window.attributes, setting.value, last=design.predict)[1]

    return jax.vmap(member)(params)


@partial(jax.jit, static_argnames="setting")
def _simulate(
    params: PyTree, forcing: Array, attributes: Array, state: PyTree, lengths: Array | None, *, setting: Frozen
) -> tuple[PyTree, Array]:
    def member(params: PyTree, state: PyTree) -> tuple[PyTree, Array]:
        return run(params, forcing, attributes, setting.value, state=state, lengths=lengths)

    return jax.vmap(member)(params, state)


@partial(jax.jit, static_argnames=("setting", "emit"))
def _units(
    params: PyTree, forcing: Array, attributes: Array, state: PyTree, lengths: Array | None, *, setting: Frozen,
    emit: str,
) -> tuple[PyTree, Array]:  # fmt: skip
    layer = NETWORKS[setting.value.design.cell].layer

    def member(params: PyTree, state: PyTree) -> tuple[PyTree, Array]:
        return layer(params, forcing, attributes, state, lengths, setting.value, emit)

    return jax.vmap(member)(params, state)
