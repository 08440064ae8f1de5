"""Imports run one way, from the equations outwards, and the core needs nothing but JAX and chex."""

import ast
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import lstmjax

PACKAGE = Path(lstmjax.__file__).parent
ORDER = [  # a module imports from rows above its own, never from its own row or below
    {"types", "errors", "keywords"},
    {"arguments"},
    {"checks", "cells"},
    {"published", "textbook"},
    {"cell"},
    {"draws", "wrappers", "arrays", "mass"},
    {"backends.request"},
    {"backends.segments", "backends.settled", "backends.linear", "backends.native_library"},
    {"backends.native_plain", "backends.native_sharding"},
    {"backends.scan", "backends.cudnn_call", "backends.native_call", "backends.every_step"},
    {"backends.cpu", "backends.by_scan"},
    {"backends.inplace", "backends.fused", "backends.cudnn"},
    {"backends.native"},
    {"backends.table"},
    {"backends"},
    {"states", "dropout"},
    {"layer"},
    {"layered"},
    {"stack"},
    {"networks"},
    {"truncated", "parameters"},
    {"options"},
    {"entity"},
    {"mass_layer"},
]
ALLOWED = {"jax", "chex", *sys.stdlib_module_names}


def file_of(module):
    path = PACKAGE.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imports(path, hidden=False):
    """The modules that a file imports when it is loaded; with hidden ones those in functions and for type checkers."""
    tree, found = ast.parse(path.read_text()), set()
    nodes = list(ast.walk(tree)) if hidden else list(tree.body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            submodules = {name for name in whole if name.startswith("lstmjax.") and file_of(name[8:]).exists()}
            found |= submodules | ({node.module} if len(submodules) < len(whole) else set())
        elif isinstance(node, ast.If) and not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            nodes += [] if hidden else node.body + node.orelse
    return found


def own(path, hidden=False):
    return {name.removeprefix("lstmjax.") for name in imports(path, hidden) if name.startswith("lstmjax.")}


@pytest.mark.parametrize("rank", range(len(ORDER)))
def test_the_core_imports_downwards(rank):
    below = set().union(*ORDER[:rank])
    for module in ORDER[rank]:
        assert own(file_of(module)) <= below, module


@pytest.mark.parametrize("module", sorted(set().union(*ORDER)))
def test_the_core_imports_jax_and_chex_only(module):
    others = {name.split(".")[0] for name in imports(file_of(module))} - {"lstmjax"}
    assert others <= ALLOWED
    assert "chex" not in others or module == "checks"


def test_initial_values_are_read_from_the_table_of_frameworks():
    """The modules of the core above the frameworks, whose rows have presets; these bring no more than JAX does."""
    below = set().union(*ORDER)
    for module, more in (
        ("init", {"frameworks"}),
        ("init_stack", {"init"}),
        ("language_model", {"init", "init_stack"}),
        ("init_hydrology", {"init"}),
    ):
        assert own(file_of(module)) <= below | more
        assert {name.split(".")[0] for name in imports(file_of(module))} - {"lstmjax"} <= ALLOWED
    assert {name for module in below for name in own(file_of(module), hidden=True)} <= below | {"inside"}


def test_no_module_of_the_package_imports_itself_through_others():
    graph = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        graph[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = own(path, hidden=True)
    assert graph["layer"] >= {"cell", "wrappers"}
    done = set()

    def visit(module, above):
        assert module not in above, " imports ".join([*above, module])
        if module not in done:
            for other in sorted(graph.get(module, ())):
                visit(other, [*above, module])
            done.add(module)

    for module in graph:
        visit(module, [])


def test_what_exchanges_compares_times_and_initialises_names_no_framework():
    """It reads the table, in which ours and our oracle stand, too; `convert` itself lists what users call."""
    table = own(PACKAGE / "frameworks" / "__init__.py")
    rows = {name for name in table if "ROW" in file_of(name).read_text()}
    assert {"frameworks.torch", "frameworks.keras", "frameworks.haiku", "frameworks.onnx"} <= rows
    others = rows - {"frameworks.ours", "frameworks.oracle"}
    paths = [path for folder in ("convert", "replica", "bench") for path in (PACKAGE / folder).rglob("*.py")]
    for path in {*paths, file_of("init")} - {PACKAGE / "convert" / "__init__.py"}:
        named = {".".join(name.split(".")[:2]) for name in own(path, hidden=True)}
        assert not named & others, path


PLACES = {
    "torch": ("frameworks/torch/",),
    "keras": ("frameworks/keras/",),
    "flax": ("frameworks/flax/", "linen/", "nnx/"),
    "haiku": ("frameworks/haiku.py",),
    "equinox": ("frameworks/equinox.py",),
    "onnx": ("frameworks/onnx/",),
    "onnxruntime": ("frameworks/onnx/",),
}


def test_a_framework_is_imported_in_its_place():
    for path in PACKAGE.rglob("*.py"):
        place = path.relative_to(PACKAGE).as_posix()
        packages = {name.split(".")[0] for name in imports(path, hidden=True)} & PLACES.keys()
        assert all(place.startswith(PLACES[package]) for package in packages), place


def test_frameworks_stand_below_what_exchanges_and_compares():
    above = {}
    for path in (PACKAGE / "frameworks").rglob("*.py"):
        names = {name for name in own(path, hidden=True) if name.split(".")[0] in ("convert", "replica")}
        above |= {path.name: names} if names else {}
    assert above == {"model.py": {"convert.weights"}}  # of Keras: `from_keras` reads files, too


def test_importing_the_core_opens_no_training_plotting_or_flax():
    """In a fresh interpreter, with all public names in use; chex and what it brings is the only addition to JAX."""
    script = """
import sys, jax
before = set(sys.modules)
import chex
chex_brings = set(sys.modules) - before
import lstmjax
[getattr(lstmjax, name) for name in lstmjax.__all__]
added = {name.split(".")[0] for name in set(sys.modules) - before - chex_brings} - {"jax"}
print(sorted(name for name in added if name not in sys.stdlib_module_names))
print(sorted({name.split(".")[0] for name in sys.modules}))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    added, loaded = map(ast.literal_eval, run.stdout.splitlines())
    assert added == ["lstmjax"]
    heavy = {"flax", "optax", "orbax", "matplotlib", "plotly", "pydantic", "tyro", "yaml", "tqdm", "torch", "onnx"}
    assert heavy.isdisjoint(loaded)


def test_every_public_name_is_there_and_documented():
    for name in lstmjax.__all__:
        value = getattr(lstmjax, name)
        assert value is not None
        if callable(value):
            assert value.__doc__, name


def test_xs_goes_from_network_to_the_gates_without_entering_a_file_twice():
    params, xs = lstmjax.init_network(jax.random.key(0), 3, 11, 2, layers=2), jnp.ones((2, 4, 3))
    ways = []

    def watch(frame, event, _):
        if event == "call" and frame.f_code.co_name == "gate_sums":
            files = []
            while frame:
                path = Path(frame.f_code.co_filename)
                if PACKAGE in path.parents and files[:1] != [path.relative_to(PACKAGE)]:
                    files.insert(0, path.relative_to(PACKAGE))
                frame = frame.f_back
            ways.append([str(path.parent if path.parts[0] == "backends" else path) for path in files])

    sys.setprofile(watch)
    lstmjax.network(params, xs, backend="fused")
    sys.setprofile(None)
    assert len(ways) == 2  # each layer is traced once, and its step once in it
    for way in ways:
        assert way == ["networks.py", "stack.py", "layered.py", "layer.py", "backends", "wrappers.py", "cell.py"]


def code_lines(path):
    """How many lines a file has without docstrings, comments and blanks."""
    source = path.read_text()
    strings = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Expr)]
    docs = {
        line
        for node in strings
        if isinstance(node.value, ast.Constant)
        for line in range(node.lineno, node.end_lineno + 1)
    }
    lines = enumerate(source.splitlines(), start=1)
    return sum(bool(line.strip()) and not line.strip().startswith("#") and n not in docs for n, line in lines)


def test_the_core_is_read_in_an_hour():
    core = ["types", "checks", "cells", "cell", "draws", "init", "wrappers", "arrays", "states", "layer"]
    core += ["backends", "backends.scan"]
    assert sum(code_lines(file_of(module)) for module in core) < 1000
