"""`lstmjax forecast` and `lstmjax backtest`, on a small table."""

import csv
import importlib.machinery
import json
import re
import shutil
import sys
import types

import numpy as np
import pytest
import yaml

from lstmjax.cli import main
from lstmjax.forecast import backtest
from lstmjax.forecast.config import load_forecast_config
from lstmjax.forecast.outputs import digits_of, text_of
from lstmjax.forecast.run_forecast import read_series
from lstmjax.forecast.storing import ForecasterFileError, load_ensemble, load_forecaster, save_forecaster
from lstmjax.report.inspect_forecast import inspect_forecast

pytest.importorskip("pyarrow")
HORIZON = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("forecast")
    rng = np.random.default_rng(0)
    rows = ["shop,month,sales"]
    for shop in "abc":
        for t in range(36):
            month = str(np.datetime64("2020-01") + np.timedelta64(t, "M"))
            rows.append(f"{shop},{month},{10 + t + 5 * np.sin(t * np.pi / 6) + rng.normal():.2f}")
    (root / "sales.csv").write_text("\n".join(rows) + "\n")
    config = {
        "data": {"file": str(root / "sales.csv"), "target": "sales", "series": "shop", "time": "month",
                 "calendar": ["month"]},
        "horizon": HORIZON, "origins": 2, "samples": 20, "seeds": 2,
        "network": {"hidden_size": 4, "context": 12, "lags": [1, 12]}, "fit": {"steps": 20, "batch_size": 8},
    }  # fmt: skip
    (root / "config.yaml").write_text(yaml.safe_dump(config))
    return root


@pytest.mark.usefixtures("promotion")
def test_a_forecast_is_fitted_measured_written_and_measured_again(folder, capsys):
    run = folder / "run"
    if run.exists():  # of another test
        shutil.rmtree(run)
    assert main(["forecast", str(folder / "config.yaml"), "--run-dir", str(run)]) == 0
    printed = capsys.readouterr().out
    assert "3 series of 36 to 36 months, season of 12 steps" in printed
    for row in ("ensemble of 2", "one network (median)", "seasonal naive", "drift"):
        assert row in printed
    assert "the best baseline" in printed
    measures = json.loads((run / "measures.json").read_text())
    assert len(measures["seeds"]) == 2
    lines = (run / "forecast.csv").read_text().splitlines()
    assert lines[0] == "series,time,step,mean,median,q0.1,q0.5,q0.9"
    assert len(lines) == 1 + 3 * HORIZON
    assert lines[1].startswith("a,2023-01-01,1,")
    median, low, middle, high = (float(word) for word in lines[1].split(",")[4:])
    assert low <= middle == median <= high
    with (run / "measures.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["series"], row["forecast"]) for row in rows[:5]] == [
        ("a", "network"), ("a", "naive"), ("a", "seasonal naive"), ("a", "drift"), ("b", "network")
    ]  # fmt: skip
    for name in ("mase", "crps", "coverage_80"):
        values = [float(row[name]) for row in rows if row["forecast"] == "network"]
        assert np.mean(values) == pytest.approx(measures["measures"]["ensemble of 2"][name], rel=1e-4)
    assert measures["pooled"]["naive"].keys() >= {"wape", "nrmse", "mae"}
    assert (run / "forecast.png").read_bytes()[:4] == b"\x89PNG"
    assert main(["backtest", str(run), "--origins", "2"]) == 0
    again = capsys.readouterr().out
    assert next(line for line in printed.splitlines() if "MASE" in line) in again
    assert main(["backtest", str(run), "--origins", "3"]) == 2
    assert "an origin 5 steps before it would not be fair" in capsys.readouterr().err
    for command in (["evaluate"], ["train", "--resume"], ["predict", "--out", "x.csv"], ["export"]):
        last = ["x.onnx"] if command[0] in ("predict", "export") else []
        assert main([command[0], *command[1:], str(run), *last]) == 2
        words = capsys.readouterr().err
        assert f"{run}: is the folder of a forecast, not of lstmjax train; its networks are measured by" in words
        assert f"lstmjax backtest {run}" in words


