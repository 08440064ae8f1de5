"""What files of basins look like in practice: calendars, zones, packing, codes for what is missing, headers, gauges."""

import re

import numpy as np
import pytest
from test_hydrology_files import FORCING, GAUGES, NAMES, same, write_camels, write_caravan

from lstmjax.forecast.series import SeriesError
from lstmjax.hydrology import basins_from_arrays, by_basin
from lstmjax.hydrology.archives import read_camels, read_caravan
from lstmjax.hydrology.files import BasinFileError, as_dataset, from_dataset, read_netcdf

xarray = pytest.importorskip("xarray", reason="pip install '.[hydrology]'")
pandas = pytest.importorskip("pandas", reason="pip install '.[hydrology]'")


@pytest.fixture
def basins():
    """Two basins with a category, all of whose days are measured, from the 28th of February of a leap year on."""
    rng = np.random.default_rng(1)
    return basins_from_arrays(
        rng.gamma(2, 1, (2, 4)), rng.normal(0, 5, (2, 4, 2)), rng.normal(0, 1, (2, 3)), start="2000-02-28",
        names=["camels_1", "lamah_2"], forcing_names=["rain", "temperature"],
        attribute_names=["area", "slope", "snow"], categories={"cover": ["forest", "crops"]},
    )  # fmt: skip


NO_UNIT = r"'discharge' has no attribute 'units', .*pass unit='mm/day' \(data.unit: mm/day in a config.*86.4 / area"


def read(dataset, **changed):
    return from_dataset(dataset, **NAMES | {"categories": ["cover"]} | changed)


def test_words_are_written_and_read(basins, tmp_path):
    as_dataset(basins).to_netcdf(tmp_path / "basins.nc")
    again = read_netcdf(tmp_path / "basins.nc", **NAMES, categories=["cover"])
    same(again, basins)
    assert again.levels == (("cover", ("crops", "forest")),)
    assert again.categories[:, 0].tolist() == [1, 0]
    with pytest.raises(BasinFileError, match=r"basins.nc: the attribute 'cover' is text, such as 'forest'; pass it by"):
        read_netcdf(tmp_path / "basins.nc", **NAMES | {"attributes": ["cover"]})


def test_packed_numbers_are_unpacked_and_fills_are_missing(basins, tmp_path):
    packed = {"dtype": "int16", "scale_factor": 0.01, "add_offset": 20.0, "_FillValue": -9999}
    dataset = as_dataset(basins)
    dataset["rain"][0, 2] = np.nan
    dataset.to_netcdf(tmp_path / "packed.nc", encoding={"rain": packed, "discharge": packed})
    again = read_netcdf(tmp_path / "packed.nc", **NAMES, categories=["cover"])
    assert np.flatnonzero(np.isnan(again.known[:, 0])).tolist() == [2]
    np.testing.assert_allclose(again.target, basins.target, atol=0.006)
    np.testing.assert_allclose(np.delete(again.known[:, 0], 2), np.delete(basins.known[:, 0], 2), atol=0.006)


def test_days_in_any_order_at_noon_or_with_a_time_zone_are_days(basins):
    dataset = as_dataset(basins)
    same(read(dataset.isel(date=[3, 1, 0, 2])), basins)
    same(read(dataset.assign_coords(date=dataset.date + np.timedelta64(12, "h"))), basins)
    same(read(dataset.rename(basin="gauge", date="time"), basin="gauge", date="time"), basins)
    as_bytes = dataset.assign_coords(basin=np.array([b"camels_1", b"lamah_2"]))
    assert read(as_bytes).names == basins.names


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.assign_coords(date=np.arange(4)), "basin 'camels_1' has .*0.* as a date, expected days such as"),
        (lambda d: d.assign_coords(date=d.date.where(d.date != d.date[1])), "has a row without a date"),
        (lambda d: d.assign_coords(date=d.date + np.arange(4) * np.timedelta64(6, "h")), "times within a day"),
        (lambda d: d.assign_coords(basin=["a", "a"]), "basin has 'a' twice"),
        (lambda d: d.isel(basin=0, drop=True), r"no coordinate 'basin', but date; .*expand_dims\(basin=\['name'\]\)"),
        (lambda d: d.assign(discharge=d.discharge.assign_attrs(units="m3 s-1")), "is in 'm3 s-1', .*expected mm/day"),
        (lambda d: d.assign(discharge=d.discharge.drop_attrs()), NO_UNIT),
        (lambda d: d.assign(discharge=d.discharge.assign_attrs(units=" ")), NO_UNIT),
        (lambda d: d.assign(discharge=d.discharge.assign_attrs(units=None)), NO_UNIT),
        (
            lambda d: d.assign(discharge=d.discharge.assign_attrs(units="", unit="m3/s")),
            "is in 'm3/s', .*expected mm/day",
        ),
        (lambda d: d.assign(rain=d.rain.astype("m8[D]")), "basin 'camels_1': 'rain' holds timedelta64.*numbers"),
        (lambda d: d.assign(rain=d.rain.astype(str)), "basin 'camels_1': 'rain' holds .*expected numbers"),
        (lambda d: d.assign(area=d.area.astype("m8[D]")), "the attribute 'area' is text"),
    ],
)
def test_a_dataset_is_refused(basins, change, message):
    with pytest.raises(BasinFileError, match=message):
        read(change(as_dataset(basins)))


