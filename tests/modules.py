"""What the tests of the Flax modules share: the modules of NNX and of linen behind one interface, sizes and options."""

import dataclasses

import flax.nnx as flax_nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as flax_linen

import lstmjax
import lstmjax.linen
import lstmjax.nnx

T, B, I, H, P, O = 5, 3, 2, 4, 6, 7
LENGTHS = np.array([5, 0, 3])

# What the modules hold: each row is one way to build the parameters, most of them by the preset that
# compiles fastest.
SIZES = {
    "plain": {"init": "equinox"},
    "two layers": {"layers": 2, "init": "equinox"},
    "pairs": {"layers": 2, "bidirectional": True, "init": "equinox"},
    "pairs summed": {"layers": 2, "bidirectional": True, "merge": "sum", "init": "equinox"},
    "projection": {"layers": 2, "projection_size": P, "init": "equinox"},
    "two biases": {"init": "torch"},
    "no bias": {"bias": None, "init": "equinox"},
    "forget bias": {"forget_bias": 2.0, "init": "equinox"},
    "gates fed back": {"cell": "fgr", "init": "equinox"},
    "normalised": {"cell": "layer_norm", "init": "equinox"},
}
# How they run it: each row is handed to the module and to the function.
RUNS = {
    "plain": {},
    "last step": {"return_sequences": False},
    "time major": {"time_major": True},
    "residual": {"residual": True},
    "zoneout": {"wrappers": (lstmjax.Zoneout(0.2, 0.3),)},
    "dropout": {"dropout": 0.4, "wrappers": (lstmjax.RecurrentDropout(0.3),)},
    "half precision": {"dtype": jnp.bfloat16},
    "segments": {"checkpoint": 2, "unroll": 2, "backend": "scan"},
    "coupled gates": {"cell": "cifg"},
}
# A cell of one's own, the widest in its parameters and its state.
OWN = dataclasses.replace(lstmjax.CELLS["fgr"], name="own", g=jax.nn.softplus)

sizes = pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
runs = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)

INITIALISERS = {"LSTM": lstmjax.init_stacked, "LSTMNetwork": lstmjax.init_network, "LSTMCell": lstmjax.init_params}


class Nnx:
    """`lstmjax.nnx`: a module holds its parameters and draws them when it is built."""

    package, flax = lstmjax.nnx, flax_nnx

    def __init__(self, name, *sizes, init="equinox", seed=0, **options):
        self.module = getattr(self.package, name)(*sizes, init=init, rngs=flax_nnx.Rngs(seed), **options)
        self.params = self.module.to_params()

    def __call__(self, xs, *state, key=None, evaluate=None, **options):
        return self.module(xs, *state, rngs=key, deterministic=evaluate, **options)

    @classmethod
    def initial(cls, name, *sizes, init="equinox", **options):
        """The parameters of a module that was built, and the key that they were drawn of."""
        return cls(name, *sizes, init=init, seed=5, **options).params, flax_nnx.Rngs(5).params()

    def drawn(self, key):
        """The key that the layers get if the call gets this one."""
        return key

    def slopes(self, loss):
        """The gradient of a loss of the module, as parameters."""
        graph = flax_nnx.graphdef(self.module)

        def of_params(params):
            options = {"merge": self.module.merge, "cell": self.module.cell}
            module = flax_nnx.merge(graph, flax_nnx.state(type(self.module).from_params(params, **options)))
            return flax_nnx.merge(graph, flax_nnx.grad(loss)(module)).to_params()

        return compiled(of_params, self.params)

    @classmethod
    def rnn(cls, params, *, lengths=None, cell="vanilla", dtype=None, **options):
        """The cell in Flax's own loop: (carry, ys) as a function of xs."""
        module = cls.package.LSTMCell.from_params(params, cell=cell, dtype=dtype)
        loop = flax_nnx.RNN(module, return_carry=True, **options)
        return lambda xs: loop(xs, seq_lengths=lengths)


class Linen:
    """`lstmjax.linen`: a module is its settings, and is applied to variables."""

    package, flax = lstmjax.linen, flax_linen

    def __init__(self, name, inputs, *sizes, init="equinox", seed=0, **options):
        make = getattr(self.package, name)
        self.module = make(*sizes, preset=init, **options)
        names = ("layers", "bidirectional", "merge", "cell", "projection_size", "bias", "forget_bias")
        drawn = {key: options[key] for key in names if key in options}
        self.params = INITIALISERS[name](jax.random.key(seed), inputs, *sizes, init=init, **drawn)
        self.variables = make.from_params(self.params)

    def __call__(self, xs, *state, key=None, evaluate=None, **options):
        rngs = None if key is None else {"dropout": key}
        return self.module.apply(self.variables, xs, *state, rngs=rngs, deterministic=evaluate, **options)

    @classmethod
    def initial(cls, name, inputs, *sizes, init="equinox", **options):
        """The parameters of a module that was initialised, and the key that they were drawn of."""
        make = getattr(cls.package, name)
        xs = jnp.ones((B, T, inputs), options.get("param_dtype", jnp.float32))
        module = make(*sizes, preset=init, **options)
        key = flax_linen.Module.bind(module, {}, rngs={"params": jax.random.key(5)}).make_rng("params")
        arguments = (xs,)
        if name == "LSTMCell":
            arguments = module.initialize_carry(jax.random.key(0), (B, inputs)), xs[:, 0]
        return make.to_params(module.init(jax.random.key(5), *arguments)), key

    def drawn(self, key):
        """The key that the layers get if the call gets this one."""
        return self.module.bind(self.variables, rngs={"dropout": key}).make_rng("dropout")

    def slopes(self, loss):
        """The gradient of a loss of the module, as parameters."""
        of_variables = jax.grad(lambda variables: loss(lambda *a, **k: self.module.apply(variables, *a, **k)))
        return self.module.to_params(compiled(of_variables, self.variables))

    @classmethod
    def rnn(cls, params, *, lengths=None, cell="vanilla", dtype=None, **options):
        """The cell in Flax's own loop: (carry, ys) as a function of xs."""
        bias, width = ("single" if params.b_h is None else "double"), None if params.w_p is None else params.output_size
        module = cls.package.LSTMCell(params.hidden_size, cell=cell, dtype=dtype, projection_size=width, bias=bias)
        loop = flax_linen.RNN(module, return_carry=True, **options)
        variables = {"params": {"cell": cls.package.LSTMCell.from_params(params)["params"]}}
        return lambda xs: loop.apply(variables, xs, seq_lengths=lengths)


# linen stands still, so that one Python is enough for it.
kinds = pytest.mark.parametrize("kind", [Nnx, pytest.param(Linen, marks=pytest.mark.once)], ids=["nnx", "linen"])


def assert_equal(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def total(ys):
    return sum(jnp.sum(jnp.sin(y.astype(jnp.float32))) for y in jax.tree.leaves(ys))


def compiled(f, tree):
    """f of a tree, which gives another one like it, compiled for its leaves: equal programs are compiled once."""
    leaves, structure = jax.tree.flatten(tree)
    return structure.unflatten(jax.jit(lambda *leaves: jax.tree.leaves(f(structure.unflatten(leaves))))(*leaves))