@pytest.mark.usefixtures("promotion")
def test_samples_parquet_and_a_picture_for_each_series(folder, tmp_path, capsys):
    """And settings chosen at earlier origins: what is held out is not read, so that forecasts begin there."""
    parquet = pytest.importorskip("pyarrow.parquet")
    tree = yaml.safe_load((folder / "config.yaml").read_text())
    tree |= {"files": "parquet", "write_samples": True, "picture_per_series": True, "held_out": 4, "seeds": 1}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree | {"fit": {"steps": 2, "batch_size": 4}}))
    run = tmp_path / "run"
    assert main(["forecast", str(tmp_path / "config.yaml"), "--run-dir", str(run)]) == 0
    ahead, samples = (parquet.read_table(run / name).to_pydict() for name in ("forecast.parquet", "samples.parquet"))
    assert str(ahead["time"][0])[:10] == "2022-09-01"
    assert (ahead["series"][3], ahead["step"][3]) == ("b", 1)
    drawn = np.asarray([samples[f"sample_{n}"] for n in range(1, 21)])
    np.testing.assert_allclose(ahead["median"], np.median(drawn, 0), rtol=1e-5)
    np.testing.assert_allclose(ahead["q0.9"], np.quantile(drawn, 0.9, 0), rtol=1e-5)
    assert sorted(path.name for path in (run / "pictures").iterdir()) == ["1-a.png", "2-b.png", "3-c.png"]
    capsys.readouterr()
    out = tmp_path / "measures.csv"
    command = ["backtest", str(run), "--origins", "4", "--refit", "--out", str(out)]
    assert main(command) == 0
    assert "1 x 4 fits of 2 steps" in capsys.readouterr().out
    assert len(out.read_text().splitlines()) == 1 + 3 * 4
    assert main([*command[:-1], "x.txt"]) == 2
    assert "--out is x.txt, expected a name that ends in .csv" in capsys.readouterr().err
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree | {"held_out": 36}))
    assert main(["forecast", str(tmp_path / "config.yaml"), "--run-dir", str(tmp_path / "no")]) == 2
    assert "held_out is 36, but series 'a' has 36 targets" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("level", "deviation", "digits"), [(0.0, 1.0, 6), (370.0, 1.0, 6), (1e6, 1.0, 9), (1e9, 1.0, 12), (5.0, 0.0, 6)]
)
def test_forecasts_are_written_in_the_digits_in_which_samples_differ(level, deviation, digits):
    samples = level + deviation * np.linspace(-0.7, 0.7, 40)
    assert digits_of(samples) == digits


@pytest.mark.usefixtures("promotion")
def test_a_forecast_opens_in_the_page_with_dates(folder, tmp_path, capsys):
    """Of the small table: 12 steps of context, 3 of the horizon, which ends with December 2022."""
    run = forecast_run(folder)
    capsys.readouterr()
    page = tmp_path / "page.html"
    assert main(["inspect", str(run), "--out", str(page), "--examples", "2"]) == 0
    assert "2 of 3 series shown" in capsys.readouterr().out
    text = page.read_text()
    data = json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.DOTALL).group(1))
    first, second = data["examples"]
    assert (first["name"], second["name"]) == ("a", "b")
    assert first["steps"] == len(first["times"]) == 12 + HORIZON
    assert (first["times"][0], first["times"][-1]) == ("2021-10-01", "2022-12-01")
    assert data["input"]["features"][:4] == ["lag 1", "lag 12", "lag 1 missing", "lag 12 missing"]
    assert main(["inspect", str(run), "--compare", str(run)]) == 2
    assert f"--compare is for runs of lstmjax train; {run} is the folder of a forecast" in capsys.readouterr().err
    assert main(["inspect", str(run), "--out", "page.txt"]) == 2
    assert "page.txt: expected a name that ends in .html" in capsys.readouterr().err


