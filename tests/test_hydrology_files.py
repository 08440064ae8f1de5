"""Basins in NetCDF, and in the layouts of CAMELS and Caravan, which these tests write as text and by xarray."""

import sys

import numpy as np
import pytest

from lstmjax.hydrology import basins_from_arrays, by_basin
from lstmjax.hydrology.archives import read_camels, read_caravan
from lstmjax.hydrology.files import BasinFileError, as_dataset, from_dataset, read_netcdf

xarray = pytest.importorskip("xarray", reason="pip install '.[hydrology]'")
pandas = pytest.importorskip("pandas", reason="pip install '.[hydrology]'")

DAYS = 5
GAUGES = ("01022500", "03015500")
FORCING = ("prcp(mm/day)", "tmax(C)")


@pytest.fixture
def basins():
    """Two basins whose records differ in length, one with a discharge and a forcing that are missing."""
    rng = np.random.default_rng(0)
    discharge, forcing = rng.gamma(2, 1, (2, DAYS)), rng.normal(0, 5, (2, DAYS, 2))
    discharge[1, 2], forcing[1, 3, 0] = np.nan, np.nan
    return basins_from_arrays(
        [discharge[0][:4], discharge[1]], [forcing[0][:4], forcing[1]], rng.normal(0, 1, (2, 3)),
        start=["2000-02-27", "2000-02-28"], names=["north", "south"], forcing_names=["rain", "temperature"],
        attribute_names=["area", "slope", "snow"],
    )  # fmt: skip


def same(read, basins):
    assert (read.names, read.known_names, read.number_names) == (basins.names, basins.known_names, basins.number_names)
    np.testing.assert_array_equal(read.starts, basins.starts)
    np.testing.assert_array_equal(read.times.astype("datetime64[D]"), basins.times.astype("datetime64[D]"))
    for name in ("target", "known", "numbers"):
        np.testing.assert_array_equal(getattr(read, name), getattr(basins, name))


NAMES = {"target": "discharge", "forcing": ["rain", "temperature"], "attributes": ["area", "slope", "snow"]}


def test_a_netcdf_file_is_read_as_it_was_written(basins, tmp_path):
    simulated = np.arange(len(basins.target)) * 1.5
    as_dataset(basins, {"network": simulated}).transpose("date", "basin").to_netcdf(tmp_path / "basins.nc")
    same(read_netcdf(tmp_path / "basins.nc", **NAMES), basins)
    again = read_netcdf(tmp_path / "basins.nc", **NAMES | {"target": "network"})
    np.testing.assert_array_equal(by_basin(again, again.target)[1], simulated[4:])


def write_caravan(folder, basins, kind):
    for s, name in enumerate(basins.names):
        index = pandas.DatetimeIndex(basins.times[basins.starts[s] : basins.starts[s + 1]], name="date")
        columns = {"streamflow": by_basin(basins, basins.target)[s]}
        columns |= dict(zip(basins.known_names, by_basin(basins, basins.known)[s].T, strict=True))
        table = pandas.DataFrame(columns, index)
        table["unused"] = 1.0
        path = folder / "timeseries" / kind / name.split("_")[0] / f"{name}.{'nc' if kind == 'netcdf' else 'csv'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "netcdf":
            xarray.Dataset.from_dataframe(table).to_netcdf(path)
        else:
            table.to_csv(path)
    for source in ("camels", "lamah"):
        place = folder / "attributes" / source
        place.mkdir(parents=True, exist_ok=True)
        rows = [s for s, name in enumerate(basins.names) if name.startswith(source)]
        index = pandas.Index([basins.names[s] for s in rows], name="gauge_id")
        numbers = pandas.DataFrame(basins.numbers[rows], index, list(basins.number_names))
        numbers[["area"]].assign(country="CH").to_csv(place / f"attributes_other_{source}.csv")
        numbers[["slope", "snow"]].to_csv(place / f"attributes_caravan_{source}.csv")


@pytest.mark.parametrize("kind", ["netcdf", "csv"])
def test_caravan_is_read(basins, tmp_path, kind):
    named = basins.__class__(**vars(basins) | {"names": ("camels_01022500", "lamah_200014")})
    write_caravan(tmp_path, named, kind)
    columns = {"forcing": NAMES["forcing"], "attributes": NAMES["attributes"]}
    read = read_caravan(tmp_path, named.names, **columns)
    np.testing.assert_allclose(read.known, named.known, rtol=1e-12)
    same(read.__class__(**vars(read) | {"known": named.known, "target": named.target, "numbers": named.numbers}), named)
    np.testing.assert_allclose(read.target, named.target, rtol=1e-12)
    np.testing.assert_allclose(read.numbers, named.numbers, rtol=1e-12)
    with pytest.raises(BasinFileError, match="the attribute 'country' is text, such as 'CH'"):
        read_caravan(tmp_path, named.names, forcing=["rain"], attributes=["country"])
    with pytest.raises(BasinFileError, match=r"has no 'hail', but (date, )?streamflow, rain, temperature, unused"):
        read_caravan(tmp_path, named.names, forcing=["hail"], attributes=["area"])
    with pytest.raises(BasinFileError, match=r"camels_9\.nc: there is no such file, nor is there .*camels_9\.csv"):
        read_caravan(tmp_path, ["camels_9"], **columns)
    with pytest.raises(BasinFileError, match="attributes/hysets: holds no CSV file of attributes"):
        read_caravan(tmp_path, ["hysets_1"], **columns)


