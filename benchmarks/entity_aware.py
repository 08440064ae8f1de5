"""How fast is the entity-aware LSTM beside neuralhydrology's, which steps through time in Python?

    python benchmarks/entity_aware.py [--json FILE]
    python benchmarks/entity_aware.py --points paper --passes training --rounds 1 --raw TIMES   # again and again, then
    python benchmarks/entity_aware.py --joined TIMES [--json FILE]

Needs neuralhydrology and PyTorch. One network, neuralhydrology's `EALSTM` with its head, and the same weights here,
float32, both on the CPU with all of its cores; outputs are compared first. "as_vanilla" is how `lstmjax.hydrology` runs
it. A training pass is the loss and its gradient with respect to all parameters, and the inputs are the same arrays.
They take turns in one run, as_vanilla runs twice, as a control of the noise. Prints medians in ms, and the median of
the ratios to as_vanilla of the same round. A run that would take too long at once is cut into calls of a round or two,
whose times `--raw` adds to a file, and `--joined` reads.
"""

import argparse
import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import record
import torch
from neuralhydrology.modelzoo.ealstm import EALSTM
from neuralhydrology.utils.config import Config

from lstmjax import as_vanilla, entity_aware, lstm
from lstmjax.bench import take_turns
from lstmjax.convert import from_neuralhydrology

SHAPES = {"small": (64, 365, 5, 27, 64), "paper": (256, 365, 5, 27, 256)}  # B T I S H; Kratzert et al. (2019)
TOLERANCE = 1e-5


def theirs(inputs, statics, hidden, seed=0):
    """Return neuralhydrology's network, with random weights."""
    torch.manual_seed(seed)
    config = {
        "hidden_size": hidden, "dynamic_inputs": [f"x{n}" for n in range(inputs)],
        "static_attributes": [f"s{n}" for n in range(statics)], "target_variables": ["y"], "head": "regression",
        "output_activation": "linear", "output_dropout": 0.0, "initial_forget_bias": 3.0, "model": "ealstm",
        "seq_length": 365, "predict_last_n": 1, "use_basin_id_encoding": False,
    }  # fmt: skip
    return EALSTM(Config(config, dev_mode=True))


def wide(layer, xs, s):
    """Return h of every step by the vanilla layer that an entity-aware one equals."""
    beside = jnp.broadcast_to(s[:, None], (*xs.shape[:2], s.shape[-1]))
    return lstm(as_vanilla(layer), jnp.concatenate([xs, beside], -1))[1]


def narrow(layer, xs, s):
    """Return h of every step by the entity-aware layer itself."""
    return entity_aware(layer, xs, s)[1]


def calls(point):
    """Return a function without arguments for each competitor, forward and training."""
    batch, steps, inputs, statics, hidden = SHAPES[point]
    rng = np.random.default_rng(0)
    xs, s, y = (rng.normal(size=size).astype("f") for size in ((batch, steps, inputs), (batch, statics), batch))
    module = theirs(inputs, statics, hidden)
    data = {"x_d": {f"x{n}": torch.tensor(xs[..., n : n + 1]) for n in range(inputs)}, "x_s": torch.tensor(s)}
    target = torch.tensor(y)

    def their_forward():
        with torch.no_grad():
            return module(data)["y_hat"][:, -1, 0]

    def their_training():
        module.zero_grad()
        loss = torch.mean((module(data)["y_hat"][:, -1, 0] - target) ** 2)
        loss.backward()
        return loss.item()

    layer, head = from_neuralhydrology(module)

    def predicted(run, params):
        layer, head = params
        return run(layer, jnp.asarray(xs), jnp.asarray(s))[:, -1] @ head.w[:, 0] + head.b[0]

    def loss(run, params):
        return jnp.mean((predicted(run, params) - y) ** 2)

    ours = {"as_vanilla": wide, "as_vanilla again": wide, "entity_aware": narrow}
    params = (layer, head)
    forward = {name: partial(jax.jit(partial(predicted, run)), params) for name, run in ours.items()}
    training = {name: partial(jax.jit(jax.value_and_grad(partial(loss, run))), params) for name, run in ours.items()}
    expected = their_forward().numpy()
    for name, call in forward.items():
        error = np.abs(np.asarray(call()) - expected).max()
        assert error < TOLERANCE, (name, error)
    return {
        "forward": forward | {"neuralhydrology": their_forward},
        "training": training | {"neuralhydrology": their_training},
    }


def timed(options):
    """Yield size, pass and the times of each competitor, seconds by round."""
    for point in options.points:
        batch, steps, inputs, statics, hidden = SHAPES[point]
        competing = calls(point)
        for mode in options.passes:
            turns = {
                name: lambda call=call: jax.block_until_ready(call())
                for name, call in competing[mode].items()
                if options.only is None or name in options.only
            }
            times = take_turns(turns, seconds=options.seconds, rounds=options.rounds)
            yield f"B{batch} T{steps} I{inputs} S{statics} H{hidden}", mode, times


def joined(path):
    """Yield size, pass and the times of each competitor, of all rounds in a file of raw times."""
    together = {}
    for line in path.read_text().splitlines():
        piece = json.loads(line)
        for name, times in piece["times"].items():
            together.setdefault((piece["size"], piece["pass"]), {}).setdefault(name, []).extend(times)
    for (size, mode), times in together.items():
        yield size, mode, {name: np.array(of_one) for name, of_one in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="file to write the table to, as page.py reads it")
    parser.add_argument("--points", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--passes", nargs="+", choices=("forward", "training"), default=["forward", "training"])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="competitors, as_vanilla among them; default: all")
    parser.add_argument("--rounds", type=int, help="an exact number instead of --seconds")
    parser.add_argument("--seconds", type=float, default=8, help="about how long each table takes")
    parser.add_argument("--raw", type=Path, metavar="FILE", help="file to add the times of all rounds to")
    parser.add_argument("--joined", type=Path, metavar="FILE", help="time nothing; take the times of a file of --raw")
    options = parser.parse_args()
    print(f"jax {jax.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    rows = []
    for size, mode, times in timed(options) if options.joined is None else joined(options.joined):
        if options.raw is not None:
            piece = {"size": size, "pass": mode, "times": {name: list(map(float, t)) for name, t in times.items()}}
            with options.raw.open("a") as file:
                file.write(json.dumps(piece) + "\n")
        for name, of_one in times.items():
            ratio = float(np.median(of_one / times["as_vanilla"]))
            rows.append([size, mode, name, 1e3 * float(np.median(of_one)), ratio])
            print("{:<26}{:<10}{:<18}{:9.1f}{:7.2f}".format(*rows[-1]), flush=True)
    if options.json is not None:
        columns = ("size", "pass", "network", "ms", "over as_vanilla")
        record.write(options.json, "python benchmarks/entity_aware.py", columns, (0, 0, 0, 1, 2), rows)


if __name__ == "__main__":
    main()