@pytest.mark.parametrize("unit", ["mm/day", "mm d-1", "mm day^-1", "MM/D", "kg m-2 d-1", "[mm/d]"])
def test_units_that_are_mm_a_day(basins, unit):
    dataset = as_dataset(basins)
    same(read(dataset.assign(discharge=dataset.discharge.assign_attrs(units=unit))), basins)


def test_the_unit_of_a_discharge_can_be_stated(basins, tmp_path):
    dataset = as_dataset(basins)
    silent = dataset.assign(discharge=dataset.discharge.drop_attrs())
    same(read(silent, unit="mm d-1"), basins)
    silent.to_netcdf(tmp_path / "silent.nc")
    same(read_netcdf(tmp_path / "silent.nc", **NAMES, categories=["cover"], unit="mm/day"), basins)
    with pytest.raises(BasinFileError, match=r"silent.nc: 'discharge' has no attribute 'units'"):
        read_netcdf(tmp_path / "silent.nc", **NAMES)
    with pytest.raises(BasinFileError, match="unit is 'm3/s', expected 'mm/day'"):
        read(silent, unit="m3/s")
    with pytest.raises(BasinFileError, match="'discharge' is in 'm3/s', as its attribute says"):
        read(dataset.assign(discharge=dataset.discharge.assign_attrs(units="m3/s")), unit="mm/day")


def test_codes_for_what_is_missing_are_refused(basins):
    dataset = as_dataset(basins)
    for code in (-999.0, -9999.0, 9.96921e36):
        coded = dataset.copy(deep=True)
        coded["temperature"][1, 2] = code
        with pytest.raises(SeriesError, match=r"the forcing of basin 'lamah_2' holds -?9.*\(column 1, 1 such values"):
            read(coded)
    coded["temperature"][1, 2], coded["area"][0] = 1.0, -999
    with pytest.raises(SeriesError, match="the attributes of basin 'camels_1' holds -999"):
        read(coded)


def test_another_calendar_is_refused(basins, tmp_path):
    pytest.importorskip("cftime", reason="pip install cftime")
    dataset = as_dataset(basins).convert_calendar("noleap", dim="date", use_cftime=True)
    dataset.to_netcdf(tmp_path / "noleap.nc")
    with pytest.raises(
        BasinFileError, match=r"dates of the calendar 'noleap'.*convert_calendar\('standard', dim='date'\)"
    ):
        read_netcdf(tmp_path / "noleap.nc", **NAMES, categories=["cover"])
    again = as_dataset(basins).convert_calendar("standard", dim="date", use_cftime=True)
    same(read(again), basins)


def test_another_calendar_is_refused_without_the_package_that_reads_it(basins, tmp_path):
    dataset = as_dataset(basins)
    days = ("date", np.arange(4.0), {"units": "days since 2000-02-30", "calendar": "360_day"})
    dataset.assign_coords(date=days).to_netcdf(tmp_path / "climate.nc")
    with pytest.raises(BasinFileError, match=r"climate.nc: .*(is not read by xarray|the calendar '360_day')"):
        read_netcdf(tmp_path / "climate.nc", **NAMES, categories=["cover"])


def test_a_variable_whose_unit_is_days_is_a_number(basins, tmp_path):
    dataset = as_dataset(basins)
    for name in ("area", "rain"):
        dataset[name].attrs["units"] = "days"
    dataset.to_netcdf(tmp_path / "days.nc")
    same(read_netcdf(tmp_path / "days.nc", **NAMES, categories=["cover"]), basins)


