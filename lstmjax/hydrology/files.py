"""Basins in NetCDF files and datasets, and what readers of all layouts share. Needs `pip install 'lstmjax[hydrology]'`.

xarray and pandas are imported here and in `archives.py` only, and when a file is read.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lstmjax.claims import counted
from lstmjax.errors import UserError
from lstmjax.forecast.series import SeriesSet
from lstmjax.hydrology.basins import CODES, basins_from_arrays, by_basin, days_of, is_mm_a_day

if TYPE_CHECKING:
    import pandas
    import xarray

CALENDARS = ("standard", "gregorian", "proleptic_gregorian")


class BasinFileError(UserError, ValueError):
    """Files hold no basins in the layout that was expected."""


def needed(package: str) -> Any:
    """Return a package of the extra.

    Raises:
        BasinFileError: it is not installed.
    """
    from importlib import import_module

    try:
        return import_module(package)
    except ImportError:
        raise BasinFileError(
            f"files of basins are read by xarray, but {package} is not installed; pip install 'lstmjax[hydrology]'"
        ) from None


def read_netcdf(
    path: str | Path,
    *,
    target: str,
    forcing: Sequence[str],
    attributes: Sequence[str],
    categories: Sequence[str] = (),
    basin: str = "basin",
    date: str = "date",
    unit: str | None = None,
) -> SeriesSet:
    """Read the basins of one NetCDF file.

    Args:
        path: the file, as `xarray.open_dataset` reads it.
        target, forcing, attributes, categories, basin, date, unit: as for `from_dataset`.

    Raises:
        BasinFileError: xarray is not installed, there is no such file, or it has another form.
    """
    with opened(Path(path)) as dataset:
        try:
            return from_dataset(
                dataset, target=target, forcing=forcing, attributes=attributes, categories=categories, basin=basin,
                date=date, unit=unit,
            )  # fmt: skip
        except ValueError as error:
            raise BasinFileError(f"{path}: {error}") from None


def from_dataset(
    dataset: xarray.Dataset,
    *,
    target: str,
    forcing: Sequence[str],
    attributes: Sequence[str],
    categories: Sequence[str] = (),
    basin: str = "basin",
    date: str = "date",
    unit: str | None = None,
) -> SeriesSet:
    """Return the basins of an `xarray.Dataset`.

    Args:
        dataset: variables over the dimensions basin and date, in any order.
        target: the variable with the discharge, in mm/day, as its attribute `units` says; another unit is refused.
        forcing: variables over basin and date.
        attributes: variables over basin.
        categories: variables over basin with words, or numbers that stand for classes.
        basin, date: names of the dimensions; each has a coordinate of its name. Dates may be at noon, as means of a
            day often are.
        unit: of a discharge without an attribute `units`: "mm/day". None: the attribute says it.

    Returns:
        The basins. Days before the first and behind the last with any value of a basin are left out.

    Raises:
        BasinFileError: a variable or a dimension is missing, dates are not daily, or nothing says that the discharge is
            in mm/day.
    """
    check_names(forcing=forcing, attributes=attributes, categories=categories)
    for name in (basin, date):
        if name not in dataset.coords:
            raise BasinFileError(
                f"the dataset has no coordinate {name!r}, but {', '.join(map(str, dataset.coords)) or 'none'}; pass "
                "basin= and date=, the names of its dimensions. A dataset of one basin needs a dimension for it: "
                f"dataset.expand_dims({basin}=['name'])."
            )
    statics = [*attributes, *categories]
    check_columns("the dataset", [target, *forcing, *statics], list(map(str, dataset.variables)))
    for names, dims in (([target, *forcing], {basin, date}), (statics, {basin})):
        for name in names:
            if set(dataset[name].dims) != dims:
                raise BasinFileError(
                    f"{name!r} has the dimensions {', '.join(map(str, dataset[name].dims)) or 'none'}, expected "
                    f"{', '.join(sorted(dims))}."
                )
    check_unit(target, dataset[target].attrs, unit)
    labels = [word_of(value) for value in dataset[basin].values]
    _check_different("basin", labels)
    tables = {}
    for s, name in enumerate(labels):
        part = dataset[[target, *forcing]].isel({basin: s}).drop_vars(basin)
        table = part.to_dataframe()[[target, *forcing]].dropna(how="all")
        if len(table) == 0:
            raise BasinFileError(f"basin {name!r} has no value of {target!r} or of the forcing.")
        tables[name] = table
    values = {name: list(dataset[name].transpose(basin).values) for name in statics}
    return joined(tables, target, forcing, values, categories, units_in(dataset, forcing))


def as_dataset(basins: SeriesSet, simulations: Mapping[str, np.ndarray] | None = None) -> xarray.Dataset:
    """Return basins, and simulations of them, as an `xarray.Dataset` over basin and date; `to_netcdf` writes it.

    Args:
        basins: with dates.
        simulations: by name, each `[N]`, mm/day.

    Raises:
        BasinFileError: xarray is not installed, the basins have no dates, or a simulation has the name of a column.
    """
    xarray = needed("xarray")
    if basins.times is None:
        raise BasinFileError("the basins have no dates; pass start= where they are made.")
    columns = {"discharge": basins.target} | dict(zip(basins.known_names, basins.known.T, strict=True))
    for name, values in (simulations or {}).items():
        if name in columns or name in basins.number_names:
            raise BasinFileError(f"simulations has {name!r}, which is a column of the basins; choose another name.")
        columns[name] = np.asarray(values)
    parts = []
    for s, name in enumerate(basins.names):
        values = {column: ("date", by_basin(basins, array)[s]) for column, array in columns.items()}
        part = xarray.Dataset(values, {"date": days_of(basins, s).astype("datetime64[ns]"), "basin": name})
        parts.append(part)
    dataset = xarray.concat(parts, "basin", data_vars="all", join="outer")
    for name, unit in [*basins.units, *((name, "mm/day") for name in ("discharge", *(simulations or {})))]:
        dataset[name].attrs["units"] = unit
    statics: dict[str, Any] = {name: ("basin", basins.numbers[:, k]) for k, name in enumerate(basins.number_names)}
    for k, (name, words) in enumerate(basins.levels):
        statics[name] = ("basin", [words[code] for code in basins.categories[:, k]])
    return dataset.assign(statics)


def opened(path: Path) -> xarray.Dataset:
    """Return a NetCDF file, without its values."""
    xarray = needed("xarray")
    if not path.is_file():
        raise BasinFileError(f"{path}: there is no such file.")
    try:
        # xarray would read a variable whose unit is "days" as a length of time
        return xarray.open_dataset(path, decode_timedelta=False)
    except ImportError as error:
        raise BasinFileError(f"{path}: is not read by xarray, which needs a package for it: {error}") from None
    except (OSError, ValueError) as error:
        raise BasinFileError(f"{path}: is not read by xarray ({str(error).splitlines()[0]}).") from None


def check_names(**arguments: Sequence[str]) -> None:
    """Refuse a text in the place of a list of names, and names that are there twice."""
    for argument, names in arguments.items():
        if isinstance(names, str):
            raise BasinFileError(f"{argument} is {names!r}, expected a list of names: [{names!r}].")
        _check_different(argument, list(names))


def check_gauges(basins: Sequence[str]) -> None:
    """Refuse gauges that are numbers: 01013500 would be another one without its leading zero."""
    for gauge in basins:
        if not isinstance(gauge, str):
            raise BasinFileError(
                f"basins has {gauge!r}, a {type(gauge).__name__}; expected names in quotes, with their leading zeros: "
                "'01013500'."
            )


def _check_different(argument: str, names: Sequence[str]) -> None:
    for n, name in enumerate(names):
        if name in names[:n]:
            raise BasinFileError(f"{argument} has {name!r} twice; expected different names.")


def check_columns(where: str, names: Sequence[str], columns: Sequence[str]) -> None:
    """Refuse columns that lack a name."""
    missing = [name for name in names if name not in columns]
    if missing:
        raise BasinFileError(f"{where}: has no {missing[0]!r}, but {', '.join(columns)}.")


def check_unit(target: str, attributes: Mapping[str, Any], unit: str | None) -> None:
    """Refuse a discharge that is not in mm/day, or of which nothing says so.

    Args:
        target: its name.
        attributes: of the variable.
        unit: of a discharge whose attributes have none; None: it is not known.
    """
    if unit is not None and not (isinstance(unit, str) and is_mm_a_day(unit)):
        raise BasinFileError(f"unit is {unit!r}, expected 'mm/day'. m³/s become mm/day by 86.4 / area in km².")
    stated = stated_unit(attributes)
    if stated is None and unit is None:
        raise BasinFileError(
            f"{target!r} has no attribute 'units', so that nothing says whether it is in mm/day or in m³/s. If it is "
            "in mm/day, pass unit='mm/day' (data.unit: mm/day in a configuration), or write the attribute. m³/s "
            "become mm/day by 86.4 / area in km²."
        )
    if stated is not None and not is_mm_a_day(stated):
        raise BasinFileError(
            f"{target!r} is in {stated!r}, as its attribute says, expected mm/day. m³/s become mm/day by 86.4 / "
            "area in km²; write the attribute anew, too."
        )


def stated_unit(attributes: Mapping[str, Any]) -> str | None:
    """Return the unit in the attributes of a variable; None: it has none, or an empty one."""
    for name in ("units", "unit"):
        unit = attributes.get(name)
        if unit is not None and str(unit).strip():
            return str(unit).strip()
    return None


def units_in(dataset: xarray.Dataset, names: Sequence[str]) -> dict[str, str]:
    """Return the units of the variables that say theirs."""
    units = {name: stated_unit(dataset[name].attrs) for name in names}
    return {name: unit for name, unit in units.items() if unit is not None}


def word_of(value: Any) -> str:
    """Return a name or a class as text: of bytes, text or numbers; what is missing is ""."""
    if isinstance(value, bytes):
        return value.decode().strip()
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def joined(
    tables: Mapping[str, pandas.DataFrame],
    target: str,
    forcing: Sequence[str],
    static: Mapping[str, list[Any]],
    categories: Sequence[str],
    units: Mapping[str, str] | None = None,
) -> SeriesSet:
    """Return basins of a table for each, with dates as its index; days that are missing between others become NaN.

    Args:
        tables: by the name of the basin.
        target, forcing: columns.
        static: values of attributes and categories, one for each basin.
        categories: which of them are categories.
        units: of forcing, by name, as far as they are known.
    """
    pandas = needed("pandas")
    if target in forcing:
        raise BasinFileError(f"forcing has {target!r}, which is the discharge that is to be predicted; leave it out.")
    if not tables:
        raise BasinFileError("basins is empty, expected the name of a basin at least.")
    numbers = {name: _numbers(name, values) for name, values in static.items() if name not in categories}
    full = {}
    for gauge, table in tables.items():
        if not len(table):
            raise BasinFileError(f"basin {gauge!r} has no row of {target!r} and the forcing.")
        for name in (target, *forcing):
            if not pandas.api.types.is_numeric_dtype(table[name]):
                raise BasinFileError(
                    f"basin {gauge!r}: {name!r} holds {table[name].dtype}, such as {table[name].iloc[0]!r}, expected "
                    "numbers."
                )
        days = _days(gauge, table.index)
        full[gauge] = table.set_axis(days).reindex(pandas.date_range(days.min(), days.max(), freq="D"))
    _warn_of_negative(target, {gauge: table[target].to_numpy(np.float64) for gauge, table in full.items()})
    return basins_from_arrays(
        [table[target].to_numpy(np.float64) for table in full.values()],
        [table[list(forcing)].to_numpy(np.float64) for table in full.values()],
        np.stack(list(numbers.values()), -1) if numbers else np.zeros((len(full), 0)),
        start=[str(table.index[0].date()) for table in full.values()],
        names=list(full),
        forcing_names=forcing,
        attribute_names=list(numbers),
        categories={name: [word_of(value) for value in static[name]] for name in categories},
        units=units,
    )


def _warn_of_negative(target: str, discharges: Mapping[str, np.ndarray]) -> None:
    """Warn of discharges below 0, unless they are codes, which are refused."""
    lowest = {gauge: np.nanmin(values, initial=0.0) for gauge, values in discharges.items()}
    count = sum(int((values < 0).sum()) for values in discharges.values())
    gauge = min(lowest, key=lambda name: lowest[name])
    if count and lowest[gauge] not in CODES:
        warnings.warn(
            f"{counted(count, 'value')} of {target!r} below 0, such as {lowest[gauge]:g} of basin {gauge!r}, are "
            "learnt from as they are. If they stand for what is missing, write nothing or NaN in their place.",
            stacklevel=4,
        )


def _numbers(name: str, values: list[Any]) -> np.ndarray:
    """Return the values of an attribute, which may be whole numbers or flags, as float64."""
    for value in values:
        if np.asarray(value).dtype.kind not in "biuf":
            raise BasinFileError(
                f"the attribute {name!r} is text, such as {word_of(value)!r}; pass it by categories=, and the network "
                "sees a column of 0 and 1 for each word."
            )
    return np.array(values, np.float64)


def _days(gauge: str, index: pandas.Index) -> pandas.DatetimeIndex:
    """Return the days of an index, without a time zone.

    Raises:
        BasinFileError: no dates, of another calendar, not one for each day, or one twice.
    """
    pandas = needed("pandas")
    calendar = getattr(index, "calendar", None)
    if calendar is not None and calendar not in CALENDARS:
        raise BasinFileError(
            f"basin {gauge!r} has dates of the calendar {calendar!r}, whose days are not those of a gauge. Convert "
            f"them: dataset.convert_calendar('standard', dim={index.name!r}), and fill the days that it leaves out."
        )
    if calendar is not None:
        index = index.to_datetimeindex(time_unit="s")
    if not isinstance(index, pandas.DatetimeIndex):
        first = index[0] if len(index) else "nothing"
        raise BasinFileError(
            f"basin {gauge!r} has {first!r} as a date, expected days such as 2000-01-31 (of numbers, a unit such as "
            "'days since 2000-01-01'), in one time zone."
        )
    if index.hasnans:
        raise BasinFileError(f"basin {gauge!r} has a row without a date.")
    index = index.tz_localize(None)
    days = index.normalize()
    if (index != days).any() and not (index - days == pandas.Timedelta("12h")).all():
        raise BasinFileError(
            f"basin {gauge!r} has times within a day, {index[index != days][0]}; expected one value a day, at 0 or 12 "
            "o'clock. Take means of days: dataset.resample(date='1D').mean()."
        )
    if days.has_duplicates:
        raise BasinFileError(f"basin {gauge!r} has the day {days[days.duplicated()][0].date()} twice.")
    return days
