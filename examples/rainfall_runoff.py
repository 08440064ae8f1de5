"""How well does a regional network learn ten synthetic catchments? Five seeds of a cell, beside what costs nothing.

The bucket model (`lstmjax.hydrology.bucket`) makes 40 years of ten catchments; the networks learn from the first 30,
and are measured in the last ten. It writes NSE and KGE of each seed and basin to examples/rainfall-runoff.json, which
docs/hydrology.md shows and a test reads. All seeds of a cell are trained by one program:

    python examples/rainfall_runoff.py entity_aware
    python examples/rainfall_runoff.py mass_conserving
"""

import argparse
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from lstmjax.hydrology import Design, Training, baselines, fit_basins, score, synthetic_basins
from lstmjax.training import Hooks

STORED = Path(__file__).parent / "rainfall-runoff.json"
YEARS, TRAINING, TEST = 40, ("1990-01-01", "2019-12-31"), ("2020-01-01", "2029-12-21")
SETTINGS = {
    "vanilla": (
        Design(cell="vanilla", hidden_size=32, predict=270, dropout=0.2),
        Training(steps=4000, batch_size=16, learning_rate=0.01),
    ),
    "entity_aware": (
        Design(cell="entity_aware", hidden_size=32, predict=270, dropout=0.2),
        Training(steps=4000, batch_size=16, learning_rate=0.01),
    ),
    "mass_conserving": (
        Design(cell="mass_conserving", hidden_size=12, predict=270),
        Training(steps=600, batch_size=16, learning_rate=0.015),
    ),
}


def fitted(cell, seeds, steps=None):
    """Return the model of a cell, what it was fitted to, and the seconds that took, compilation included."""
    design, training = SETTINGS[cell]
    if steps is not None:
        training = Training(**{**vars(training), "steps": steps})
    basins, _ = synthetic_basins(years=YEARS)
    began = time.monotonic()
    note = Hooks(on_evaluate=lambda run: print(run.step, run.record["train"], flush=True))
    model = fit_basins(basins, TRAINING, design, training, seeds=seeds, hooks=[note])
    return model, basins, time.monotonic() - began


def measured(model, basins):
    """Return the scores of each seed, of the ensemble and of the baselines."""
    simulation = model.simulate(basins)
    simulations = {f"seed {seed}": simulation.discharge[n] for n, seed in enumerate(model.seeds)}
    return score(basins, TEST, simulations | {"ensemble": simulation.mean} | baselines(basins, TRAINING))


def main():
    """Fit, measure and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cell", choices=SETTINGS)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    model, basins, seconds = fitted(arguments.cell, range(arguments.seeds))
    scores = measured(model, basins)
    print(scores)
    windows = score(basins, TEST, {"windows": model.predict(basins, TEST, last=30).mean(0)})
    stored = json.loads(STORED.read_text()) if STORED.exists() else {}
    design, training = SETTINGS[arguments.cell]
    stored[arguments.cell] = {
        "command": f"python examples/rainfall_runoff.py {arguments.cell}",
        "machine": f"{os.cpu_count()} CPUs, {platform.machine()}, load {os.getloadavg()[0]:.1f}",
        "versions": {name: version(name) for name in ("jax", "optax", "numpy")},
        "design": vars(design),
        "training": vars(training),
        "seconds": round(seconds),
        "simulations": scores.simulations,
        "basins": scores.basins,
        "nse": np.round(scores.nse, 4).tolist(),
        "kge": np.round(scores.kge, 4).tolist(),
        "pooled_nse": np.round(scores.pooled_nse, 4).tolist(),
        "pooled_kge": np.round(scores.pooled_kge, 4).tolist(),
        "median_nse": {name: round(value, 4) for name, value in scores.median("nse").items()},
        "median_kge": {name: round(value, 4) for name, value in scores.median("kge").items()},
        "median_nse_of_windows": round(windows.median("nse")["windows"], 4),
    }
    if arguments.cell == "mass_conserving":
        stored[arguments.cell]["balance"] = float(np.abs(model.balance(basins)).max())
    STORED.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()
