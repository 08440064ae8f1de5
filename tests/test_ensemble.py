"""Parameters of several networks at once, as `jax.vmap` makes them: saved, read, told apart, refused in clear words."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exchange import same

import lstmjax
from lstmjax import checks, convert, init_network, init_params, init_stacked, inside, shapes
from lstmjax.cli import main
from lstmjax.convert import ConvertError, from_safetensors, load_weights, save_weights, to_safetensors
from lstmjax.report import report
from lstmjax.types import AXES, leading_axes

N, I, H, O = 7, 2, 4, 5
XS = np.random.default_rng(0).normal(size=(3, 6, I)).astype(np.float32)


def ensemble(make, *axes):
    """What `jax.vmap` of `make` gives over keys of these axes, with random numbers and without compiling."""
    mapped = make
    for _ in axes:
        mapped = jax.vmap(mapped)
    trees = jax.eval_shape(mapped, jax.eval_shape(lambda key: jax.random.split(key, axes), jax.random.key(1)))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), a.dtype), trees)


def one(key):
    return init_params(key, I, H)


NETS = ensemble(lambda key: init_network(key, I, H, O, 2), N)
LAYER = ensemble(one, N)
ENSEMBLES = {
    "layer": lambda: (LAYER,),
    "pairs": lambda: ensemble(lambda key: init_stacked(key, I, H, 2, bidirectional=True, bias="double"), N),
    "network": lambda: NETS,
    "several axes": lambda: ensemble(lambda key: init_network(key, I, H, O, projection_size=3), N, 3),
    "as wide as the layer": lambda: ensemble(lambda key: init_network(key, I, H, O), H),
    "peepholes": lambda: ensemble(lambda key: init_stacked(key, I, H, cell="peephole"), N),
    "layer norm": lambda: ensemble(lambda key: init_stacked(key, I, H, cell="layer_norm"), 1),
}


@pytest.mark.parametrize("end", [".safetensors", ".npz"])
@pytest.mark.parametrize("name", ENSEMBLES)
def test_it_is_saved_and_read_with_its_leading_axes(name, end, tmp_path, capsys):
    params, path = ENSEMBLES[name](), tmp_path / f"ensemble{end}"
    save_weights(params, path)
    same(load_weights(path), params)
    assert main(["convert", str(path), str(tmp_path / "copy.npz")]) == 0
    axes = leading_axes(params)
    shown = capsys.readouterr().out.splitlines()
    assert shown[1] == f"an ensemble of {np.prod(axes)} networks, each:"
    assert shown[2].startswith(f"layer 0: {I} → ")
    assert f"parameters {sum(a.size for a in jax.tree.leaves(params))}" in shown
    same(load_weights(tmp_path / "copy.npz"), params)


def test_to_safetensors_takes_it_too(tmp_path):
    to_safetensors(NETS, tmp_path / "a.safetensors")
    same(from_safetensors(tmp_path / "a.safetensors"), NETS)


def test_one_of_it_is_a_network(tmp_path):
    save_weights(NETS, tmp_path / "a.npz")
    nets = load_weights(tmp_path / "a.npz")
    member = jax.tree.map(lambda a: a[3], nets)
    assert leading_axes(member) == ()
    whole = jax.jit(jax.vmap(lambda params: lstmjax.network(params, XS)[1]))(nets)
    assert whole.shape == (N, 3, O)
    save_weights(member, tmp_path / "one.npz", form="torch")
    np.testing.assert_allclose(lstmjax.network(load_weights(tmp_path / "one.npz"), XS)[1], whole[3], atol=1e-6)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        (
            NETS._replace(head=jax.tree.map(lambda a: a[0], NETS.head)),
            r"head\.w has shape \(4, 5\), expected \[7, P, O\]",
        ),
        (
            (LAYER, jax.tree.map(lambda a: a[0], LAYER)),
            r"layers\.1\.w_x has shape \(2, 4, 4\), expected \[7, I, G, H\]",
        ),
        ((LAYER._replace(b=LAYER.b[:3]),), r"layers\.0\.b has shape \(3, 4, 4\), expected \[7, G, H\]"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(params, words, tmp_path):
    with pytest.raises(ConvertError, match=words):
        save_weights(params, tmp_path / "a.npz")
    assert not list(tmp_path.iterdir())


TARGETS = [
    (row.ends[0], form) for row in convert.containers.CONTAINERS if row.write for form in row.forms if form != "lstmjax"
]
REFUSED = r"the parameters are an ensemble of 7 networks: every array has the leading axes \(7,\), as jax\.vmap makes "
REMEDY = r"them\. Take one, jax\.tree\.map\(lambda a: a\[k\], params\), or run all by jax\.vmap over params\."


@pytest.mark.parametrize(("end", "form"), TARGETS)
@pytest.mark.parametrize("params", [NETS, LAYER, (LAYER,)], ids=["network", "layer", "layers"])
def test_every_other_form_refuses_it_with_the_remedy(params, end, form, tmp_path):
    with pytest.raises(
        ConvertError, match=rf"a{end}: {REFUSED}{REMEDY} Our own names keep all of them: form='lstmjax'"
    ):
        save_weights(params, tmp_path / f"a{end}", form=form)
    assert not list(tmp_path.iterdir())


def test_verify_and_convert_of_a_file_say_it(tmp_path, capsys):
    save_weights(NETS, tmp_path / "a.npz")
    np.save(tmp_path / "x.npy", XS)
    assert main(["verify", str(tmp_path / "a.npz"), "--input", str(tmp_path / "x.npy")]) == 2
    assert "the parameters are an ensemble of 7 networks" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "a.npz"), str(tmp_path / "a.msgpack")]) == 2
    assert "a.msgpack: the parameters are an ensemble of 7 networks" in capsys.readouterr().err


LAYERS = NETS.layers
STATE = (jnp.zeros((3, H)), jnp.zeros((3, H)))
TAKES = {
    "cell_step": lambda: lstmjax.cell_step(LAYER, STATE, XS[:, 0]),
    "lstm": lambda: lstmjax.lstm(LAYER, XS),
    "stacked": lambda: lstmjax.stacked(LAYERS, XS),
    "network": lambda: lstmjax.network(NETS, XS),
    "trace": lambda: lstmjax.trace(LAYER, XS),
    "trace of a network": lambda: lstmjax.trace(NETS, XS),
    "report": lambda: report(NETS, XS),
    "explain_backend": lambda: lstmjax.explain_backend(LAYER, XS),
    "compile_step": lambda: lstmjax.compile_step(LAYER),
    "fixed_points": lambda: lstmjax.fixed_points(LAYER, XS[0, 0], STATE),
    "gate_statistics": lambda: inside.gate_statistics(NETS, XS),
    "gradient_flow": lambda: inside.gradient_flow(LAYER, XS, lambda ys: ys.sum()),
    "gradient_paths": lambda: inside.gradient_paths(LAYER, XS, lambda ys: ys.sum()),
    "gradient_spans": lambda: inside.gradient_spans(LAYER, XS, lambda ys: ys.sum()),
    "lyapunov_spectrum": lambda: inside.lyapunov_spectrum(LAYER, XS),
    "state_jacobian": lambda: inside.state_jacobian(LAYER, XS, 0, 2),
    "step_jacobians": lambda: inside.step_jacobians(LAYER, XS),
    "verify": lambda: lstmjax.verify(NETS, XS),
    "verify of outputs": lambda: lstmjax.verify(np.ones((3, O), "f"), XS, params=NETS),
    "to_concatenated": lambda: lstmjax.to_concatenated(LAYER),
    "to_cudnn": lambda: convert.to_cudnn((LAYER,)),
    "to_equinox": lambda: convert.to_equinox((LAYER,)),
    "to_haiku": lambda: convert.to_haiku(LAYERS),
    "to_keras": lambda: convert.to_keras(LAYERS),
    "to_linen": lambda: convert.to_linen(LAYERS),
    "to_nnx": lambda: convert.to_nnx(LAYERS),
    "to_torch": lambda: convert.to_torch(LAYER),
    "to_onnx": lambda: convert.to_onnx(NETS),
    "to_stablehlo": lambda: convert.to_stablehlo(lambda xs: lstmjax.network(NETS, xs), I),
}


@pytest.mark.parametrize("name", TAKES)
def test_what_takes_one_network_says_so(name):
    with pytest.raises(ValueError, match=REFUSED + REMEDY):
        TAKES[name]()


@pytest.mark.parametrize("name", ENSEMBLES)
def test_shapes_tells_the_ensemble_from_the_features(name):
    params = ENSEMBLES[name]()
    axes = leading_axes(params)
    table = shapes(params)
    assert table.ensemble == axes
    assert table.parameters == sum(a.size for a in jax.tree.leaves(params))
    member = shapes(jax.tree.map(lambda a: a[(0,) * len(axes)], params))
    assert table.parameters == np.prod(axes) * member.parameters
    assert table.flow == member.flow
    letters = ("E",) if len(axes) == 1 else ("E1", "E2")
    for row, of_one in zip(table.rows, member.rows, strict=True):
        if row.number:
            assert (row.shape, row.letters) == ((*axes, *of_one.shape), (*letters, *of_one.letters))
    text = str(table)
    assert f": {I} features into {H} units" in text
    assert f"An ensemble of {np.prod(axes)} networks: all parameters have the leading axes {', '.join(letters)}" in text


def test_the_table_of_axes_is_that_of_the_parameters():
    for cell in lstmjax.CELLS.values():
        make = partial(init_params, input_size=I, hidden_size=H, cell=cell, projection_size=3, bias="double")
        params = jax.eval_shape(make, jax.random.key(0))
        for kind, part in ((type(params), params), (type(params.norm), params.norm)):
            sizes = {}
            for name, letters in AXES.get(kind, {}).items():
                a = getattr(part, name)
                if a is not None:
                    assert len(letters) == a.ndim
                    assert [sizes.setdefault(letter, size) for letter, size in zip(letters, a.shape, strict=True)] == [
                        *a.shape
                    ]
            assert checks.ensemble(params) == ""
