"""Series on the disk: the same networks and forecasts as of the memory, without a copy of the rows."""

import json
import tracemalloc
from dataclasses import replace

import jax
import numpy as np
import pytest
import yaml

from lstmjax.cli import main
from lstmjax.forecast import (
    Design,
    Rolling,
    SeriesError,
    Training,
    backtest,
    fit_forecaster,
    from_arrays,
    from_frame,
    open_series,
    read_parts,
    store_series,
)

pyarrow = pytest.importorskip("pyarrow")
pytest.importorskip("narwhals")
COLUMNS = {"known": ["price"], "past": ["visits"], "numbers": ["area"], "categories": ["kind"]}


def shops(count=7, steps=40):
    """Return a long table: series of several lengths with gaps, and covariates with missing values."""
    rng = np.random.default_rng(5)
    rows = {name: [] for name in ("series", "time", "target", "price", "visits", "area", "kind")}
    for s in range(count):
        n = steps - 3 * s
        rows["series"] += [f"shop {s}"] * n
        rows["time"] += [str(np.datetime64("2015-01") + np.timedelta64(s + k, "M")) for k in range(n)]
        target = rng.gamma(4.0, 2.0 + s, n)
        target[rng.random(n) < 0.1] = np.nan
        rows["target"] += np.concatenate([target[:-2], [np.nan, np.nan]]).tolist()
        rows["price"] += rng.normal(3.0, 1.0, n).tolist()
        rows["visits"] += np.where(rng.random(n) < 0.2, np.nan, rng.normal(50.0, 9.0, n)).tolist()
        rows["area"] += [float(10 + s)] * n
        rows["kind"] += ["xyz"[(count - s) % 3]] * n
    return pyarrow.table(rows)