def forecast_run(folder):
    """Return the run of the small table; make it if no test in this process has made it."""
    run = folder / "run"
    assert run.exists() or main(["forecast", str(folder / "config.yaml"), "--run-dir", str(run)]) == 0
    return run


def fake_statsforecast(monkeypatch):
    """Stand in for the package, which the tests do not need: ETS says the mean of the history, ARIMA its largest."""
    models = types.ModuleType("models")

    def model(value):
        class Model:
            def __init__(self, season_length, alias):
                assert season_length in (1, 12)

            def forecast(self, y, h):
                assert not np.isnan(y).any()
                return {"mean": np.full(h, value(y))}

        return Model

    models.AutoETS, models.AutoARIMA = model(np.mean), model(np.max)
    package = types.ModuleType("statsforecast")
    package.models, package.__spec__ = models, importlib.machinery.ModuleSpec("statsforecast", None)
    monkeypatch.setitem(sys.modules, "statsforecast", package)


@pytest.mark.usefixtures("promotion")
def test_ets_and_arima_stand_beside_a_network_where_they_are_installed(folder, capsys, monkeypatch):
    run = forecast_run(folder)
    capsys.readouterr()
    fake_statsforecast(monkeypatch)
    assert main(["backtest", str(run), "--origins", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = {name: float(next(line for line in lines if line.startswith(name)).split()[1]) for name in ("ETS", "ARIMA")}
    rows = [line.split(",") for line in (folder / "sales.csv").read_text().splitlines()[1:]]
    for name, value in (("ETS", np.mean), ("ARIMA", np.max)):
        errors = []
        for shop in "abc":
            y = np.asarray([float(sales) for s, _, sales in rows if s == shop])
            for origin in (len(y) - HORIZON - 1, len(y) - HORIZON):
                scale = np.abs(y[12:origin] - y[: origin - 12]).mean()
                errors.append(np.abs(y[origin : origin + HORIZON] - value(y[:origin])).mean() / scale)
        assert shown[name] == pytest.approx(np.mean(errors), rel=1e-3)
    monkeypatch.setattr("lstmjax.forecast.run_forecast.FEW", 5)
    assert main(["backtest", str(run), "--origins", "2"]) == 0
    assert "ETS and ARIMA are left out: there are more than 5 forecasts" in capsys.readouterr().out


def test_statistics_that_are_required_and_not_installed_are_refused(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("lstmjax.forecast.run_forecast.has_statistical", lambda: False)
    tree = yaml.safe_load((folder / "config.yaml").read_text()) | {"statistical": True}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree | {"fit": {"steps": 1}, "seeds": 1}))
    assert main(["forecast", str(tmp_path / "config.yaml"), "--run-dir", str(tmp_path / "run")]) == 2
    assert "statistical is true, but ETS and ARIMA need statsforecast: pip install" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_configuration_of_the_other_command_is_named(folder, tmp_path, capsys):
    ours, others = folder / "config.yaml", tmp_path / "config.yaml"
    assert main(["train", str(ours)]) == 2
    words = capsys.readouterr().err
    assert words == (
        f"lstmjax: {ours}: is a configuration of lstmjax forecast (it has the key horizon), not of lstmjax train; run "
        f"lstmjax forecast {ours}\n"
    )
    others.write_text("data: {source: digits}\nepochs: 3\n")
    assert main(["forecast", str(others)]) == 2
    assert capsys.readouterr().err == (
        f"lstmjax: {others}: is a configuration of lstmjax train (it has the key epochs, and no horizon), not of "
        f"lstmjax forecast; run lstmjax train {others}\n"
    )
    assert main(["backtest", str(tmp_path)]) == 2
    assert f"{tmp_path}: is a run of lstmjax train, not the folder of a forecast" in capsys.readouterr().err


def test_a_key_that_is_missing_is_named_without_its_neighbours(tmp_path, capsys):
    path = tmp_path / "config.yaml"
    path.write_text("data: {target: sales}\n")
    assert main(["forecast", str(path)]) == 2
    assert capsys.readouterr().err == (
        f"lstmjax: {path}: data.file is missing, and has no default\n{path}: horizon is missing, and has no default\n"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"horizont": 3}, "unknown key horizont; did you mean horizon?"),
        ({"network": {"likelyhood": "gaussian"}}, "unknown key network.likelyhood; did you mean network.likelihood?"),
        ({"horizon": 40}, "has 36 targets, too few for an origin"),
        ({"network": {"likelihood": "negative_binomial"}}, "is for counts"),
        ({"network": {"base": "seasonal", "likelihood": "log_normal"}}, "network: base is 'seasonal'"),
        ({"levels": [0.9, 0.1]}, "levels: [0.9, 0.1], expected at least one level, each above the one before it"),
        ({"levels": []}, "levels: [], expected at least one level"),
        ({"calibration": {"level": 80}}, "calibration.level is 80; it should be less than 1"),
        ({"calibration": {"orgins": 2}}, "unknown key calibration.orgins; did you mean calibration.origins?"),
        ({"calibration": {}, "network": {"likelihood": "point"}}, "likelihood 'point' has no spread"),
        ({"calibration": {"origins": 4}}, "no series has more than 24 steps before an origin 9 steps before"),
    ],
)
def test_configurations_that_cannot_be_are_refused(folder, tmp_path, capsys, change, message):
    config = yaml.safe_load((folder / "config.yaml").read_text()) | change
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["forecast", str(tmp_path / "config.yaml"), "--run-dir", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "missing", "message"),
    [
        ({}, range(33, 36), "no 'price' 1 steps ahead of the origin"),  # of the backtest
        ({}, range(36, 39), "no 'price' 1 steps ahead of the origin"),  # of the forecast
        ({"calibration": {}}, range(31, 32), "no 'price' 2 steps ahead of the origin"),  # of the calibration
        ({"network": {"scaling": "log"}}, [], "is for targets above 0"),  # the first is 0
        ({"calibration": {}}, None, "there is no target in the last 3 steps of the training part"),
    ],
)
def test_what_would_end_a_forecast_later_is_refused_before_anything_is_fitted(
    tmp_path, capsys, change, missing, message
):
    rows = ["time,target,price"]
    for t in range(39):
        unknown = missing is None and 30 <= t < 33
        target = "" if unknown or t >= 36 else 0 if t == 0 else 9 + t % 5
        rows.append(f"{t},{target},{'' if missing and t in missing else t % 3}")
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    data = {"file": str(tmp_path / "table.csv"), "series": None, "known": ["price"]}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"data": data, "horizon": 3} | change))
    assert main(["forecast", str(tmp_path / "config.yaml"), "--run-dir", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "fit:" not in error
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("promotion")
def test_each_network_of_a_forecast_is_calibrated_and_so_is_their_ensemble(folder, tmp_path, capsys):
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config |= {"calibration": {"origins": 2}, "origins": 1, "data": config["data"] | {"calendar": []}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["forecast", str(tmp_path / "config.yaml"), "--run-dir", str(tmp_path / "run")]) == 0
    spreads = [load_forecaster(tmp_path / "run" / f"forecaster-{seed}.npz").spread for seed in (0, 1)]
    assert 1.0 not in spreads
    assert spreads[0] != spreads[1]
    ensemble = load_ensemble(tmp_path / "run")
    assert ensemble.spread not in (None, 1.0, *spreads)
    series = read_series(load_forecast_config(tmp_path / "config.yaml"))
    expected = backtest(ensemble, series, samples=20).measures()["network"]
    report = json.loads((tmp_path / "run" / "measures.json").read_text())
    assert report["measures"]["ensemble of 2"] == pytest.approx(expected, rel=1e-5)
    for k, measures in enumerate(report["seeds"]):
        alone = backtest(ensemble.forecasters[k], series, samples=20, seed=k).measures()["network"]
        assert measures == pytest.approx(alone, rel=1e-5)
    ahead = ensemble.forecast(series, samples=20).quantiles([0.1])
    rows = list(csv.DictReader((tmp_path / "run" / "forecast.csv").read_text().splitlines()))
    np.testing.assert_allclose([float(row["q0.1"]) for row in rows], ahead.ravel(), rtol=1e-5)
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if line.startswith("ensemble of 2"))
    assert main(["backtest", str(tmp_path / "run")]) == 0
    assert line in capsys.readouterr().out
    assert main(["backtest", str(tmp_path / "run"), "--refit"]) == 0  # from the same origin
    assert line in capsys.readouterr().out
    (tmp_path / "run" / "ensemble.json").unlink()
    assert main(["backtest", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    assert line not in printed
    assert "no ensemble.json, so that the spread is that of each network alone" in printed


@pytest.mark.usefixtures("promotion")
def test_a_loss_that_is_not_finite_ends_with_a_sentence(folder, tmp_path, capsys):
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["fit"] |= {"learning_rate": 1e38, "clip_norm": 1e30, "steps": 9}
    (tmp_path / "wild.yaml").write_text(yaml.safe_dump(config))
    assert main(["forecast", str(tmp_path / "wild.yaml"), "--run-dir", str(tmp_path / "run")]) != 0
    assert "the loss is nan within steps 1 to 9. Lower learning_rate" in capsys.readouterr().err


@pytest.fixture
def stopped(folder, tmp_path, monkeypatch, capsys):
    """The folder of a run of the small table, of which a copy was read, stopped behind its first network."""
    tree = yaml.safe_load((folder / "config.yaml").read_text())
    shutil.copy(folder / "sales.csv", tmp_path)
    tree["data"]["file"] = str(tmp_path / "sales.csv")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))

    def stop(path, forecaster):
        save_forecaster(path, forecaster)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("lstmjax.forecast.run_forecast.save_forecaster", stop)
        assert main(["forecast", str(tmp_path / "config.yaml"), "--run-dir", str(tmp_path / "run")]) == 130
    assert f"lstmjax: stopped; continue by: lstmjax forecast --resume {tmp_path / 'run'}" in capsys.readouterr().err
    return tmp_path / "run"


@pytest.mark.usefixtures("promotion")
@pytest.mark.parametrize("step", ["read_series", "fit_each"])
def test_ctrl_c_while_a_forecast_goes_on_says_how_to_go_on(stopped, capsys, monkeypatch, step):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"lstmjax.forecast.run_forecast.{step}", stop)
    assert main(["forecast", "--resume", str(stopped)]) == 130
    assert capsys.readouterr().err == f"lstmjax: stopped; continue by: lstmjax forecast --resume {stopped}\n"