def write_camels(folder, upper):
    """Write the text files of CAMELS: three lines before the forcing, -999 for no discharge, attributes with ;."""
    rows = [(2000, 2, 28 + k) if k < 2 else (2000, 3, k - 1) for k in range(DAYS)]
    titles = "Year Mnth Day Hr\tdayl(s)\tprcp(mm/day)\tsrad(W/m2)\ttmax(C)"
    for n, gauge in enumerate(GAUGES):
        place = folder / "basin_mean_forcing" / "daymet" / f"0{n + 1}"
        place.mkdir(parents=True)
        lines = [f"{y} {m:02d} {d:02d} 12\t3.1\t{k + n}.50\t{9.0}\t{-k - 0.25}" for k, (y, m, d) in enumerate(rows)]
        header = ["  44.82", " 133.00", f" {(n + 1) * 10**8}", titles.upper() if upper else titles]
        (place / f"{gauge}_lump_cida_forcing_leap.txt").write_text("\n".join(header + lines) + "\n")
        place = folder / "usgs_streamflow" / f"0{n + 1}"
        place.mkdir(parents=True)
        flow = [f"{gauge} {y} {m:02d} {d:02d} {-999.0 if k == 1 else 10.0 * (k + 1):8.2f} A" for k, (y, m, d) in
                enumerate(rows)]  # fmt: skip
        (place / f"{gauge}_streamflow_qc.txt").write_text("\n".join(flow) + "\n")
    place = folder / "camels_attributes_v2.0"
    place.mkdir()
    (place / "camels_topo.txt").write_text("gauge_id;elev_mean;slope_mean\n01022500;92.5;17.5\n03015500;250.0;2.5\n")
    (place / "camels_name.txt").write_text("gauge_id;huc_02;gauge_name\n01022500;01;A, Maine\n03015500;05;B\n")


@pytest.mark.parametrize("upper", [False, True])
def test_camels_is_read(tmp_path, upper):
    write_camels(tmp_path, upper)
    read = read_camels(tmp_path, GAUGES[::-1], forcing=FORCING, attributes=["slope_mean", "elev_mean"])
    assert read.names == GAUGES[::-1]
    assert read.known_names == FORCING
    np.testing.assert_array_equal(read.numbers, [[2.5, 250.0], [17.5, 92.5]])
    np.testing.assert_array_equal(by_basin(read, read.known)[0][:, 0], [1.5, 2.5, 3.5, 4.5, 5.5])
    np.testing.assert_array_equal(by_basin(read, read.known)[1][:, 1], [-0.25, -1.25, -2.25, -3.25, -4.25])
    # 10 ft³/s from 10⁸ m² are 10 · 0.3048³ m³/s · 86400 s / 10⁸ m² · 1000 mm/m a day
    mm = 10 * 0.3048**3 * 86400 / 1e8 * 1000
    np.testing.assert_allclose(by_basin(read, read.target)[1], [mm, np.nan, 3 * mm, 4 * mm, 5 * mm], rtol=1e-9)
    assert str(read.times[1].astype("datetime64[D]")) == "2000-02-29"
    with pytest.raises(BasinFileError, match="has no 'hail', but year"):
        read_camels(tmp_path, GAUGES, forcing=["hail"], attributes=[])
    with pytest.raises(BasinFileError, match=r"00000000_\*_forcing_leap.txt should be there once.*there is none"):
        read_camels(tmp_path, ["00000000"], attributes=[])
    with pytest.raises(BasinFileError, match="the attribute 'gauge_name' is text"):
        read_camels(tmp_path, GAUGES, forcing=FORCING, attributes=["gauge_name"])
    with pytest.raises(BasinFileError, match=r"camels_attributes_v2.0: holds no files camels_\*.txt"):
        read_camels(tmp_path / "usgs_streamflow", GAUGES, attributes=[])


def test_gaps_become_missing_and_days_twice_are_refused(basins):
    dataset = as_dataset(basins)
    read = from_dataset(dataset.drop_sel(date="2000-02-29"), **NAMES)
    assert read.lengths.tolist() == [4, 5]
    assert np.isnan(by_basin(read, read.known)[0]).all(1).tolist() == [False, False, True, False]
    assert np.isnan(by_basin(read, read.target)[0]).tolist() == [False, False, True, False]
    with pytest.raises(BasinFileError, match="basin 'north' has the day 2000-02-29 twice"):
        from_dataset(dataset.isel(date=[0, 1, 2, 2, 3]), **NAMES)
    shifted = dataset.assign_coords(date=dataset.date + np.timedelta64(6, "h"))
    with pytest.raises(BasinFileError, match="basin 'north' has times within a day, 2000-02-27 06:00:00"):
        from_dataset(shifted, **NAMES)
    with pytest.raises(BasinFileError, match="no coordinate 'gauge', but date, basin; pass basin= and date="):
        from_dataset(dataset, **NAMES, basin="gauge")
    with pytest.raises(BasinFileError, match="'area' has the dimensions basin, expected basin, date"):
        from_dataset(dataset, **NAMES | {"forcing": ["area"]})


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(BasinFileError, match=r"xarray is not installed; pip install 'lstmjax\[hydrology\]'"):
        read_netcdf("basins.nc", **NAMES)


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "text.nc").write_text("no NetCDF")
    with pytest.raises(BasinFileError, match=r"text.nc: is not read by xarray"):
        read_netcdf(tmp_path / "text.nc", **NAMES)
