"""Messages of the command line name its own options; those of functions name keyword arguments."""

import ast
import inspect
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exchange import layer, pair

import lstmjax
from lstmjax import Dense, NetworkParams, init_params, verify
from lstmjax.cli import COMMANDS, main
from lstmjax.cli.commands import Convert, Verify, options_of
from lstmjax.convert import load_weights, save_weights
from lstmjax.errors import Either, Message, Named, Option, UserError, message_of

PACKAGE = Path(lstmjax.__file__).parent
OPTIONS = sorted((options_of(Convert) | options_of(Verify)).keys() - {"source", "target", "weights", "input", "grid"})
KEYWORD = re.compile(rf"(?<![\w-])({'|'.join(OPTIONS)})=")
IN_PYTHON_ONLY = {  # code to be copied, and of objects in memory, which no command has
    "replica/cards.py", "convert/stablehlo.py", "dimensions.py", "convert/flax_object.py"
}  # fmt: skip


def texts(tree):
    """All literal text of a module that may be shown: no docstrings, and nothing that an `Either` says in Python."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Either":
            waiting += node.args[1:]
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        waiting += ast.iter_child_nodes(node)


@pytest.mark.parametrize("folder", [".", "convert", "replica", "training", "report", "data", "bench"])
def test_no_message_that_a_command_can_show_has_an_option_as_plain_text(folder):
    found = []
    for path in sorted((PACKAGE / folder).glob("*.py" if folder == "." else "**/*.py")):
        if str(path.relative_to(PACKAGE)) not in IN_PYTHON_ONLY:
            for node in texts(ast.parse(path.read_text())):
                if KEYWORD.search(node.value):
                    found.append(f"{path.name}:{node.lineno}: {node.value}")
    assert not found


def ones(*shape):
    return np.ones(shape, np.float32)


LSTM = {"weight_ih_l0": ones(16, 3), "weight_hh_l0": ones(16, 4)}
HEAD = {"fc.weight": ones(5, 4), "fc.bias": ones(5)}


def prefixed(**trees):
    return {f"{prefix}.{name}": a for prefix, tree in trees.items() for name, a in tree.items()}


def networks(width, merge="concat"):
    below = pair(3, biases=2)
    return NetworkParams((below,), Dense(jnp.ones((width, 5)), jnp.ones(5)))


REFUSALS = {  # what is in a file, the words after the file, and what the refusal says
    "extra": (LSTM | {"norm.weight": ones(4)}, (), "Pass --extra drop to leave it behind\n"),
    "head": (LSTM | {"a.weight": ones(9, 4)}, (), "if one of a is the head, pass --head\n"),
    "no head": (LSTM | HEAD, ("--head", "x"), "--head is 'x', but the Dense layers in it are fc\n"),
    "several": (prefixed(a=LSTM, b=LSTM), (), "there are several LSTMs: --prefix can be 'a.', 'b.'"),
    "prefix": (prefixed(a=LSTM), ("--prefix", "x."), "--prefix is 'x.', but no name begins so; there are a.weight"),
    "order": (
        prefixed(a=LSTM, b=LSTM),
        ("--names", "a", "b"),
        "do not stand on top of each other. Say by --prefix which is meant, or the order by --names\n",
    ),
    "from": (LSTM | {"if/kernel": ones(3, 4)}, (), "there are names of torch or linen in it; say which by --from\n"),
    "names": (
        {f"{name}/cell/{field}": ones(n, 16) for name in "ab" for field, n in (("kernel", 4), ("recurrent_kernel", 4))},
        (),
        "does not keep the order of a, b; pass --names with these in the order of the model\n",
    ),
    "more names": (
        {f"{name}/cell/{field}": ones(n, 16) for name in "ab" for field, n in (("kernel", 4), ("recurrent_kernel", 4))},
        ("--names", "a"),
        "the order is said for a, but there is b/cell too; pass --names with all of them in the order of the model\n",
    ),
    "merge": (
        lambda path: save_weights((pair(3), pair(4)), path),
        ("--merge", "concat"),
        "layer 1 takes 4 numbers, but layer 0 gives 8, so they do not stand on top of each other. With --merge sum th",
    ),
    "merge of the head": (
        prefixed(lstm=LSTM | {f"{name}_reverse": a for name, a in LSTM.items()}) | HEAD,
        ("--head", "fc", "--merge", "concat"),
        "fc takes 4 numbers, but the last layer gives 8. With --merge sum it fits\n",
    ),
}


@pytest.mark.parametrize("command", ["convert", "verify"])
@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_name_the_options_of_the_command(name, command, tmp_path, capsys):
    held, words, said = REFUSALS[name]
    path = tmp_path / "model.npz"
    if callable(held):
        held(path)
    else:
        np.savez(path, **held)
    np.save(tmp_path / "x.npy", ones(2, 5, 3))
    others = {"convert": [str(tmp_path / "out.npz")], "verify": ["--input", str(tmp_path / "x.npy")]}
    assert main([command, str(path), *others[command], *words]) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.startswith(f"lstmjax: {path}: ")
    assert not KEYWORD.search(shown)


def test_refusals_of_what_is_written_name_options_too(tmp_path, capsys):
    nets = jax.tree.map(lambda a: jnp.stack([a, a]), (layer(),))
    both, several = (tmp_path / name for name in ("both.npz", "several.npz"))
    save_weights((layer(biases=2),), both)
    save_weights(nets, several)
    for words, said in (
        ([both, tmp_path / "a.npz", "--to", "keras"], "pass --sum-biases to add them up\n"),
        ([both, tmp_path / "a.pt", "--to", "keras"], "--to is 'keras', expected torch for this kind of file\n"),
        ([several, tmp_path / "a.npz", "--to", "torch"], "Our own names keep all of them: --to lstmjax\n"),
    ):
        assert main(["convert", *map(str, words)]) == 2
        shown = capsys.readouterr().err
        assert shown.endswith(said)
        assert not KEYWORD.search(shown)


def test_what_the_cell_and_the_outputs_are_is_said_by_options(tmp_path, capsys):
    path, xs = tmp_path / "w.npz", tmp_path / "x.npy"
    save_weights(init_params(jax.random.key(0), 3, 4, cell="peephole"), path)
    np.save(xs, ones(2, 5, 3))
    assert main(["verify", str(path), "--input", str(xs)]) == 2
    assert capsys.readouterr().err.endswith("Were these parameters made for another cell? Pass --cell.\n")


def test_verify_takes_what_convert_takes(tmp_path, capsys):
    path, xs = tmp_path / "model.npz", tmp_path / "x.npy"
    rng = np.random.default_rng(0)

    def drawn(*shape):
        return rng.normal(size=shape).astype(np.float32)

    below = {"weight_ih_l0": drawn(16, 3), "weight_hh_l0": drawn(16, 4)}
    above = {"weight_ih_l0": drawn(8, 4), "weight_hh_l0": drawn(8, 2)}
    heads = {"a.weight": drawn(5, 2), "a.bias": drawn(5), "b.weight": drawn(6, 2), "b.bias": drawn(6)}
    np.savez(path, **prefixed(low=below, high=above), **heads, **{"if/kernel": drawn(2, 2)})
    np.save(xs, drawn(2, 5, 3))
    words = ["--from", "torch", "--names", "low", "high", "--head", "b", "--extra", "drop"]
    assert main(["verify", str(path), "--input", str(xs), *words]) == 0
    shown = capsys.readouterr().out
    assert "agree" in shown
    assert "left out on both sides: a.weight, a.bias, if/kernel" in shown
    np.save(xs, drawn(2, 5, 4))
    words = ["--from", "torch", "--prefix", "high.", "--extra", "drop"]
    assert main(["verify", str(path), "--input", str(xs), *words]) == 0
    options = {"--from": "torch", "--prefix": "a", "--head": "b", "--extra": "drop", "--names": "a", "--merge": "sum"}
    for option, value in options.items():
        capsys.readouterr()
        assert main(["verify", "--grid", option, value]) == 2
        assert capsys.readouterr().err == f"lstmjax: {option} is for WEIGHTS and --input; leave it out\n"


def test_in_python_the_same_refusal_names_arguments(tmp_path):
    np.savez(tmp_path / "model.npz", **LSTM, **{"norm.weight": ones(4)})
    with pytest.raises(UserError, match=r"Pass extra='drop' to leave it behind$"):
        load_weights(tmp_path / "model.npz")


def test_verify_in_python_takes_what_its_refusals_name(tmp_path):
    path, xs = tmp_path / "model.npz", np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    np.savez(path, **prefixed(a=LSTM, b=LSTM), **{"norm.weight": ones(4)})
    with pytest.raises(UserError, match=r"there are several LSTMs: prefix can be 'a\.', 'b\.'"):
        verify(path, xs)
    with pytest.raises(UserError, match=r"Pass extra='drop' to leave it behind$"):
        verify(path, xs, prefix="a.")
    verdict = verify(str(path), xs, form="torch", prefix="a.", extra="drop")
    assert verdict
    assert "left out on both sides: " in str(verdict)
    assert "norm.weight" in str(verdict)
    arguments = inspect.signature(verify).parameters
    assert set(arguments) >= inspect.signature(load_weights).parameters.keys() - {"path"}
    for name, value in {"form": "torch", "prefix": "a.", "names": ["a"], "head": "fc", "extra": "drop"}.items():
        for theirs, params, what in ((LSTM, None, "theirs is a dict"), (xs, layer(), "with params= theirs is what")):
            with pytest.raises(ValueError, match=f"^{name} is .*, which is for the path of a weights file, but {what}"):
                verify(theirs, xs, params=params, **{name: value})


def test_a_message_is_rendered_for_each_reader():
    inner = Message("say ", Named("names"), " or ", Option("names"), Either(" here", " there"))
    error = ValueError(Message("a.npz: ", inner, "; ", Option("sum_biases", True)))
    error.add_note("In layer 1.")
    error.add_note("---\nAs JAX adds them.")
    assert str(error) == "a.npz: say names or names= here; sum_biases=True"
    assert message_of(error, "b: ") == f"b: {error} In layer 1."
    told = message_of(error, "b: ").for_command(options_of(Convert))
    assert told == "b: a.npz: say --names or --names there; --sum-biases In layer 1."
    assert message_of(error).for_command({}) == "a.npz: say names or names= there; sum_biases=True In layer 1."
    assert message_of(KeyError("x")).for_command({}) == "'x'"
    assert set(options_of(Verify)) >= {"form", "prefix", "names", "head", "extra", "merge", "cell"}
    assert all(options_of(kind) for kind in COMMANDS)