@pytest.mark.usefixtures("promotion")
def test_a_forecast_that_was_stopped_goes_on_where_it_stopped(folder, stopped, capsys):
    command = ["forecast", "--resume", str(stopped)]
    assert main(["backtest", str(stopped)]) == 0
    words = "only 1 of 2 networks: its forecast was stopped, or is still running; continue it by: lstmjax "
    words += " ".join(command)
    assert capsys.readouterr().out.splitlines()[0] == words
    assert next(inspect_forecast(stopped)) == words
    config = ["forecast", str(folder / "config.yaml")]
    for wrong, message in (
        ([*config, "--run-dir", str(stopped)], f"exists and is not empty; continue it by --resume {stopped}, or give"),
        ([*command, "--seeds", "3"], "forecast --resume DIR goes on as it began; leave out CONFIG, --run-dir and"),
        (["forecast"], "forecast takes CONFIG, a YAML file, or --resume DIR"),
        (["forecast", "--resume", str(stopped / "no")], "has no config.yaml; lstmjax forecast CONFIG writes such"),
        (["hydrology", "--resume", str(stopped)], "is a configuration of lstmjax forecast"),
    ):
        assert main(wrong) == 2
        assert message in capsys.readouterr().err
    assert main(command) == 0
    assert "1 network of 2 fitted before" in capsys.readouterr().out
    for name in ("forecast.csv", "measures.csv"):
        assert (stopped / name).read_bytes() == (forecast_run(folder) / name).read_bytes()
    capsys.readouterr()
    assert main(command) == 2
    assert "has no unfinished.json, so that there is nothing to continue" in capsys.readouterr().err


