"""Does the same configuration learn as well here as with neuralhydrology's entity-aware network and loss?

    python benchmarks/regional_seeds.py [--steps 300] [--seeds 3]

Needs neuralhydrology and PyTorch. Both learn the ten synthetic catchments from the same windows in the same order, by
Adam with the same schedule and clipping. Prints the median NSE over the basins in the last ten years, by a simulation
of all days, of each seed: of neuralhydrology's network, of the same initial values trained here, and of the initial
values that are drawn here.
"""

import argparse
import math
import time
from dataclasses import replace

import jax
import numpy as np
import torch
from entity_aware import theirs
from neuralhydrology.training.loss import MaskedNSELoss

from lstmjax.convert import from_neuralhydrology
from lstmjax.hydrology import Design, Training, fit_basins, init_basins, masked_outside, score, synthetic_basins
from lstmjax.hydrology.network import EPSILON, EntityNetwork, scales_of
from lstmjax.hydrology.windows import windows_of
from lstmjax.training import Shuffled

TRAINING, TEST = ("1990-01-01", "2019-12-31"), ("2020-01-01", "2029-12-21")
DESIGN = Design(cell="entity_aware", hidden_size=16, predict=270)


def as_data(forcing, attributes):
    """Return the inputs of a network of neuralhydrology."""
    names = range(forcing.shape[-1])
    columns = {f"x{n}": torch.tensor(forcing[..., n : n + 1], dtype=torch.float32) for n in names}
    return {"x_d": columns, "x_s": torch.tensor(attributes, dtype=torch.float32)}


def their_median(basins, training, seed):
    """Fit neuralhydrology's network with one seed; return its median NSE."""
    scales = scales_of(basins, TRAINING)
    forcing = (basins.known - scales.normal.known[0]) / scales.normal.known[1]
    attributes = (basins.numbers - scales.normal.numbers[0]) / scales.normal.numbers[1]
    mean, spread = (float(value) for value in scales.discharge)
    learnt = masked_outside(basins, TRAINING)
    source = Shuffled(windows_of(learnt, DESIGN, TRAINING), training.batch_size, seed)
    module = theirs(forcing.shape[1], attributes.shape[1], DESIGN.hidden_size, seed)
    optimizer = torch.optim.Adam(module.parameters(), training.learning_rate)
    loss_of = MaskedNSELoss.__new__(MaskedNSELoss)
    loss_of.__dict__["eps"] = EPSILON
    for step in range(training.steps):
        batch = source(step)
        rows = basins.starts[batch["basin"]][:, None] + batch["day"][:, None] + np.arange(1 - DESIGN.window, 1)
        simulated = module(as_data(forcing[rows], attributes[batch["basin"]]))["y_hat"][:, -DESIGN.predict :]
        observed = torch.tensor(learnt.target[rows[:, -DESIGN.predict :]], dtype=torch.float32)[..., None]
        deviation = torch.tensor(scales.deviation[batch["basin"]])[:, None, None]
        # in mm/day, as here: their own scaling multiplies the loss by a constant
        loss = loss_of._get_loss({"y_hat": simulated * spread + mean}, {"y": observed}, per_basin_target_stds=deviation)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), training.clip_norm)
        optimizer.param_groups[0]["lr"] = training.learning_rate * (1 + math.cos(math.pi * step / training.steps)) / 2
        optimizer.step()
    with torch.no_grad():
        days = forcing.reshape(len(basins), -1, forcing.shape[1])
        simulated = module(as_data(days, attributes))["y_hat"][..., 0].numpy().reshape(-1) * spread + mean
    return score(basins, TEST, {"theirs": simulated}).median()["theirs"]


def our_medians(basins, training, seeds, start=None):
    """Fit our network with all seeds, from initial values of ours or of neuralhydrology; return its median NSEs."""
    model = init_basins(basins, TRAINING, DESIGN, seeds=seeds)
    if start is not None:
        parts = [EntityNetwork(*from_neuralhydrology(module)) for module in start]
        model = replace(model, params=jax.tree.map(lambda *leaves: np.stack(leaves), *parts))
    model = fit_basins(basins, TRAINING, DESIGN, training, seeds=seeds, start=model)
    discharge = model.simulate(basins).discharge
    return list(score(basins, TEST, {str(seed): discharge[n] for n, seed in enumerate(seeds)}).median().values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    basins, _ = synthetic_basins(years=40)
    training = Training(steps=options.steps, batch_size=16, learning_rate=0.01, average=None)
    seeds = range(options.seeds)
    sizes = len(basins.known_names), len(basins.number_names), DESIGN.hidden_size
    rows = {}
    began = time.monotonic()
    rows["here, from our initial values"] = our_medians(basins, training, seeds)
    print(f"all seeds here: {time.monotonic() - began:.0f} s", flush=True)
    rows["here, from theirs"] = our_medians(basins, training, seeds, [theirs(*sizes, seed) for seed in seeds])
    began = time.monotonic()
    rows["neuralhydrology"] = [their_median(basins, training, seed) for seed in seeds]
    print(f"all seeds there: {time.monotonic() - began:.0f} s")
    for name, values in rows.items():
        print(f"{name:32}", " ".join(f"{value:.4f}" for value in values))


if __name__ == "__main__":
    main()
