"""Basins in the folders of CAMELS and Caravan, as they are published. Needs `pip install 'lstmjax[hydrology]'`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lstmjax.forecast.series import SeriesSet
from lstmjax.hydrology.files import (
    BasinFileError,
    check_columns,
    check_gauges,
    check_names,
    check_unit,
    joined,
    needed,
    opened,
    units_in,
    word_of,
)

if TYPE_CHECKING:
    import pandas

CUBIC_FEET = 28316846.592
"""mm³ in a cubic foot."""
MISSING = -999.0
"""What CAMELS writes for a value that was not measured."""
SMALLEST_AREA = 1e5
"""m²: a catchment of CAMELS below this (0.1 km²; its smallest has 4 km²) is one whose area is in another unit."""

Tables = Mapping[str, "pandas.DataFrame"]
"""Columns of attributes, by the name of their file; the index is the gauge."""


def read_caravan(
    folder: str | Path,
    basins: Sequence[str],
    *,
    forcing: Sequence[str] = (
        "total_precipitation_sum", "temperature_2m_mean", "temperature_2m_min", "temperature_2m_max",
        "potential_evaporation_sum",
    ),
    attributes: Sequence[str],
    categories: Sequence[str] = (),
    target: str = "streamflow",
) -> SeriesSet:  # fmt: skip
    """Read basins of Caravan (Kratzert et al. 2023), or of an extension in its layout.

    Args:
        folder: with timeseries/netcdf/SOURCE/GAUGE.nc (or timeseries/csv/SOURCE/GAUGE.csv) and
            attributes/SOURCE/*.csv.
        basins: gauges, "camels_01022500"; what stands before the first underscore is the SOURCE.
        forcing: columns of the time series.
        attributes: columns of the attributes that are numbers.
        categories: columns of the attributes that are words, or numbers that stand for classes.
        target: the column with the discharge, mm/day.

    Raises:
        BasinFileError: xarray is not installed, a file, a gauge or a column is missing, an attribute is text.
    """
    pandas, folder = needed("pandas"), Path(folder)
    check_gauges(basins)
    check_names(basins=basins, forcing=forcing, attributes=attributes, categories=categories)
    tables, static = {}, {}
    units: dict[str, str] = {}
    for source in dict.fromkeys(gauge.split("_")[0] for gauge in basins):
        place = folder / "attributes" / source
        static[source] = _attribute_tables(place, sorted(place.glob("*.csv")), "no CSV file of attributes", sep=",")
    for gauge in basins:
        source = gauge.split("_")[0]
        netcdf = folder / "timeseries" / "netcdf" / source / f"{gauge}.nc"
        csv = folder / "timeseries" / "csv" / source / f"{gauge}.csv"
        if netcdf.is_file():
            with opened(netcdf) as dataset:
                check_columns(str(netcdf), ["date"], list(map(str, dataset.coords)))
                check_columns(str(netcdf), [target, *forcing], list(map(str, dataset.data_vars)))
                check_unit(target, dataset[target].attrs, "mm/day")  # which the layout is in
                for name, unit in units_in(dataset, forcing).items():
                    if units.setdefault(name, unit) != unit:
                        raise BasinFileError(f"{netcdf}: has {name!r} in {unit!r}, others in {units[name]!r}.")
                tables[gauge] = dataset[[target, *forcing]].to_dataframe()
        elif csv.is_file():
            table = _read(csv)
            check_columns(str(csv), ["date", target, *forcing], list(table.columns))
            if pandas.api.types.is_numeric_dtype(table["date"]) and len(table):
                raise BasinFileError(
                    f"{csv}: its column 'date' holds numbers, such as {table['date'].iloc[0]}; expected days such as "
                    "2000-01-31."
                )
            try:
                table.index = pandas.DatetimeIndex(pandas.to_datetime(table["date"]))
            except ValueError as error:
                raise BasinFileError(f"{csv}: its column 'date' is not read as dates ({_line(error)}).") from None
            tables[gauge] = table[[target, *forcing]]
        else:
            raise BasinFileError(f"{netcdf}: there is no such file, nor is there {csv}.")
    rows = {gauge: static[gauge.split("_")[0]] for gauge in basins}
    values = _attributes(rows, [*attributes, *categories], folder / "attributes")
    return joined(tables, target, forcing, values, categories, units)


def read_camels(
    folder: str | Path,
    basins: Sequence[str],
    *,
    product: str = "daymet",
    forcing: Sequence[str] = ("prcp(mm/day)", "srad(W/m2)", "tmax(C)", "tmin(C)", "vp(Pa)"),
    attributes: Sequence[str],
    categories: Sequence[str] = (),
) -> SeriesSet:
    """Read basins of CAMELS in the United States (Newman et al. 2015, Addor et al. 2017).

    Discharges are in cubic feet a second, and become mm/day by the catchment's area, the third line of its file of
    forcing. What is -999, and any discharge below 0, is missing.

    Args:
        folder: with basin_mean_forcing/PRODUCT/[HUC/]GAUGE_lump_*_forcing_leap.txt,
            usgs_streamflow/[HUC/]GAUGE_streamflow_qc.txt and camels_attributes_v2.0/camels_*.txt.
        basins: gauges of eight digits, "01022500".
        product: the folder of the forcing: "daymet", "maurer", "maurer_extended", "nldas" or "nldas_extended". In
            maurer and nldas tmin is tmax.
        forcing: columns of the files of forcing, in upper or lower case: products differ.
        attributes: columns of the attributes that are numbers.
        categories: columns of the attributes that are words, such as "dom_land_cover"; "" is for a basin without one.

    Raises:
        BasinFileError: pandas is not installed, a file, a gauge or a column is missing, an attribute is text.
    """
    needed("pandas")
    check_gauges(basins)
    check_names(basins=basins, forcing=forcing, attributes=attributes, categories=categories)
    folder = Path(folder)
    place = folder / "camels_attributes_v2.0"
    static = _attribute_tables(place, sorted(place.glob("camels_*.txt")), "no files camels_*.txt", sep=";")
    weather = folder / "basin_mean_forcing" / product
    if not weather.is_dir():
        there = sorted(path.name for path in weather.parent.glob("*") if path.is_dir())
        raise BasinFileError(f"{weather}: there is no such folder; products here: {', '.join(there) or 'none'}.")
    tables = {}
    for gauge in basins:
        table, area = _camels_forcing(_single(weather, f"{gauge}_*_forcing_leap.txt"), forcing)
        flow = _camels_flow(_single(folder / "usgs_streamflow", f"{gauge}_streamflow_qc.txt"), gauge)
        discharge = flow.where(flow >= 0) * CUBIC_FEET * 86400 / (area * 1e6)
        tables[gauge] = table.join(discharge, how="left")
    values = _attributes(dict.fromkeys(basins, static), [*attributes, *categories], place)
    return joined(tables, "discharge", forcing, values, categories)


def _camels_forcing(path: Path, forcing: Sequence[str]) -> tuple[pandas.DataFrame, float]:
    """Return the forcing of a basin by date, and its area in m²: the last of the three lines above the titles."""
    with path.open() as file:
        line = [file.readline() for _ in range(3)][2].strip()
    try:
        area = float(line)
    except ValueError:
        area = np.nan
    if not area > 0:
        raise BasinFileError(f"{path}: its third line is {line!r}, expected the area of the catchment in m².")
    if area < SMALLEST_AREA:
        raise BasinFileError(
            f"{path}: its third line is {line!r}, an area of {area:g} m² if it is in m², as expected. Is it in km²? "
            "Write it in m²: discharges are divided by it."
        )
    table = _read(path, sep=r"\s+", skiprows=3).rename(columns=lambda title: title.lower())
    names = [name.lower() for name in forcing]
    check_columns(str(path), ["year", "mnth", "day", *names], list(table.columns))
    table.index = _dates(path, table["year"], table["mnth"], table["day"])
    table = table[names].set_axis(list(forcing), axis=1)
    return table.mask(table == MISSING), area


def _camels_flow(path: Path, gauge: str) -> pandas.Series:
    """Return the discharge of a basin by date, in cubic feet a second; -999 where it is missing."""
    names = ["gauge", "year", "month", "day", "discharge", "flag"]
    flow = _read(path, sep=r"\s+", header=None, names=names, dtype={"gauge": str})
    other = flow["gauge"][flow["gauge"].str.zfill(8) != gauge]
    if len(other):
        raise BasinFileError(f"{path}: holds the gauge {other.iloc[0]!r}, expected {gauge!r}.")
    flow.index = _dates(path, flow["year"], flow["month"], flow["day"])
    try:
        return needed("pandas").to_numeric(flow["discharge"])
    except ValueError as error:
        raise BasinFileError(f"{path}: its fifth column is no discharge ({_line(error)}).") from None


def _read(path: Path, **options: Any) -> pandas.DataFrame:
    pandas = needed("pandas")
    try:
        with warnings.catch_warnings():
            # rows that are longer than the titles: pandas moves all columns by one or, with index_col, drops the last
            warnings.simplefilter("error", pandas.errors.ParserWarning)
            return pandas.read_csv(path, index_col=False, skipinitialspace=True, **options)
    except pandas.errors.ParserWarning:
        raise BasinFileError(f"{path}: its rows have more values than there are titles above them.") from None
    except ValueError as error:  # those of its parser and of encodings are ValueErrors
        raise BasinFileError(f"{path}: is not read as a table ({_line(error)}).") from None


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _dates(path: Path, year: Any, month: Any, day: Any) -> Any:
    pandas = needed("pandas")
    try:
        return pandas.DatetimeIndex(pandas.to_datetime(pandas.DataFrame({"year": year, "month": month, "day": day})))
    except ValueError as error:
        raise BasinFileError(f"{path}: a row is no date ({_line(error)}).") from None


def _single(folder: Path, pattern: str) -> Path:
    """Return the file of a name somewhere below a folder."""
    files = sorted(folder.rglob(pattern))
    if len(files) != 1:
        which = "none" if not files else ", ".join(str(file.relative_to(folder)) for file in files)
        gauge = pattern.split("_")[0]
        lost = f" Gauges of CAMELS have eight digits: {gauge.zfill(8)!r}?" if gauge.isdigit() and len(gauge) < 8 else ""
        raise BasinFileError(
            f"{folder}: {pattern} should be there once, in it or in a folder of it; there is {which}.{lost}"
        )
    return files[0]


def _attribute_tables(folder: Path, files: Sequence[Path], nothing: str, *, sep: str) -> Tables:
    """Return the columns of several files of attributes, by gauge, for each file."""
    if not files:
        raise BasinFileError(f"{folder}: holds {nothing}.")
    tables = {}
    for file in files:
        table = _read(file, sep=sep, dtype={"gauge_id": str})
        check_columns(str(file), ["gauge_id"], list(table.columns))
        table = table.set_index("gauge_id")
        if table.index.has_duplicates:
            raise BasinFileError(f"{file}: has the gauge {table.index[table.index.duplicated()][0]!r} twice.")
        tables[str(file)] = table
    return tables


def _attributes(static: Mapping[str, Tables], names: Sequence[str], where: Path) -> dict[str, list[Any]]:
    """Return each attribute of all basins, from the tables of each."""
    for gauge, tables in static.items():
        check_columns(str(where), names, list(dict.fromkeys(name for table in tables.values() for name in table)))
        if not any(gauge in table.index for table in tables.values()):
            raise BasinFileError(f"{where}: has no attributes of {gauge!r}.")
    return {name: [_attribute(tables, name, gauge) for gauge, tables in static.items()] for name in names}


def _attribute(tables: Tables, name: str, gauge: str) -> Any:
    """Return an attribute of a gauge, from the files that have the column.

    Raises:
        BasinFileError: none of these files has the gauge, which would pass for a value that is missing; or two of them
            have different values.
    """
    files = [file for file, table in tables.items() if name in table]
    values = {file: tables[file].loc[gauge, name] for file in files if gauge in tables[file].index}
    if not values:
        raise BasinFileError(
            f"{', '.join(files)}: has {name!r}, but no row of the gauge {gauge!r}. Add one, an empty value for what is "
            f"missing, or leave {name!r} or the basin out."
        )
    if len({word_of(value) for value in values.values()}) > 1:
        shown = "; ".join(f"{word_of(value)!r} in {file}" for file, value in values.items())
        raise BasinFileError(f"the gauge {gauge!r} has different values of {name!r}: {shown}. Remove one of them.")
    return next(iter(values.values()))