COLUMNS = {"forcing": NAMES["forcing"], "attributes": NAMES["attributes"]}


def place_of(folder, gauge, kind="csv"):
    return folder / "timeseries" / kind / gauge.split("_")[0] / f"{gauge}.{'nc' if kind == 'netcdf' else 'csv'}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace("2000-02-29", "29 of February"), "its column 'date' is not read as dates"),
        (lambda t: t.replace("2000-02-29", "2000-02-28"), "basin 'camels_1' has the day 2000-02-28 twice"),
        (lambda t: t.replace("date", "day"), "camels_1.csv: has no 'date', but day, streamflow"),
        (lambda t: t.replace("2000-02-29", ""), "has a row without a date"),
        (lambda t: re.sub(r"(2000-02-29,[^,]*),[^,]*", r"\1,wet", t), "'rain' holds"),
        (lambda t: "", "camels_1.csv: is not read as a table"),
        (lambda t: t.splitlines()[0] + "\n", "basin 'camels_1' has no row of 'streamflow' and the forcing"),
        (lambda t: re.sub(r"\n(2000.*)", r"\n\1,7", t), "its rows have more values than there are titles above"),
        (lambda t: re.sub(r"(2000)-(..)-(..)", r"\1\2\3", t), "'date' holds numbers, such as 20000228; expected days"),
    ],
)
def test_csv_files_of_caravan_are_refused(basins, tmp_path, change, message):
    write_caravan(tmp_path, basins, "csv")
    path = place_of(tmp_path, "camels_1")
    path.write_text(change(path.read_text()))
    with pytest.raises(BasinFileError, match=message):
        read_caravan(tmp_path, ["camels_1"], **COLUMNS)


def test_caravan_with_zones_words_and_gauges_that_are_missing(basins, tmp_path):
    write_caravan(tmp_path, basins, "csv")
    path = place_of(tmp_path, "camels_1")
    path.write_text(re.sub(r"(2000-\d\d-\d\d),", r"\1T00:00:00+02:00,", path.read_text()))
    again = read_caravan(tmp_path, basins.names, **COLUMNS, categories=["country"])
    same(again, basins.__class__(**vars(basins) | {"target": again.target, "known": again.known,
                                                    "numbers": again.numbers}))  # fmt: skip
    np.testing.assert_allclose(again.target, basins.target, rtol=1e-12)
    assert again.levels == (("country", ("CH",)),)
    place_of(tmp_path, "camels_3").write_text(path.read_text())
    with pytest.raises(BasinFileError, match="attributes: has no attributes of 'camels_3'"):
        read_caravan(tmp_path, ["camels_3"], **COLUMNS)
    with pytest.raises(BasinFileError, match=r"basins has 'camels_1' twice"):
        read_caravan(tmp_path, ["camels_1", "camels_1"], **COLUMNS)
    with pytest.raises(BasinFileError, match=r"basins is 'camels_1', expected a list of names: \['camels_1'\]"):
        read_caravan(tmp_path, "camels_1", **COLUMNS)
    with pytest.raises(BasinFileError, match="forcing has 'streamflow', which is the discharge"):
        read_caravan(tmp_path, ["camels_1"], forcing=["streamflow"], attributes=["area"])
    table = tmp_path / "attributes" / "camels" / "attributes_other_camels.csv"
    table.write_text(table.read_text() + table.read_text().splitlines()[1] + "\n")
    with pytest.raises(BasinFileError, match=r"attributes_other_camels.csv: has the gauge 'camels_1' twice"):
        read_caravan(tmp_path, ["camels_1"], **COLUMNS)
    table.write_text(table.read_text().replace("gauge_id", "gauge"))
    with pytest.raises(BasinFileError, match=r"attributes_other_camels.csv: has no 'gauge_id', but gauge"):
        read_caravan(tmp_path, ["camels_1"], **COLUMNS)


def test_a_discharge_of_caravan_in_another_unit_is_refused(basins, tmp_path):
    write_caravan(tmp_path, basins, "netcdf")
    path = place_of(tmp_path, "camels_1", "netcdf")
    dataset = xarray.load_dataset(path)
    dataset["streamflow"].attrs["units"] = "m3/s"
    dataset.to_netcdf(path)
    with pytest.raises(BasinFileError, match="'streamflow' is in 'm3/s'"):
        read_caravan(tmp_path, ["camels_1"], **COLUMNS)


