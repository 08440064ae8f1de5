"""Series from long tables: order, gaps, frequencies, static columns; and the faults of tables."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from lstmjax.forecast import SeriesError, from_arrays, from_frame, gaps, read_table
from lstmjax.forecast.calendar import Frequency, features_of, frequency_of
from lstmjax.forecast.run_forecast import described

pyarrow = pytest.importorskip("pyarrow")
pytest.importorskip("narwhals")


def table(**columns):
    return pyarrow.table(columns)


def two_series(**more):
    months = ["2020-01", "2020-02", "2020-04", "2020-05", "2019-12", "2020-01", "2020-02"]
    columns = {"series": list("aaaabbb"), "time": [f"{month}-01" for month in months]}
    return columns | {"target": [1.0, 2.0, 4.0, None, 10.0, None, 30.0]} | more


def test_rows_in_any_order_make_the_same_series():
    columns = two_series(price=[0.1, 0.2, 0.4, 0.5, 1.0, 1.1, 1.2])
    series = from_frame(table(**columns), known=["price"])
    order = np.random.default_rng(0).permutation(7)
    again = from_frame(table(**{name: [values[k] for k in order] for name, values in columns.items()}), known=["price"])
    for name in ("target", "starts", "ends", "known", "times"):
        np.testing.assert_array_equal(getattr(series, name), getattr(again, name))
    assert series.names == again.names == ("a", "b")


def test_gaps_are_missing_targets_and_the_last_rows_are_the_future():
    series = from_frame(table(**two_series(price=[0.1, 0.2, 0.4, 0.5, 1.0, 1.1, 1.2])), known=["price"])
    np.testing.assert_array_equal(series.target[:5], [1.0, 2.0, np.nan, 4.0, np.nan])  # March is not in the table
    np.testing.assert_array_equal(series.lengths, [4, 3])
    np.testing.assert_array_equal(series.known[:5, 0], [0.1, 0.2, np.nan, 0.4, 0.5])
    assert gaps(series) == {"a": 1, "b": 1}
    assert str(series.times[2])[:7] == "2020-03"
    assert (series.frequency, series.season) == (Frequency(1, "M"), 12)


def test_static_columns_are_one_value_for_each_series():
    columns = two_series(area=[5.0] * 4 + [7.0] * 3, kind=["x"] * 4 + ["y"] * 3)
    series = from_frame(table(**columns), numbers=["area"], categories=["kind"])
    np.testing.assert_array_equal(series.numbers, [[5.0], [7.0]])
    np.testing.assert_array_equal(series.categories, [[0], [1]])
    assert series.levels == (("kind", ("x", "y")),)


def test_a_table_may_be_one_series_with_numbered_steps():
    series = from_frame(table(t=[5, 3, 4], y=[3.0, 1.0, 2.0]), target="y", time="t", series=None)
    np.testing.assert_array_equal(series.target, [1.0, 2.0, 3.0])
    np.testing.assert_array_equal(series.extended(2).times, [3, 4, 5, 6, 7])
    assert series.season == 1
    with pytest.raises(SeriesError, match="calendar features need dates; the series count steps"):
        series.with_calendar(["month"])


def test_whole_numbers_with_a_step_of_ten_have_no_gaps():
    """The step divides all distances, also where the longest series has gaps, or all have."""
    columns = {"series": list("aaabbb"), "time": [100, 110, 140, 5, 25, 35], "target": np.arange(6.0)}
    series = from_frame(table(**columns))
    assert series.frequency == Frequency(10, "1")
    np.testing.assert_array_equal(series.target, [0, 1, np.nan, np.nan, 2, 3, np.nan, 4, 5])
    np.testing.assert_array_equal(series.extended(1).times[series.ends[0] :][:1], [150])
    assert (
        described(series)
        == "2 series of 4 to 5 steps, a step is 10, no season, 3 targets missing in 2 series (a 2, b 1)"
    )


def test_one_of_a_kind_is_described_in_the_singular():
    assert described(from_frame(table(series=["a"], time=[3], target=[1.0]))) == "1 series of 1 step, no season"
    gap = from_frame(table(series=["a"] * 3, time=[0, 1, 2], target=[1.0, np.nan, 2.0]))
    assert described(gap) == "1 series of 3 steps, no season, 1 target missing in 1 series"


def test_business_days_have_no_gaps_at_weekends():
    days = np.busday_offset(np.datetime64("2024-03-01"), np.arange(20))  # a Friday
    kept = np.delete(days, 7)
    series = from_frame(table(time=kept, target=np.arange(19.0)), series=None)
    assert (series.frequency, series.season) == (Frequency(1, "B"), 5)
    assert gaps(series) == {"target": 1}
    np.testing.assert_array_equal(series.times.astype("datetime64[D]"), days)
    np.testing.assert_array_equal(series.extended(1).times[-1].astype("datetime64[D]"), np.datetime64("2024-03-29"))
    other = np.concatenate([kept, [np.datetime64("2024-03-02"), np.datetime64("2024-03-04")]])
    both = table(time=other, target=np.arange(21.0), series=["a"] * 19 + ["b"] * 2)
    assert from_frame(both).frequency == Frequency(1, "D")  # a Saturday


@pytest.mark.parametrize(
    ("first", "step", "expected"),
    [
        ("2020-01-31", "end of month", Frequency(1, "M", at_end=True)),
        ("2020-01-31", "end of quarter", Frequency(3, "M", at_end=True)),
        ("2020-01-31", "end of year", Frequency(1, "Y", at_end=True)),
        ("2020-01-30", "30th of month", Frequency(1, "M")),
        ("2020-01-01", np.timedelta64(7, "D"), Frequency(7, "D")),
        ("2020-01-01T00:00", np.timedelta64(1, "h"), Frequency(1, "h")),
        ("2020-01-01T00:00", np.timedelta64(15, "m"), Frequency(15, "m")),
        ("2020-01-01", "quarter", Frequency(3, "M")),
        ("2020-01-01", "year", Frequency(1, "Y")),
    ],
)
def test_frequencies_are_recognised(first, step, expected):
    months = np.datetime64("2020-01") + np.arange(30).astype("timedelta64[M]")
    ends = (months + np.timedelta64(1, "M")).astype("datetime64[D]") - np.timedelta64(1, "D")
    times = {
        "end of month": lambda: ends,
        "end of quarter": lambda: ends[2::3],
        "end of year": lambda: ends[11::12],
        "30th of month": lambda: np.minimum(months.astype("datetime64[D]") + np.timedelta64(29, "D"), ends),
        "quarter": lambda: months[::3].astype("datetime64[D]"),
        "year": lambda: (np.datetime64("2020") + np.arange(9).astype("timedelta64[Y]")).astype("datetime64[D]"),
    }.get(step, lambda: np.datetime64(first) + step * np.arange(30))()
    found = frequency_of(times.astype("datetime64[us]"))
    assert found == expected
    next_times = found.after(times[0].astype("datetime64[us]"), len(times) - 1)
    np.testing.assert_array_equal(next_times, times[1:].astype("datetime64[us]"))


def test_calendar_features_are_on_a_circle():
    times = np.asarray(["2024-01-01T06:00", "2024-07-01T18:00"], "datetime64[us]")
    columns, labels = features_of(times, ["month", "hour", "day_of_week"])
    assert labels == ("month_sin", "month_cos", "hour_sin", "hour_cos", "day_of_week_sin", "day_of_week_cos")
    np.testing.assert_allclose(columns[:, :2], [[0, 1], [0, -1]], atol=1e-12)
    np.testing.assert_allclose(columns[:, 2:4], [[1, 0], [-1, 0]], atol=1e-12)
    np.testing.assert_allclose(columns[:, 4:], [[0, 1], [0, 1]], atol=1e-12)  # both are Mondays


def test_future_rows_have_times_and_calendar_features():
    series = from_frame(table(**two_series())).extended(3).with_calendar(["month"])
    ahead = series.times[series.ends[1] : series.ends[1] + 3]
    assert [str(time)[:7] for time in ahead] == ["2020-03", "2020-04", "2020-05"]
    assert not np.isnan(series.known).any()


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({}, {"target": "tagret"}, "no column 'tagret'; it has .*Did you mean 'target'"),
        ({"time": ["2020-01-01"] * 7}, {}, "series 'a' has two rows for 2020-01-01"),
        ({"series": ["a"] * 7}, {}, "series 'a' has two rows for 2020-01-01.*is the column that tells series apart"),
        ({"target": list("1234567")}, {}, "column 'target' has '1', expected numbers"),
        ({"target": [1.0, float("inf"), 1, 1, 1, 1, 1]}, {}, "column 'target' is infinite in row 2"),
        ({"target": [None] * 4 + [1.0, 2.0, 3.0]}, {}, "series 'a' has no target at all"),
        ({"time": ["yesterday"] * 7}, {}, "column 'time' has 'yesterday', expected dates as in ISO 8601"),
        (
            {"area": [1.0, 1.0, 2.0, 1.0, 5.0, 5.0, 5.0]},
            {"numbers": ["area"]},
            "'area' is static, but series 'a' has both",
        ),
        ({"series": ["a"] * 4 + ["b", None, "b"]}, {}, "column 'series' has no series in row 6"),
        ({"time": [202010, 202011, 202012, 202101, 202010, 202011, 202012]}, {}, "has 202010, which spells a date"),
        (
            {"time": [20200130, 20200131, 20200201, 20200202, 20200130, 20200131, 20200201]},
            {},
            "has 20200130, which spells a date",
        ),
        ({"time": [f"2020-01-01T00:00:00.{k}" for k in range(7)]}, {"series": None}, "shorter than a second"),
        ({}, {"known": ["target"]}, "column 'target' is asked for twice"),
        (
            {
                "time": [
                    "2020-01-01",
                    "2020-01-02",
                    "2020-01-03",
                    "2020-01-04",
                    "2020-01-01",
                    "2020-01-01T12:00",
                    "2020-01-02",
                ]
            },
            {},
            "series 'b' has the time 2020-01-01T12.*not a whole number of steps of a day",
        ),
    ],
)
def test_faults_of_tables_are_named(columns, options, message):
    with pytest.raises(SeriesError, match=message):
        from_frame(table(**two_series() | columns), **options)


def test_a_gap_between_ends_of_months_is_dated_by_the_months_that_it_lacks():
    days = ["2021-01-31", "2021-04-30", "2021-05-31"]
    series = from_frame(table(time=days, target=[1.0, 4.0, 5.0]), series=None).extended(1).with_calendar(["month"])
    shown = [str(time)[:10] for time in series.times]
    assert shown == ["2021-01-31", "2021-02-28", "2021-03-31", "2021-04-30", "2021-05-31", "2021-06-30"]
    np.testing.assert_allclose(series.known[:, 0], np.sin(2 * np.pi * np.arange(6) / 12))


def test_a_missing_category_is_a_category():
    columns = two_series() | {"kind": ["x"] * 4 + [None] * 3}
    assert from_frame(table(**columns), categories=["kind"]).levels == (("kind", ("", "x")),)


def test_other_data_frames_are_read():
    pandas = pytest.importorskip("pandas")
    columns = two_series()
    frame = pandas.DataFrame(columns)
    frame["time"] = pandas.to_datetime(frame["time"])
    np.testing.assert_array_equal(from_frame(frame).target, from_frame(table(**columns)).target)


FRAMES = {
    "pandas": lambda pandas, columns: pandas.DataFrame(columns),
    "polars": lambda polars, columns: polars.DataFrame(columns),
    "pyarrow": lambda pyarrow, columns: pyarrow.table(columns),
}


@pytest.mark.parametrize("library", FRAMES)
def test_days_of_a_time_zone_are_days_where_clocks_change(library):
    """And hours are those of UTC: an hour that is there twice is two steps, one that is not is none."""
    package, zone = pytest.importorskip(library), ZoneInfo("Europe/Berlin")
    days = [datetime(2024, 3, 25, tzinfo=zone) + timedelta(days=k) for k in range(14)]
    series = from_frame(FRAMES[library](package, {"time": days, "target": np.arange(14.0)}), series=None)
    assert (series.frequency, gaps(series)) == (Frequency(1, "D"), {})
    assert str(series.times[-1])[:16] == "2024-04-07T00:00"
    first = datetime(2024, 10, 26, 20, tzinfo=UTC)
    hours = [(first + timedelta(hours=k)).astimezone(zone) for k in range(9)]
    assert hours[4].replace(tzinfo=None) == hours[5].replace(tzinfo=None)
    series = from_frame(FRAMES[library](package, {"time": hours, "target": np.arange(9.0)}), series=None)
    assert (series.frequency, gaps(series)) == (Frequency(1, "h"), {})
    assert str(series.times[0])[:16] == "2024-10-26T20:00"


def test_offsets_in_text_are_read_as_zones_are():
    for suffix in ("T00:00:00+02:00", "T00:00:00Z", " 00:00:00-0500"):
        days = [f"2024-01-{k:02d}{suffix}" for k in range(1, 9)]
        series = from_frame(table(time=days, target=np.arange(8.0)), series=None)
        assert str(series.times[0])[:16] == "2024-01-01T00:00"
    with pytest.raises(SeriesError, match=r"has '2024-01-03', without the offset from UTC that other rows have"):
        from_frame(table(time=["2024-01-02T00:00Z", "2024-01-03"], target=[1.0, 2.0]), series=None)


@pytest.mark.parametrize("kind", ["Float64", "Int64", "boolean", "int64[pyarrow]"])
def test_missing_values_of_nullable_columns_are_missing(kind):
    pandas = pytest.importorskip("pandas")
    days = pandas.date_range("2024-01-01", periods=4)
    frame = pandas.DataFrame({"time": days, "target": pandas.array([1, None, 0, 1], kind)})
    np.testing.assert_array_equal(from_frame(frame, series=None).target, [1, np.nan, 0, 1])
    counted = pandas.DataFrame({"time": pandas.array([1, 2, 4, None], "Int64"), "target": np.arange(4.0)})
    with pytest.raises(SeriesError, match="column 'time' has no time in row 4"):
        from_frame(counted, series=None)
    np.testing.assert_array_equal(from_frame(counted[:3], series=None).target, [0, 1, np.nan, 2])


@pytest.mark.parametrize("word", ["202401", "20240131"])
def test_dates_in_digits_alone_are_no_years(word):
    with pytest.raises(SeriesError, match=f"column 'time' has '{word}', expected dates as in ISO 8601"):
        from_frame(table(time=[word, "202402"], target=[1.0, 2.0]), series=None)


def test_the_files_of_a_folder_are_one_table(tmp_path):
    """Of several kinds, with the rows of a series in several files, and whole numbers in one of them."""
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = two_series()
    expected = from_frame(table(**columns))
    (tmp_path / "2020").mkdir()
    first = {name: values[:3] for name, values in columns.items()}
    first["time"] = np.asarray(first["time"], "datetime64[D]")  # as CSV is read
    parquet.write_table(table(**first), tmp_path / "2020/a.parquet")
    rows = ["time,target,series", "2020-05-01,,a", "2019-12-01,10,b", "2020-01-01,,b", "2020-02-01,30,b"]
    (tmp_path / "b.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "notes.txt").write_text("no table")
    series = from_frame(read_table(tmp_path))
    for name in ("names", "target", "times", "ends"):
        np.testing.assert_array_equal(getattr(series, name), getattr(expected, name))
    (tmp_path / "c.csv").write_text("time,series\n2020-01-01,c\n")
    with pytest.raises(
        SeriesError, match=r"c\.csv: has the columns time, series, but a\.parquet has series, time, target"
    ):
        read_table(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SeriesError, match="empty: has no file that ends in"):
        read_table(tmp_path / "empty")


def test_what_is_no_data_frame_is_named():
    pandas = pytest.importorskip("pandas")
    columns = {"time": [1, 2], "target": [1.0, 2.0]}
    with pytest.raises(SeriesError, match="frame is a dict, expected a data frame of pandas, Polars or PyArrow"):
        from_frame(columns)
    with pytest.raises(SeriesError, match="frame is a list, expected a data frame that narwhals knows"):
        from_frame([columns])
    with pytest.raises(SeriesError, match=r"no column 'time'; it has 'target'\. Is it the index\? .*reset_index"):
        from_frame(pandas.DataFrame(columns).set_index("time"), series=None)
    with pytest.raises(SeriesError, match="the table has two columns of one name"):
        from_frame(pandas.DataFrame(np.ones((2, 2)), columns=["time", "time"]), series=None)
    with pytest.raises(SeriesError, match=r"column 'time' has 1\.5, expected dates, or whole numbers"):
        from_frame(table(time=[1.0, 1.5], target=[1.0, 2.0]), series=None)


def test_a_lazy_frame_is_to_be_collected():
    polars = pytest.importorskip("polars")
    with pytest.raises(SeriesError, match=r"frame is lazy.*Pass frame\.collect\(\)"):
        from_frame(polars.LazyFrame({"time": [1, 2], "target": [1.0, 2.0]}))


def test_arrays_have_the_covariates_that_a_table_has():
    columns = two_series(
        price=[0.1, 0.2, 0.4, 0.5, 1.0, 1.1, 1.2],
        rain=[7.0, 8.0, 9.0, None, 3.0, 4.0, 5.0],
        area=[5.0] * 4 + [7.0] * 3,
        kind=["y"] * 4 + ["x"] * 3,
    )
    expected = from_frame(table(**columns), known=["price"], past=["rain"], numbers=["area"], categories=["kind"])
    nan = np.nan
    series = from_arrays(
        [[1.0, 2.0, nan, 4.0], [10.0, nan, 30.0]],
        names=["a", "b"],
        season=12,
        start=["2020-01", "2019-12"],
        known={"price": [[0.1, 0.2, nan, 0.4, 0.5], [1.0, 1.1, 1.2]]},
        past={"rain": [[7.0, 8.0, nan, 9.0], [3.0, 4.0, 5.0]]},
        numbers={"area": [5.0, 7.0]},
        categories={"kind": ["y", "x"]},
    )
    for name in ("names", "season", "levels", "past_names", "known_names", "number_names", "frequency"):
        assert getattr(series, name) == getattr(expected, name), name
    for name in ("target", "starts", "ends", "past", "known", "numbers", "categories"):
        np.testing.assert_array_equal(getattr(series, name), getattr(expected, name), err_msg=name)


@pytest.mark.parametrize(
    ("covariates", "message"),
    [
        ({"known": {"x": [[1.0, 2.0]]}}, r"known\['x'\] has 1 entries, but there are 2 series"),
        ({"known": {"x": [[1.0], [1.0, 2.0]]}}, r"known\['x'\]\[0\] has the shape \[1\], expected 3 steps"),
        ({"past": {"x": [[1.0, 2.0, np.inf], [1.0, 2.0]]}}, r"past\['x'\]\[0\] has infinite values"),
        ({"numbers": {"x": [1.0]}}, r"numbers\['x'\] is \[1\], expected \[2\], one a series"),
        ({"categories": {"x": ["a"]}}, r"categories\['x'\] has 1 entries"),
    ],
)
def test_covariates_of_other_sizes_are_refused(covariates, message):
    with pytest.raises(SeriesError, match=message):
        from_arrays([[1.0, 2.0, 3.0], [4.0, 5.0]], **covariates)


def test_months_of_arrays_go_on_in_months():
    series = from_arrays([np.arange(5.0), np.arange(3.0)], start=["2020-11", "2021-01"]).extended(2)
    assert [str(time) for time in series.times[series.ends[0] : series.starts[1]]] == ["2021-04", "2021-05"]
    assert [str(time) for time in series.times[series.ends[1] :]] == ["2021-04", "2021-05"]
