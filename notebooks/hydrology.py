# %% [markdown]
# # What a rainfall-runoff network stores
#
# **The question.** A network has learned to turn a year of weather into discharge. Nobody has told it that there is
# snow, or a soil. Does it store them all the same? Lees et al. (2022) asked this of networks that learned from British
# rivers, and read snow and soil moisture out of the cell states by linear probes. Here the catchments are synthetic: a
# bucket model with a snow and a soil store, so that the truth is known to the millimetre.

# %% tags=["parameters"]
STEPS, YEARS = 3000, 24

# %%
import matplotlib.pyplot as plt
import numpy as np

from lstmjax.hydrology import (
    Design,
    Training,
    baselines,
    by_basin,
    correlation,
    fit_basins,
    fit_probe,
    init_basins,
    score,
    synthetic_basins,
    within,
)

np.set_printoptions(precision=2, suppress=True, linewidth=110)

# %% [markdown]
# ## Ten catchments
#
# Each has weather of its own, and parameters that stand among its attributes: how fast snow melts, how much water the
# soil holds, how it lets go of it. The network sees precipitation, temperature, potential evapotranspiration and the
# attributes. It learns from discharge, and never sees a store.

# %%
basins, water = synthetic_basins(10, years=YEARS)
split = 1990 + 3 * YEARS // 4
training, test = ("1990-01-01", f"{split - 1}-12-31"), (f"{split}-01-01", "2029-12-31")
print(basins.known_names, basins.number_names)
print("most snow of each catchment in mm:", water.snow.max(1).round())

# %%
design = Design(cell="entity_aware", hidden_size=24, predict=270, dropout=0.2)
model = fit_basins(basins, training, design, Training(steps=STEPS, batch_size=16, learning_rate=0.01))
simulation = model.simulate(basins)
print(score(basins, test, {"network": simulation.mean} | baselines(basins, training)))

# %% [markdown]
# ## A linear probe
#
# `cell_states` runs the network over all days and returns c of every unit. A probe is a weighted sum of them, fitted by
# ridge regression to the snow (or the soil water) of the training period, one for all catchments. It is judged in the
# years that neither the network nor the probe has seen, in each catchment by itself.
#
# A regression with 24 inputs finds something in any numbers that follow the weather. So the same probe is fitted to
# two controls: the cell states of the network before training, and the weather of the same day.

# %%
untrained = init_basins(basins, training, design)
readings = {
    "trained": model.cell_states(basins)[0],
    "untrained": untrained.cell_states(basins)[0],
    "weather": basins.known,
}
stores = {"snow": water.snow.reshape(-1), "soil": water.soil.reshape(-1)}
learnt, held = within(basins, ("1991-01-01", training[1])), within(basins, test)


def in_each(read, truth):
    """Return the correlation of a reading with the truth in the test period of each catchment, [S]."""
    parts = (by_basin(basins, np.where(held, values, np.nan)) for values in (read, truth))
    return np.array([correlation(a, b) for a, b in zip(*parts)])


probes, found = {}, {}
for store, truth in stores.items():
    for name, states in readings.items():
        probes[store, name] = fit_probe(states[learnt], truth[learnt])
        found[store, name] = in_each(probes[store, name](states), truth)
        values = found[store, name]
        print(f"{store}, {name:9}: median {np.median(values):.2f} ", values)

# %% [markdown]
# The trained network holds both stores, though it was only asked for discharge. The untrained one remembers weather,
# too, since its forget gates are open: that much is for nothing, and what the trained one has beyond it was learned.
# One probe serves all catchments, in millimetres, so that snow is read worst where there is little of it.

# %%
figure, axes = plt.subplots(2, 1, figsize=(9, 4.6), sharex=True, layout="constrained")
coldest = int(np.argmin(basins.numbers[:, 4]))
rows = slice(basins.starts[coldest + 1] - 900, basins.starts[coldest + 1])
for axis, (store, truth) in zip(axes, stores.items()):
    axis.plot(basins.times[rows], truth[rows], color="black", linewidth=1, label="bucket model")
    axis.plot(
        basins.times[rows], probes[store, "trained"](readings["trained"][rows]), linewidth=1, label="read out of c"
    )
    axis.set(ylabel=f"{store} [mm]")
axes[0].legend(frameon=False, ncols=2)
axes[0].set(title=f"the coldest catchment ({basins.names[coldest]}), days that nobody has seen")
plt.close(figure)
figure

# %% [markdown]
# ## Which units?
#
# The weight of a unit times the spread of its cell state says how much it adds to the reading. Those of snow and soil:

# %%
spread = readings["trained"][learnt].std(0)
for store in stores:
    parts = probes[store, "trained"].weights * spread
    order = np.argsort(-np.abs(parts))[:5]
    print(store, {f"unit {unit}": round(float(parts[unit]), 1) for unit in order}, "mm")
