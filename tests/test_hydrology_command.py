"""`lstmjax hydrology`, on a NetCDF file, synthetic basins and a folder of CAMELS that the tests write."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from test_hydrology_files import FORCING, GAUGES, write_camels

from lstmjax.cli import main
from lstmjax.errors import ConfigError
from lstmjax.forecast.outputs import write_table
from lstmjax.hydrology import basins_from_arrays, by_basin, during, load_model, score, synthetic_basins
from lstmjax.hydrology.config import load_hydrology_config
from lstmjax.hydrology.evaluation import Scores
from lstmjax.hydrology.files import as_dataset, read_netcdf
from lstmjax.hydrology.run_hydrology import days_as_table, metrics_of, read_basins

pytest.importorskip("xarray", reason="pip install '.[hydrology]'")
pytestmark = pytest.mark.usefixtures("promotion")
COLUMNS = {"forcing": ["rain", "heat"], "attributes": ["area"], "categories": ["cover"]}


def config_of(path, **changed):
    """A configuration of the NetCDF file."""
    return {
        "data": {"source": "netcdf", "path": str(path)} | COLUMNS | changed.pop("data", {}),
        "training": ["2001-01-20", "2001-03-31"], "test": ["2001-04-01", "2001-04-20"],
        "network": {"hidden_size": 3, "window": 14, "predict": 4} | changed.pop("network", {}),
        "fit": {"steps": 3, "batch_size": 4}, "seeds": 2,
    } | changed  # fmt: skip


@pytest.fixture(scope="module")
def basins():
    """Two basins, the second of which ends within the test."""
    rng = np.random.default_rng(11)
    days = (120, 100)
    return basins_from_arrays(
        [rng.gamma(2, 1, n) for n in days], [rng.normal(0, 1, (n, 2)) for n in days], [[3.0], [5.0]],
        start="2001-01-01", names=["north", "south"], forcing_names=COLUMNS["forcing"], attribute_names=["area"],
        categories={"cover": ["forest", "crops"]},
    )  # fmt: skip


@pytest.fixture
def file(basins, tmp_path):
    as_dataset(basins).to_netcdf(tmp_path / "basins.nc")
    return tmp_path / "basins.nc"


def run(tmp_path, config, *words):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    return main(["hydrology", str(tmp_path / "config.yaml"), "--run-dir", str(tmp_path / "run"), *words])


def table(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_run_writes_what_its_model_simulates(basins, file, tmp_path, capsys):
    config = config_of(file)
    assert run(tmp_path, config) == 0
    out = capsys.readouterr().out
    assert "2 basins, 2001-01-01 to 2001-04-30; forcing rain, heat; 2 attributes; 0 of 220 discharges missing" in out
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml", "model.npz", "metrics.csv", "simulation.csv", "hydrographs.png"
    }  # fmt: skip
    model = load_model(folder / "model.npz")
    assert (model.seeds, model.levels) == ((0, 1), (("cover", ("crops", "forest")),))
    simulated = model.simulate(during(basins, ("2001-01-01", "2001-04-20")))
    until = during(basins, ("2001-01-01", "2001-04-20"))
    rows = table(folder / "simulation.csv")
    assert [row["date"] for row in rows if row["basin"] == "south"][-1] == "2001-04-10"
    days = [part[90:] for part in by_basin(until, np.arange(len(until.target)))]
    at = np.concatenate(days)
    for column, values in (
        ("observed", until.target),
        ("simulated", simulated.mean),
        ("seed_1", simulated.discharge[1]),
    ):
        np.testing.assert_allclose([float(row[column]) for row in rows], values[at], rtol=1e-4)
    scores = score(until, ("2001-04-01", "2001-04-20"), {"network": simulated.mean})
    metrics = {(row["basin"], row["simulation"]): row for row in table(folder / "metrics.csv")}
    assert {name for _, name in metrics} == {"network", "seed 0", "seed 1", "mean", "climatology", "persistence"}
    for s, basin in enumerate(basins.names):
        np.testing.assert_allclose(float(metrics[basin, "network"]["nse"]), scores.nse[0, s], rtol=1e-3)
        np.testing.assert_allclose(float(metrics[basin, "network"]["kge"]), scores.kge[0, s], rtol=1e-3)
    again = load_hydrology_config(folder / "config.yaml")
    assert again == load_hydrology_config(tmp_path / "config.yaml")
    assert main(["inspect", str(folder), "--examples", "1"]) == 0
    page = (folder / "report.html").read_text()
    assert "1 of 2 basins shown" in capsys.readouterr().out
    assert "north" in page


def test_a_run_that_was_stopped_goes_on_where_it_stopped(file, tmp_path, capsys, monkeypatch):
    config = config_of(file)
    assert run(tmp_path, config) == 0
    expected = (tmp_path / "run").rename(tmp_path / "expected")
    capsys.readouterr()
    command = ["hydrology", "--resume", str(tmp_path / "run")]
    for step in ("fit_basins", "simulate"):
        with monkeypatch.context() as patch:
            patch.setattr(f"lstmjax.hydrology.run_hydrology.{step}", stop)
            assert (run(tmp_path, config) if step == "fit_basins" else main(command)) == 130
        assert f"stopped; continue by: lstmjax {' '.join(command)}" in capsys.readouterr().err
        if step == "fit_basins":
            assert main(["inspect", str(tmp_path / "run")]) == 2
            assert "has no model.npz yet, as it was stopped, or is still running" in capsys.readouterr().err
    monkeypatch.setattr("lstmjax.hydrology.run_hydrology.fit_basins", stop)  # it is not called again
    assert main(command) == 0
    assert "2 networks fitted before" in capsys.readouterr().out
    for name in ("metrics.csv", "simulation.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (expected / name).read_bytes()
    assert not (tmp_path / "run" / "unfinished.json").exists()


def stop(*arguments, **options):
    raise KeyboardInterrupt


def test_discharges_below_0_are_said_and_can_be_clipped(file, tmp_path, capsys):
    dataset = as_dataset(read_netcdf(file, target="discharge", **COLUMNS))
    rare = np.arange(dataset.sizes["date"]) % 40 == 0  # deviations far above the mean
    dataset.assign(discharge=dataset.discharge * (0.01 + 20 * rare)).to_netcdf(tmp_path / "floods.nc")
    shown = {}
    for clip in (False, True):
        config = config_of(tmp_path / "floods.nc", clip=clip)
        (tmp_path / str(clip)).mkdir()
        assert run(tmp_path / str(clip), config) == 0
        assert ("are below 0, the lowest -" in capsys.readouterr().out) == (not clip)
        rows = table(tmp_path / str(clip) / "run" / "simulation.csv")
        shown[clip] = np.array([[float(row["seed_0"]), float(row["seed_1"]), float(row["simulated"])] for row in rows])
    assert shown[False].min() < 0
    np.testing.assert_allclose(shown[True][:, :2], np.maximum(shown[False][:, :2], 0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(shown[True][:, 2], shown[True][:, :2].mean(1), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("default:the training is")
def test_periods_that_the_records_do_not_fill_are_said(file, tmp_path, capsys):
    assert run(tmp_path, config_of(file, training=["1900-01-01", "2001-03-31"])) == 0
    out, err = capsys.readouterr()
    assert "the training is 1900-01-01 to 2001-03-31, but the data go from 2001-01-01 to 2001-04-30" in err
    assert "training 1900-01-01 to 2001-03-31: 2 of 2 basins begin later, 'north' on 2001-01-01\n" in out
    assert "test 2001-04-01 to 2001-04-20: 1 of 2 basins end earlier, 'south' on 2001-04-10\n" in out


def test_windows_serve_forcing_with_gaps_and_netcdf_is_written(basins, tmp_path, capsys):
    dataset = as_dataset(basins)
    dataset["rain"][0, 92] = np.nan
    dataset.to_netcdf(tmp_path / "gaps.nc")
    assert run(tmp_path, config_of(tmp_path / "gaps.nc")) == 2
    assert "basin 'north' has no 'rain' on 2001-04-03" in capsys.readouterr().err
    config = config_of(tmp_path / "gaps.nc", simulation="windows", output="netcdf", seeds=1, network={"predict": 1})
    (tmp_path / "again").mkdir()
    assert run(tmp_path / "again", config) == 0
    assert "nan" in capsys.readouterr().out  # the network has no simulation of some measured days
    path = tmp_path / "again" / "run" / "simulation.nc"
    again = read_netcdf(path, target="simulated", forcing=["rain"], attributes=["area"], categories=["cover"])
    missing = np.isnan(by_basin(again, again.target)[0])
    assert np.flatnonzero(missing).tolist() == list(range(2, 16))  # a window of 14 days has the gap in it
    assert not np.isnan(by_basin(again, again.target)[1]).any()


def test_basins_come_from_where_the_configuration_says(tmp_path):
    write_camels(tmp_path, upper=False)
    (tmp_path / "gauges.txt").write_text(f"\ufeff{GAUGES[1]}\r\n\r\n{GAUGES[0]}\r\n")
    camels = {"source": "camels", "forcing": list(FORCING), "attributes": ["elev_mean"]}
    camels |= {"path": str(tmp_path), "basins": str(tmp_path / "gauges.txt")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config_of("", data={"categories": ["huc_02"]} | camels)))
    assert read_basins(load_hydrology_config(tmp_path / "config.yaml")).names == GAUGES[::-1]
    bucket = {"source": "bucket", "count": 2, "years": 1, "seed": 4}
    config = config_of("") | {"data": bucket}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    basins = read_basins(load_hydrology_config(tmp_path / "config.yaml"))
    np.testing.assert_array_equal(basins.target, synthetic_basins(2, years=1, seed=4)[0].target)


def test_numbers_are_written_as_those_of_forecasts(basins, tmp_path):
    part = during(basins, ("2001-01-01", "2001-01-03")).subset([1])
    simulated = np.array([[1234567.8, np.nan, 0.1], [1.0, 2.0, 3.0]], np.float32)
    path = write_table(tmp_path / "days", days_as_table(part, simulated, (4, 5)), "csv")
    assert path.read_text().splitlines()[0] == "basin,date,observed,simulated,seed_4,seed_5"
    rows = table(path)
    assert [(row["basin"], row["date"]) for row in rows][-1] == ("south", "2001-01-03")
    assert [row["seed_4"] for row in rows] == ["1234570", "", "0.1"]
    assert rows[0]["observed"] == f"{part.target[0]:.6g}"
    names = ("network", "mean")
    scores = Scores(
        names, part.names, *np.array([[[-2e7], [0.25]], [[np.nan], [1 / 3]]]), *np.zeros((2, 2)), np.ones(1)
    )
    rows = table(write_table(tmp_path / "metrics", metrics_of(scores), "csv"))
    assert [(row["simulation"], row["nse"], row["kge"]) for row in rows] == [
        ("network", "-20000000", ""), ("mean", "0.25", "0.333333")
    ]  # fmt: skip


def test_dates_of_yaml_need_no_quotes(tmp_path):
    text = yaml.safe_dump(config_of("basins.nc") | {"training": "T", "test": ["2001-04-01", "2001-04-20"]})
    (tmp_path / "config.yaml").write_text(text.replace("training: T", "training: [2001-01-20, 2001-03-31]"))
    assert load_hydrology_config(tmp_path / "config.yaml").training == ("2001-01-20", "2001-03-31")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"test": ["2001-03-31", "2001-04-20"]}, "shares days with the training"),
        ({"test": ["2011-03-31", "2011-04-20"]}, "no basin has a day between 2011-03-31 and 2011-04-20"),
        ({"test": ["spring", "2011-04-20"]}, r"the period is \('spring', '2011-04-20'\), expected two days"),
        ({"network": {"window": 91, "predict": 1}}, "no window of 91 days without missing forcing"),
        (
            {"network": {"window": 90, "predict": 1}},
            "batch_size is 4, but the training has only 2 windows; set it to 2",
        ),
        ({"network": {"predict": 15}}, "predict is 15, more than the 14 days of the window"),
        ({"network": {"cell": "mass_conserving"}}, "mass is 'precipitation', but the forcing is rain, heat"),
        ({"network": {"cell": "gru"}}, "network.cell"),
        ({"data": {"forcing": None}}, "data.forcing is empty, expected names of variables"),
        ({"data": {"path": None}}, "data.path is None, expected the path of netcdf"),
        ({"data": {"source": "bucket"}}, "data.path is .*, expected none for synthetic basins"),
        ({"data": {"source": "bucket", "path": None}}, "whose forcing and attributes are fixed; leave forcing"),
        ({"data": {"source": "camels"}}, "data.basins is empty, expected a list of gauges"),
        ({"data": {"basins": [1013500]}}, "data.basins has 1013500, a number; .* in quotes, .* zeros: '01013500'"),
        ({"data": {"basins": ["a"]}}, "data.basins is for camels and caravan"),
        ({"data": {"source": "caravan", "basins": "none.txt"}}, "none.txt: there is no such file of gauges"),
        ({"data": {"attributes": ["slope"]}}, "has no 'slope', but"),
        ({"data": {"attributes": ["cover"], "categories": []}}, "the attribute 'cover' is text"),
        ({"test": ["2001-03-31"]}, r"test is \['2001-03-31'\]; it should have more entries"),
        ({"nets": 3}, "unknown key nets"),
    ],
)
def test_a_configuration_is_refused_and_nothing_is_written(file, tmp_path, capsys, changed, message):
    code = run(tmp_path, config_of(file, **changed))
    err = capsys.readouterr().err
    assert code == 2
    assert re.search(message, err), err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_configurations_of_other_commands_are_named(tmp_path, capsys):
    path = tmp_path / "config.yaml"
    for text, command in (("data: {file: x.csv}\nhorizon: 3\n", "forecast"), ("epochs: 3\n", "train")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=rf"is a configuration of lstmjax {command} .*; run lstmjax {command}"):
            load_hydrology_config(path)
    path.write_text(yaml.safe_dump(config_of("basins.nc")))
    assert main(["train", str(path)]) == 2
    assert f"not of lstmjax train; run lstmjax hydrology {path}" in capsys.readouterr().err


def test_the_configuration_that_is_shipped_is_valid():
    config = load_hydrology_config(Path(__file__).parent.parent / "configs" / "rainfall-runoff.yaml")
    assert len(read_basins(config)) == 10


def test_the_page_of_a_cell_that_it_cannot_show_is_refused(file, tmp_path, capsys):
    dataset = as_dataset(read_netcdf(file, target="discharge", **COLUMNS))
    dataset.assign(rain=abs(dataset.rain)).to_netcdf(tmp_path / "wet.nc")
    network = {"cell": "mass_conserving", "mass": "rain"}
    assert run(tmp_path, config_of(tmp_path / "wet.nc", network=network), "--seeds", "1") == 0
    assert load_model(tmp_path / "run" / "model.npz").seeds == (0,)
    assert main(["inspect", str(tmp_path / "run")]) == 2
    assert "its cell is mass_conserving, which has other gates than the page shows" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path / "run"), "--input", "x.npy"]) == 2
    assert "--input is for runs of lstmjax train" in capsys.readouterr().err
    assert run(tmp_path, config_of(file), "--seeds", "0") == 2