@pytest.mark.usefixtures("promotion")
def test_a_forecast_goes_on_with_the_same_data_alone(stopped, capsys):
    (stopped / "forecaster-0.npz").unlink()  # as if it had been stopped in the first fit
    assert main(["backtest", str(stopped)]) == 2
    assert "has no forecaster-SEED.npz; its forecast was stopped, or is still running" in capsys.readouterr().err
    table = stopped.parent / "sales.csv"
    table.write_text(table.read_text().replace("c,2022-12,", "c,2022-12,1"))
    assert main(["forecast", "--resume", str(stopped)]) == 2
    assert "the data have changed since it was stopped" in capsys.readouterr().err
    (stopped / "unfinished.json").write_text("{")
    assert main(["forecast", "--resume", str(stopped)]) == 2
    assert "unfinished.json: is damaged" in capsys.readouterr().err


def test_a_folder_that_is_not_empty_stays_as_it_is(folder, tmp_path, capsys):
    (tmp_path / "precious").write_text("x")
    assert main(["forecast", str(folder / "config.yaml"), "--run-dir", str(tmp_path)]) == 2
    assert "exists and is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_what_is_stored_is_read_back(tmp_path):
    from test_forecast import design_of, series_of, untrained

    forecaster = untrained(design_of(form="handoff"), series_of())
    save_forecaster(tmp_path / "f.npz", forecaster)
    read = load_forecaster(tmp_path / "f.npz")
    assert (read.design, read.levels) == (forecaster.design, forecaster.levels)
    assert read.columns == (("a", "b"), ("c",), ("d", "e"))
    clean, again = (f.forecast(series_of(), samples=2).samples for f in (forecaster, read))
    np.testing.assert_array_equal(clean, again)
    (tmp_path / "g.npz").write_bytes(b"nothing")
    with pytest.raises(ForecasterFileError, match="is no file of a forecaster"):
        load_forecaster(tmp_path / "g.npz")
    with pytest.raises(ForecasterFileError, match="there is no such file"):
        load_forecaster(tmp_path / "h.npz")


@pytest.mark.usefixtures("promotion")
def test_a_table_that_was_cut_off_after_the_forecast_is_refused(folder, tmp_path, capsys):
    rows = (folder / "sales.csv").read_text().splitlines()
    config = yaml.safe_load((folder / "config.yaml").read_text()) | {"seeds": 1}
    config["data"] |= {"file": str(tmp_path / "sales.csv")}
    (tmp_path / "sales.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["forecast", str(tmp_path / "config.yaml"), "--run-dir", str(tmp_path / "run")]) == 0
    (tmp_path / "sales.csv").write_text("\n".join(rows[:-4]) + "\n")
    assert main(["backtest", str(tmp_path / "run")]) == 2
    assert "were fitted when series 'c' had 36 targets, and the table has 32 now" in capsys.readouterr().err


def test_numbers_in_csv_files_are_read_back_as_they_are():
    values = [float(value) for value in np.random.default_rng(7).normal(size=50).astype(np.float32)] + [0.1, 1e-7, 3.0]
    assert [float(text_of(value)) for value in values] == values
    assert [text_of(value) for value in (0.25, 3.0, None, 7)] == ["0.25", "3", "", "7"]