TITLES = {  # the four products, as they are published
    "daymet": ("cida", "Year Mnth Day Hr\tdayl(s)\tprcp(mm/day)\tsrad(W/m2)\ttmax(C)"),
    "maurer": ("maurer", "Year Mnth Day Hr\tDayl(s)\tPRCP(mm/day)\tSRAD(W/m2)\tTmax(C)"),
    "nldas": ("nldas", "Year Mnth Day Hr\tDayl(s)\tPRCP(mm/day)\tSRAD(W/m2)\tTmax(C)"),
    "maurer_extended": ("maurer", "Year\tMnth\tDay\tHr\tdayl(s)\tprcp(mm/day)\tsrad(W/m2)\ttmax(C)"),
}


@pytest.mark.parametrize("product", TITLES)
def test_the_products_of_camels(tmp_path, product):
    write_camels(tmp_path, upper=False)
    expected = read_camels(tmp_path, GAUGES, forcing=FORCING, attributes=["elev_mean"], categories=["huc_02"])
    assert expected.levels == (("huc_02", ("1", "5")),)
    word, titles = TITLES[product]
    for path in (tmp_path / "basin_mean_forcing" / "daymet").rglob("*.txt"):
        place = tmp_path / "basin_mean_forcing" / product / path.name.replace("cida", word)
        place.parent.mkdir(exist_ok=True)
        lines = path.read_text().splitlines()
        lines[3] = titles
        path.unlink()
        # maurer_extended has months without a leading zero, and files end their lines as Windows does
        place.write_text("\r\n".join(lines).replace(" 02 ", "\t2\t") + "\r\n", newline="")
    names = [name.upper() for name in FORCING]
    again = read_camels(
        tmp_path, GAUGES, product=product, forcing=names, attributes=["elev_mean"], categories=["huc_02"]
    )
    assert again.known_names == tuple(names)
    same(again.__class__(**vars(again) | {"known_names": expected.known_names}), expected)
    message = f"basin_mean_forcing/era5: there is no such folder; products here: .*{product}"
    with pytest.raises(BasinFileError, match=message):
        read_camels(tmp_path, GAUGES, product="era5", attributes=[])


def rewrite(folder, pattern, change):
    for path in folder.rglob(pattern):
        path.write_text(change(path.read_text()))


@pytest.mark.parametrize(
    ("pattern", "change", "message"),
    [
        ("01022500_lump*", lambda t: t.replace(" 100000000", "name"), "third line is 'name', expected the area"),
        ("01022500_lump*", lambda t: t.replace(" 100000000", "0"), "third line is '0', expected the area"),
        ("01022500_lump*", lambda t: t.replace("Mnth", "Month"), "has no 'mnth', but year, month"),
        ("01022500_lump*", lambda t: t.replace("2000 02 29", "2001 02 29"), "a row is no date"),
        ("01022500_lump*", lambda t: t.replace("2000 02 29", "2000 02 28"), "has the day 2000-02-28 twice"),
        ("01022500_lump*", lambda t: t.replace("1.50", "wet"), r"'prcp\(mm/day\)' holds .*such as '0.50'"),
        ("01022500_lump*", lambda t: t.replace(" 100000000", " 2252.7"), "an area of 2252.7 m².*Is it in km²"),
        ("01022500_lump*", lambda t: "\n".join(t.splitlines()[:4]) + "\n", "'01022500' has no row of 'discharge'"),
        (
            "camels_topo.txt",
            lambda t: t.replace(";92.5", ";1;92.5").replace(";250", ";1;250"),
            "more values than there",
        ),
        ("camels_topo.txt", lambda t: t.replace("\n0", "\n"), "has 'elev_mean', but no row of the gauge '01022500'"),
        (
            "camels_name.txt",
            lambda t: t.replace("huc_02", "elev_mean"),
            "'01022500' has different values of 'elev_mean'",
        ),
        ("01022500_stream*", lambda t: t.replace("01022500", "03015500"), "holds the gauge '03015500', expected '0102"),
        ("01022500_stream*", lambda t: t.replace("30.00", "Ice"), "its fifth column is no discharge"),
        ("camels_topo.txt", lambda t: t.replace("gauge_id", "id"), "camels_topo.txt: has no 'gauge_id', but id"),
        (
            "camels_*.txt",
            lambda t: t.replace("01022500", "1022500"),
            "camels_attributes_v2.0: has no attributes of '01",
        ),
    ],
)
def test_files_of_camels_are_refused(tmp_path, pattern, change, message):
    write_camels(tmp_path, upper=False)
    rewrite(tmp_path, pattern, change)
    with pytest.raises(BasinFileError, match=message):
        read_camels(tmp_path, GAUGES, forcing=FORCING, attributes=["elev_mean"])


