"""Basins in files: NetCDF, and the layouts of CAMELS and Caravan. Needs `pip install 'lstmjax[hydrology]'`.

xarray and pandas are imported here only, and when a file is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lstmjax.errors import UserError
from lstmjax.forecast.series import SeriesSet
from lstmjax.hydrology.basins import basins_from_arrays, by_basin, days_of

if TYPE_CHECKING:
    import pandas
    import xarray

CUBIC_FEET = 28316846.592
"""mm³ in a cubic foot."""


class BasinFileError(UserError, ValueError):
    """Files hold no basins in the layout that was expected."""


def _needed(package: str) -> Any:
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
    basin: str = "basin",
    date: str = "date",
) -> SeriesSet:
    """Read the basins of one NetCDF file.

    Args:
        path: the file, as `xarray.open_dataset` reads it.
        target, forcing, attributes, basin, date: as for `from_dataset`.

    Raises:
        BasinFileError: xarray is not installed, there is no such file, or it has another form.
    """
    with _opened(Path(path)) as dataset:
        return from_dataset(dataset, target=target, forcing=forcing, attributes=attributes, basin=basin, date=date)


def from_dataset(
    dataset: xarray.Dataset,
    *,
    target: str,
    forcing: Sequence[str],
    attributes: Sequence[str],
    basin: str = "basin",
    date: str = "date",
) -> SeriesSet:
    """Return the basins of an `xarray.Dataset`.

    Args:
        dataset: variables over the dimensions basin and date, in any order.
        target: the variable with the discharge, mm/day.
        forcing: variables over basin and date.
        attributes: variables over basin.
        basin, date: names of the dimensions; each has a coordinate of its name.

    Returns:
        The basins. Days before the first and behind the last with any value of a basin are left out.

    Raises:
        BasinFileError: a variable or a dimension is missing, or dates are not daily.
    """
    for name in (basin, date):
        if name not in dataset.coords:
            raise BasinFileError(
                f"the dataset has no coordinate {name!r}, but {', '.join(map(str, dataset.coords)) or 'none'}; pass "
                "basin= and date=, the names of its dimensions."
            )
    _check_columns("the dataset", [target, *forcing, *attributes], list(map(str, dataset.data_vars)))
    for names, dims in (([target, *forcing], {basin, date}), (attributes, {basin})):
        for name in names:
            if set(dataset[name].dims) != dims:
                raise BasinFileError(
                    f"{name!r} has the dimensions {', '.join(map(str, dataset[name].dims))}, expected "
                    f"{', '.join(sorted(dims))}."
                )
    tables = {}
    for s, name in enumerate(map(str, dataset[basin].values)):
        part = dataset[[target, *forcing]].isel({basin: s}).drop_vars(basin)
        table = part.to_dataframe()[[target, *forcing]].dropna(how="all")
        if len(table) == 0:
            raise BasinFileError(f"basin {name!r} has no value of {target!r} or of the forcing.")
        tables[name] = table
    static = {name: dataset[name].transpose(basin).values for name in attributes}
    return _joined(tables, target, forcing, static)


def as_dataset(basins: SeriesSet, simulations: Mapping[str, np.ndarray] | None = None) -> xarray.Dataset:
    """Return basins, and simulations of them, as an `xarray.Dataset` over basin and date; `to_netcdf` writes it.

    Args:
        basins: with dates.
        simulations: by name, each `[N]`, mm/day.

    Raises:
        BasinFileError: xarray is not installed, or the basins have no dates.
    """
    xarray = _needed("xarray")
    if basins.times is None:
        raise BasinFileError("the basins have no dates; pass start= where they are made.")
    columns = {"discharge": basins.target} | dict(zip(basins.known_names, basins.known.T, strict=True))
    columns |= {name: np.asarray(values) for name, values in (simulations or {}).items()}
    parts = []
    for s, name in enumerate(basins.names):
        values = {column: ("date", by_basin(basins, array)[s]) for column, array in columns.items()}
        part = xarray.Dataset(values, {"date": days_of(basins, s).astype("datetime64[ns]"), "basin": name})
        parts.append(part)
    dataset = xarray.concat(parts, "basin", data_vars="all", join="outer")
    statics = {name: ("basin", basins.numbers[:, k]) for k, name in enumerate(basins.number_names)}
    return dataset.assign(statics)


def read_caravan(
    folder: str | Path,
    basins: Sequence[str],
    *,
    forcing: Sequence[str] = (
        "total_precipitation_sum", "temperature_2m_mean", "temperature_2m_min", "temperature_2m_max",
        "potential_evaporation_sum",
    ),
    attributes: Sequence[str],
    target: str = "streamflow",
) -> SeriesSet:  # fmt: skip
    """Read basins of Caravan (Kratzert et al. 2023), or of an extension in its layout.

    Args:
        folder: with timeseries/netcdf/SOURCE/GAUGE.nc (or timeseries/csv/SOURCE/GAUGE.csv) and
            attributes/SOURCE/*.csv.
        basins: gauges, "camels_01022500"; what stands before the first underscore is the SOURCE.
        forcing: columns of the time series.
        attributes: columns of the attributes.
        target: the column with the discharge, mm/day.

    Raises:
        BasinFileError: xarray is not installed, a file or a column is missing, an attribute is text.
    """
    pandas, folder = _needed("pandas"), Path(folder)
    tables, static = {}, {}
    for source in dict.fromkeys(gauge.split("_")[0] for gauge in basins):
        files = sorted((folder / "attributes" / source).glob("*.csv"))
        if not files:
            raise BasinFileError(f"{folder / 'attributes' / source}: holds no CSV file of attributes.")
        columns = pandas.concat([pandas.read_csv(file, index_col="gauge_id") for file in files], axis=1)
        static[source] = columns.loc[:, ~columns.columns.duplicated()]
    for gauge in basins:
        source = gauge.split("_")[0]
        netcdf = folder / "timeseries" / "netcdf" / source / f"{gauge}.nc"
        csv = folder / "timeseries" / "csv" / source / f"{gauge}.csv"
        if not netcdf.is_file() and csv.is_file():
            table = pandas.read_csv(csv, parse_dates=["date"], index_col="date")
            _check_columns(str(csv), [target, *forcing], list(table.columns))
            tables[gauge] = table[[target, *forcing]]
        else:
            with _opened(netcdf) as dataset:
                _check_columns(str(netcdf), [target, *forcing], list(map(str, dataset.data_vars)))
                tables[gauge] = dataset[[target, *forcing]].to_dataframe()
    rows = {gauge: static[gauge.split("_")[0]] for gauge in basins}
    return _joined(tables, target, forcing, _attributes(rows, attributes, folder / "attributes"))


def read_camels(
    folder: str | Path,
    basins: Sequence[str],
    *,
    product: str = "daymet",
    forcing: Sequence[str] = ("prcp(mm/day)", "srad(W/m2)", "tmax(C)", "tmin(C)", "vp(Pa)"),
    attributes: Sequence[str],
) -> SeriesSet:
    """Read basins of CAMELS in the United States (Newman et al. 2015, Addor et al. 2017).

    Discharges are in cubic feet a second, and become mm/day by the catchment's area, the third line of its file of
    forcing; -999 is missing.

    Args:
        folder: with basin_mean_forcing/PRODUCT/[HUC/]GAUGE_lump_*_forcing_leap.txt,
            usgs_streamflow/[HUC/]GAUGE_streamflow_qc.txt and camels_attributes_v2.0/camels_*.txt.
        basins: gauges of eight digits, "01022500".
        product: "daymet", "maurer", "maurer_extended" or "nldas".
        forcing: columns of the files of forcing, in upper or lower case: products differ.
        attributes: columns of the attributes.

    Raises:
        BasinFileError: pandas is not installed, a file or a column is missing, an attribute is text.
    """
    pandas, folder = _needed("pandas"), Path(folder)
    files = sorted((folder / "camels_attributes_v2.0").glob("camels_*.txt"))
    if not files:
        raise BasinFileError(f"{folder / 'camels_attributes_v2.0'}: holds no files camels_*.txt.")
    read = [pandas.read_csv(file, sep=";", dtype={"gauge_id": str}).set_index("gauge_id") for file in files]
    static = pandas.concat(read, axis=1)
    tables = {}
    for gauge in basins:
        path = _single(folder / "basin_mean_forcing" / product, f"{gauge}_*_forcing_leap.txt")
        with path.open() as file:
            area = float([file.readline() for _ in range(3)][2])
            table = pandas.read_csv(file, sep=r"\s+").rename(columns=str.lower)
        _check_columns(str(path), [name.lower() for name in forcing], list(table.columns))
        table.index = _dates(table["year"], table["mnth"], table["day"])
        table = table[[name.lower() for name in forcing]].set_axis(list(forcing), axis=1)
        path = _single(folder / "usgs_streamflow", f"{gauge}_streamflow_qc.txt")
        names = ["gauge", "year", "month", "day", "discharge", "flag"]
        flow = pandas.read_csv(path, sep=r"\s+", header=None, names=names)
        flow.index = _dates(flow["year"], flow["month"], flow["day"])
        discharge = flow["discharge"].where(flow["discharge"] >= 0) * CUBIC_FEET * 86400 / (area * 1e6)
        tables[gauge] = table.join(discharge, how="left")
    return _joined(tables, "discharge", forcing, _attributes(dict.fromkeys(basins, static), attributes, folder))


def _opened(path: Path) -> xarray.Dataset:
    xarray = _needed("xarray")
    if not path.is_file():
        raise BasinFileError(f"{path}: there is no such file.")
    try:
        return xarray.open_dataset(path)
    except (OSError, ValueError) as error:
        raise BasinFileError(f"{path}: is not read by xarray ({str(error).splitlines()[0]}).") from None


def _dates(year: Any, month: Any, day: Any) -> Any:
    pandas = _needed("pandas")
    return pandas.to_datetime(pandas.DataFrame({"year": year, "month": month, "day": day}))


def _single(folder: Path, pattern: str) -> Path:
    """Return the file of a name somewhere below a folder."""
    files = sorted(folder.rglob(pattern))
    if len(files) != 1:
        which = "none" if not files else ", ".join(str(file.relative_to(folder)) for file in files)
        raise BasinFileError(f"{folder}: {pattern} should be there once, in it or in a folder of it; there is {which}.")
    return files[0]


def _check_columns(where: str, needed: Sequence[str], columns: Sequence[str]) -> None:
    missing = [name for name in needed if name not in columns]
    if missing:
        raise BasinFileError(f"{where}: has no {missing[0]!r}, but {', '.join(columns)}.")


def _attributes(tables: Mapping[str, pandas.DataFrame], names: Sequence[str], where: Path) -> dict[str, np.ndarray]:
    """Return each attribute of all basins, from the table of each."""
    for gauge, table in tables.items():
        _check_columns(str(where), names, list(table.columns))
        if gauge not in table.index:
            raise BasinFileError(f"{where}: has no attributes of {gauge!r}.")
    return {name: np.array([table.loc[gauge, name] for gauge, table in tables.items()]) for name in names}


def _joined(
    tables: Mapping[str, pandas.DataFrame], target: str, forcing: Sequence[str], static: Mapping[str, np.ndarray]
) -> SeriesSet:
    """Return basins of a table for each, with dates as its index; days that are missing between others become NaN."""
    pandas = _needed("pandas")
    for name, values in static.items():
        if not np.issubdtype(values.dtype, np.number):
            raise BasinFileError(
                f"the attribute {name!r} is text, such as {str(values[0])!r}; networks take numbers. Leave it out, or "
                "encode it as numbers."
            )
    full = {}
    for gauge, table in tables.items():
        index = pandas.DatetimeIndex(table.index)
        if (index != index.normalize()).any():
            raise BasinFileError(f"basin {gauge!r} has times within a day, {index[0]}; expected one value a day.")
        if index.has_duplicates:
            raise BasinFileError(f"basin {gauge!r} has the day {index[index.duplicated()][0].date()} twice.")
        full[gauge] = table.set_axis(index).reindex(pandas.date_range(index.min(), index.max(), freq="D"))
    return basins_from_arrays(
        [table[target].to_numpy() for table in full.values()],
        [table[list(forcing)].to_numpy() for table in full.values()],
        np.stack([values.astype(np.float64) for values in static.values()], -1) if static else np.zeros((len(full), 0)),
        start=[str(table.index[0].date()) for table in full.values()],
        names=list(full),
        forcing_names=forcing,
        attribute_names=list(static),
    )
