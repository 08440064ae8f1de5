"""How fast are training, sampling and a backtest of forecasts, beside DeepAR in neuralforecast?

    pip install neuralforecast
    python benchmarks/forecast_speed.py [--json FILE]

The same network on the same data: one LSTM layer with 40 units and a Student t head, 100 series of 200 months, windows
of 36 + 24 steps, 64 of them in an update, 100 samples. A step of training is the difference between a long fit and a
short one, so that compiling and setting up are not in it. Sampling and the backtest are timed from their second call
on. As neuralforecast's cross_validation fits once before it forecasts, a short fit is taken off its time. The two take
turns.
"""

import argparse
import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import record

from lstmjax.forecast import Design, Rolling, Training, backtest, fit_forecaster, from_arrays

SERIES, LENGTH, SEASON = 100, 200, 12
CONTEXT, HORIZON, HIDDEN, BATCH, SAMPLES = 36, 24, 40, 64, 100
SHORT, LONG = 20, 100  # steps of training
ORIGINS = 2
TURNS = 3
NAMES = {
    "steps/s": "training, steps a second",
    "sampling": f"forecasts: {SAMPLES} paths of each series against one, s",
    "one path": "forecasts: one path of each series, s",
    "backtest": f"backtest, {ORIGINS} origins, without fitting: {SAMPLES} paths against one, s",
}
NOTE = (
    "neuralforecast feeds one value a step back, and takes its quantiles from the distribution of each step; lstmjax "
    "feeds every sample back, so that the spread grows as errors do"
)
RECORDED = "Medians of three turns only: the raw times are not on record."


def data() -> list[np.ndarray]:
    """Return series with a trend, a season and noise."""
    rng = np.random.default_rng(0)
    t = np.arange(LENGTH)
    return [
        rng.uniform(10, 1000) * (2 + 0.002 * t + 0.5 * np.sin(t * np.pi / 6 + k) + 0.1 * rng.normal(size=LENGTH))
        for k in range(SERIES)
    ]


def ours(targets: list[np.ndarray]) -> dict[str, Callable[[], object]]:
    """Return what is timed of lstmjax."""
    series = from_arrays(targets, season=SEASON)
    design = Design(horizon=HORIZON, context=CONTEXT, season=SEASON, hidden_size=HIDDEN)
    fit = lambda steps: fit_forecaster(series, design, Training(steps=steps, batch_size=BATCH))
    forecaster = fit(SHORT)
    return {
        "short": lambda: fit(SHORT),
        "long": lambda: fit(LONG),
        "sampling": lambda: forecaster.forecast(series, samples=SAMPLES),
        "one path": lambda: forecaster.forecast(series, samples=1),
        "backtest": lambda: backtest(forecaster, series, Rolling(ORIGINS), samples=SAMPLES),
    }


def theirs(targets: list[np.ndarray]) -> dict[str, Callable[[], object]]:
    """Return what is timed of neuralforecast."""
    import pandas as pd
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import DistributionLoss
    from neuralforecast.models import DeepAR

    frame = pd.concat(
        [
            pd.DataFrame({"unique_id": str(k), "ds": pd.date_range("2000-01-01", periods=LENGTH, freq="MS"), "y": y})
            for k, y in enumerate(targets)
        ]
    )

    def fit(steps: int) -> NeuralForecast:
        model = DeepAR(
            h=HORIZON, input_size=CONTEXT, h_train=HORIZON, lstm_n_layers=1, lstm_hidden_size=HIDDEN, lstm_dropout=0.0,
            trajectory_samples=SAMPLES, loss=DistributionLoss("StudentT", level=[80], num_samples=SAMPLES),
            max_steps=steps, val_check_steps=steps, batch_size=BATCH, windows_batch_size=BATCH, scaler_type="standard",
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
        "sampling": fitted.predict,
        "one path": fitted.predict,
        "backtest": lambda: fitted.cross_validation(
            frame, n_windows=ORIGINS, step_size=1, use_init_models=False, refit=False
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="file to write the table to, as page.py reads it")
    file = parser.parse_args().json
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    targets = data()
    both = {"lstmjax": ours(targets), "neuralforecast": theirs(targets)}
    seconds: dict[str, dict[str, list[float]]] = {name: {what: [] for what in both[name]} for name in both}
    for turn in range(TURNS + 1):
        for name, calls in both.items():
            for what, call in calls.items():
                start = time.perf_counter()
                call()
                took = time.perf_counter() - start
                print(f"turn {turn}, {name}, {what}: {took:.2f} s", flush=True)
                if turn:  # the first warms up
                    seconds[name][what].append(took)
    rows = []
    medians = {name: {what: float(np.median(times)) for what, times in seconds[name].items()} for name in both}
    for of in medians.values():
        of["step"] = (of["long"] - of["short"]) / (LONG - SHORT)
        of["steps/s"] = 1 / of["step"]
    medians["neuralforecast"]["backtest"] -= medians["neuralforecast"]["short"]
    for what, ahead in (("steps/s", 2.0), ("sampling", 10.0), ("one path", None), ("backtest", 10.0)):
        mine, other = (medians[name][what] for name in ("lstmjax", "neuralforecast"))
        ratio = mine / other if what == "steps/s" else other / mine
        verdict = None if ahead is None else f"{ahead:g}: {'reached' if ratio >= ahead else 'NOT reached'}"
        rows.append([NAMES[what], mine, other, ratio, verdict])
        print(rows[-1], flush=True)
    if file is not None:
        record.write(
            file, "python benchmarks/forecast_speed.py", ["what", "lstmjax", "neuralforecast", "times as fast", "goal"],
            [0, 3, 3, 2, 0], rows, recorded=RECORDED, notes=[NOTE],
        )  # fmt: skip


if __name__ == "__main__":
    main()