def test_gauges_are_names_with_their_leading_zeros(basins, tmp_path):
    write_camels(tmp_path, upper=False)
    with pytest.raises(BasinFileError, match=r"Gauges of CAMELS have eight digits: '01022500'\?"):
        read_camels(tmp_path, ["1022500"], forcing=FORCING, attributes=[])
    for read_of in (read_camels, read_caravan):
        with pytest.raises(
            BasinFileError, match="basins has 1022500, a int; expected names in quotes, with their lead"
        ):
            read_of(tmp_path, [1022500], forcing=FORCING, attributes=[])


def test_words_of_a_gauge_that_a_file_lacks_are_not_missing_words(tmp_path):
    write_camels(tmp_path, upper=False)
    (tmp_path / "camels_attributes_v2.0" / "camels_vege.txt").write_text("gauge_id;cover\n01022500;Forest\n")
    of = lambda gauges: read_camels(tmp_path, gauges, forcing=FORCING, attributes=[], categories=["cover"]).levels
    assert of(GAUGES[:1]) == (("cover", ("Forest",)),)
    with pytest.raises(BasinFileError, match=r"camels_vege.txt: has 'cover', but no row of the gauge '03015500'"):
        of(GAUGES)
    (tmp_path / "camels_attributes_v2.0" / "camels_vege.txt").write_text(
        "gauge_id; cover\n01022500; Forest\n03015500;\n"
    )
    assert of(GAUGES) == (("cover", ("", "Forest")),)


def test_discharges_below_0_are_warned_of(basins):
    dataset = as_dataset(basins)
    dataset["discharge"][1, 2:] = [-99.0, -0.5]
    with pytest.warns(UserWarning, match="2 values of 'discharge' below 0, such as -99 of basin 'lamah_2', are learnt"):
        assert read(dataset).target.min() == -99.0


def test_units_of_forcing_are_read_and_written(basins, tmp_path):
    dataset = as_dataset(basins)
    dataset["rain"].attrs["units"] = "m"
    dataset.to_netcdf(tmp_path / "basins.nc")
    again = read_netcdf(tmp_path / "basins.nc", **NAMES)
    assert again.units == (("rain", "m"),)
    assert as_dataset(again)["rain"].attrs == {"units": "m"}
    write_caravan(tmp_path, basins, "netcdf")
    for gauge, unit in (("camels_1", "mm"), ("lamah_2", "m")):
        path = place_of(tmp_path, gauge, "netcdf")
        part = xarray.load_dataset(path)
        part["rain"].attrs["units"] = unit
        part.to_netcdf(path)
        assert read_caravan(tmp_path, [gauge], **COLUMNS).units == (("rain", unit),)
    with pytest.raises(BasinFileError, match=r"lamah_2.nc: has 'rain' in 'm', others in 'mm'"):
        read_caravan(tmp_path, ["camels_1", "lamah_2"], **COLUMNS)


def test_what_camels_writes_for_missing_values_is_missing(tmp_path):
    write_camels(tmp_path, upper=False)
    rewrite(tmp_path, "01022500_lump*", lambda t: t.replace("1.50", "-999"))
    again = read_camels(tmp_path, GAUGES, forcing=FORCING, attributes=["elev_mean"])
    assert np.argwhere(np.isnan(by_basin(again, again.known)[0])).tolist() == [[1, 0]]
    assert np.flatnonzero(np.isnan(by_basin(again, again.target)[0])).tolist() == [1]
    # a discharge before the forcing begins is left out, and a day that is missing among others is NaN
    without = r"2000 (02 28|03 01).*\n"
    rewrite(tmp_path, "03015500_lump*", lambda t: re.sub(without, "", t))
    again = read_camels(tmp_path, GAUGES, forcing=FORCING, attributes=["elev_mean"])
    assert str(again.times[again.starts[1]].astype("datetime64[D]")) == "2000-02-29"
    assert np.isnan(by_basin(again, again.known)[1]).all(1).tolist() == [False, True, False, False]