def design_of(**fields):
    return Design(**({"horizon": 2, "context": 12, "season": 12, "hidden_size": 5, "lags": (1, 12)} | fields))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Return the same series in the memory and mapped, written from two files in parts of one series each."""
    folder = tmp_path_factory.mktemp("table")
    table = shops()
    half = 57  # within a series, which goes on in the next file
    import pyarrow.parquet as parquet

    parquet.write_table(table.slice(0, half), folder / "a.parquet")
    parquet.write_table(table.slice(half), folder / "b.parquet")
    read = lambda rows: from_frame(rows, **COLUMNS).with_calendar(["month"])
    return read(table), store_series(read_parts(folder, read), folder / "sales.series")


def test_mapped_series_are_those_of_the_table(pair):
    whole, mapped = pair
    for name in ("target", "starts", "ends", "past", "known", "numbers", "categories", "times"):
        np.testing.assert_array_equal(getattr(mapped, name), getattr(whole, name))
    for name in ("names", "season", "frequency", "past_names", "known_names", "number_names", "levels"):
        assert getattr(mapped, name) == getattr(whole, name)
    assert isinstance(mapped.target, np.memmap)
    assert not mapped.target.flags.writeable


@pytest.mark.usefixtures("promotion")
@pytest.mark.parametrize(
    "fields", [{"scaling": "standard", "seasonal_adjustment": True}, {"form": "handoff", "base": "seasonal"}]
)
def test_the_network_is_that_of_the_memory(pair, fields):
    design, training = design_of(**fields), Training(steps=60, batch_size=6, weights="size")
    fits = [fit_forecaster(series.cut(2), design, training, seed=3) for series in pair]
    for a, b in zip(*(jax.tree.leaves(fit.params) for fit in fits), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fits[0].losses, fits[1].losses, rtol=1e-6)
    results = [backtest(fits[0], series, Rolling(2, 1), samples=10, batch_size=3) for series in pair]
    np.testing.assert_allclose(results[1].samples, results[0].samples, rtol=1e-5)
    np.testing.assert_array_equal(results[1].target, results[0].target)


@pytest.mark.usefixtures("promotion")
def test_what_cannot_be_forecast_is_said_as_of_the_table(pair):
    """Only the rows around the origins are read of mapped series, but steps are counted from their beginnings."""
    forecaster = fit_forecaster(pair[0].cut(2), design_of(), Training(steps=1, batch_size=2))
    count, horizon = len(pair[0]), forecaster.design.horizon
    last = pair[0].lengths - horizon
    for origins in (0 * last, last + 10, np.where(np.arange(count) == 3, last + horizon + 1, last), last):
        said = []
        for series in pair:
            target = np.array(series.target)
            target[series.starts[4] : series.starts[5] - horizon] = np.nan
            series = replace(series, target=target) if origins is last else series
            with pytest.raises(SeriesError) as raised:
                forecaster.forecast(series, origins=origins, samples=2)
            said.append(str(raised.value))
        assert said[0] == said[1]


def test_targets_that_are_cut_are_gone_and_the_files_are_not_changed(pair):
    whole, mapped = pair
    shorter = mapped.cut(3).cut(1)
    np.testing.assert_array_equal(shorter.target, whole.cut(4).target)
    np.testing.assert_array_equal(open_series(mapped.folder).target, whole.target)


@pytest.mark.usefixtures("promotion")
def test_no_copy_of_the_rows_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr("lstmjax.forecast.series.BLOCK", 2**16)  # so that a block is one series
    rng = np.random.default_rng(2)
    count, steps = 60, 50_000
    parts = (
        from_arrays([rng.gamma(3.0, 2.0, steps)], names=[f"{s}"], known={"price": [rng.normal(size=steps + 2)]})
        for s in range(count)
    )
    series = store_series(parts, tmp_path / "large")
    design = design_of(season=4, lags=(1, 4))
    network = lambda: fit_forecaster(series.cut(2), design, Training(steps=3))
    network().forecast(series, samples=2, batch_size=30)  # compiles
    tracemalloc.start()
    try:
        network().forecast(series, samples=2, batch_size=30)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < series.target.nbytes / 3


@pytest.mark.usefixtures("promotion")
def test_a_configuration_maps_a_folder_of_files(tmp_path, capsys):
    import pyarrow.parquet as parquet

    table = shops(3)
    (tmp_path / "sales").mkdir()
    parquet.write_table(table, tmp_path / "sales" / "a.parquet")
    measures = {}
    for memory in ("table", "mapped", "mapped"):  # the second time, the copy is there
        config = {
            "data": {"file": str(tmp_path / "sales"), "memory": memory, "calendar": ["month"], **COLUMNS},
            "horizon": 2, "samples": 20, "held_out": 1, "network": {"hidden_size": 3, "context": 12, "lags": [1]},
            "fit": {"steps": 5, "batch_size": 4}, "calibration": {"origins": 1},
        }  # fmt: skip
        config["data"]["known"] = []
        config["data"]["past"] = ["visits", "price"]
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        run = tmp_path / f"run-{len(list(tmp_path.iterdir()))}-{memory}"
        assert main(["forecast", str(tmp_path / "config.yaml"), "--run-dir", str(run)]) == 0
        measures[run] = json.loads((run / "measures.json").read_text())["measures"]["network"]
    assert main(["backtest", str(run), "--refit"]) == 0  # of the mapped series
    first, *others = measures.values()
    for other in others:
        assert other == pytest.approx(first, rel=1e-4, nan_ok=True)
    assert len(others) == 2
    assert len(list((tmp_path / ".lstmjax").iterdir())) == 1
    assert main(["inspect", str(run), "--out", str(tmp_path / "page.html"), "--no-open"]) == 0
    capsys.readouterr()


def part(name, **fields):
    return from_arrays([[1.0, 2.0, 3.0]], names=[name], **fields)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "parts is empty"),
        ([part("a"), part("a")], "series 'a' is in two parts, but the rows of a series stand together"),
        ([part("a"), part("b", season=2)], "series 'b' has the season 2, but that with 'a' has 1"),
        (
            [part("a"), part("b", past={"wind": [[1.0, 2.0, 3.0]]})],
            r"series 'b' has the past names \('wind',\), but that",
        ),
    ],
)
def test_parts_that_are_no_set_are_refused_and_nothing_is_left(tmp_path, parts, message):
    with pytest.raises(SeriesError, match=message):
        store_series(iter(parts), tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_folders_that_hold_no_series_are_refused(tmp_path):
    with pytest.raises(SeriesError, match="holds no series"):
        open_series(tmp_path)
    store_series([part("a")], tmp_path / "series")
    with pytest.raises(SeriesError, match="is there already; open it by open_series"):
        store_series([part("a")], tmp_path / "series")
    (tmp_path / "series" / "target").write_bytes(b"12345678")
    with pytest.raises(SeriesError, match="target has 8 bytes, expected 24"):
        open_series(tmp_path / "series")


def test_a_table_that_is_not_sorted_by_series_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("series,time,target\n" + "".join(f"{s},{t},1.5\n" for t in (1, 2) for s in "ab"))
    (tmp_path / "b.csv").write_text("series,time,target\n" + "".join(f"{s},{t},2.5\n" for t in (3, 4) for s in "ab"))
    with pytest.raises(SeriesError, match="series 'a' is in two parts"):
        store_series(read_parts(tmp_path, from_frame), tmp_path / "series")
    with pytest.raises(SeriesError, match=r"a.csv: has no column 'shop'; it has series, time, target\."):
        store_series(read_parts(tmp_path, from_frame, "shop"), tmp_path / "series")
