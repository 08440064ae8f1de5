"""The strictest JAX there is: no silent promotion of dtypes or ranks, and warnings are errors.

A test runs most of its programs once, so they are compiled fast rather than well, in half the
time; `XLA_FLAGS= pytest` compiles as users do. What is compiled is kept in the user's cache folder: the workers
of xdist, processes that tests start, and later sessions load it. `JAX_COMPILATION_CACHE_DIR` is another folder.

`pytest --backend NAME` lets "auto" try that backend first: what is tested of the layer is then tested of it.
"""

import gc
import importlib.metadata
import os
import shutil
import threading
from pathlib import Path

QUICK = [
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
]
OLD = importlib.metadata.version("jax").startswith("0.10.")
if OLD:
    QUICK.append("--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("XLA_FLAGS", " ".join(QUICK))  # read when JAX starts, here and in processes of its own
LARGEST = 3 * 2**30  # bytes of the cache from which it begins anew; a whole session writes a few hundred MB
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lstmjax-tests"
    folder = folder / f"jax-{importlib.metadata.version('jax')}"
    if folder.is_dir() and sum(entry.stat().st_size for entry in os.scandir(folder)) > LARGEST:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import jax  # noqa: E402
import pytest  # noqa: E402
from against import prefer  # noqa: E402

BOTH = {
    "backends", "cell", "cpu_products", "debugging", "exported", "flax_cell", "fused", "linear", "lowering",
    "lowering_models", "modules", "native_library", "nnx", "sharding",
}  # fmt: skip
"""The files of tests that lean on JAX itself and run on each line of it in CI; all others are marked once."""

THOROUGH = {
    "agents_inside", "bench", "cpu_products", "debugging", "doctests", "export", "files_hostile", "flax_cell",
    "flax_object", "forecast", "forecast_command", "gpu_script", "hydrology", "hydrology_command", "keras_files",
    "lowering_models",
    "keras_models", "notebooks", "onnx_graphs", "order_truth", "plot_notebook", "properties", "readme", "replica",
    "report_page", "report_run", "sharding", "site", "training_replica",
}  # fmt: skip
"""The files of CI's second stage, marked thorough: most of the time, for what changes to a few files can break.

Tests of other files that start processes of several devices, or repeat others for another instruction set, are marked
where they stand.
"""

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def share_contexts():
    """Let ten programs that a thread lowers share an MLIR context, as JAX 0.12 does.

    JAX 0.10 makes one for each program, which takes 3.5 ms; and a worker holds 1,130 MB instead of 689.
    """
    from jax._src.interpreters import mlir  # not public, but of JAX 0.10 alone, which does not change any more

    make = mlir.make_ir_context
    of_thread = threading.local()

    def shared():
        programs = getattr(of_thread, "programs", 0)
        if programs % 10 == 0:
            of_thread.context = make()
        of_thread.programs = programs + 1
        return of_thread.context

    mlir.make_ir_context = shared


if OLD:
    share_contexts()


def pytest_addoption(parser):
    parser.addoption("--backend", default="auto", help='the backend that "auto" tries first; auto: as in the table')
    parser.addoption("--examples", type=int, help="random cases of the native kernel, new ones; default: a few")


def pytest_configure(config):
    prefer(config.getoption("--backend"))


def pytest_ignore_collect(collection_path, config):
    """Leave files unread whose tests would all be deselected: most of the imports. A file that is named is read."""
    if not collection_path.name.startswith("test_"):
        return None
    name, marks = collection_path.stem.removeprefix("test_"), config.option.markexpr
    thorough = name in THOROUGH
    if "not once" in marks and name not in BOTH:
        return True
    if "not thorough" in marks:
        return True if thorough else None
    if "thorough" in marks and not thorough:
        text = collection_path.read_text(encoding="utf-8")
        return None if "mark.thorough" in text or "tiered(" in text else True
    return None


@pytest.hookimpl(tryfirst=True)  # before marks are chosen by
def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.stem.removeprefix("test_") not in BOTH:
            item.add_marker(pytest.mark.once)
        if item.path.stem.removeprefix("test_") in THOROUGH:
            item.add_marker(pytest.mark.thorough)


def pytest_collection_finish():
    """Keep the garbage collector from what lives to the end: a tenth of the time of tests that trace went into it.

    Modules, tests and the programs that JAX keeps are never garbage. A test that looks for garbage collects it itself.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


@pytest.fixture
def backend_option(request):
    """What --backend was, for a process that a test starts."""
    return request.config.getoption("--backend")


@pytest.fixture
def examples(request):
    """What --examples was; programs of random sizes are compiled once, so that no cache keeps them."""
    count = request.config.getoption("--examples")
    jax.config.update("jax_enable_compilation_cache", count is None)
    yield count
    jax.config.update("jax_enable_compilation_cache", True)


@pytest.fixture
def x64():
    """Computes in float64 where a test asks for it."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def promotion():
    """Promotes as JAX does by default: Optax multiplies moments by decay rates of other dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def no_curves(monkeypatch):
    """No run draws its curves: it would take longer than its steps."""
    monkeypatch.setattr("lstmjax.training.curves.draw_curves", lambda *_: None)


@pytest.fixture
def frameworks(monkeypatch):
    """Other frameworks promote dtypes and ranks as JAX does by default; Keras runs on JAX."""
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def keras(frameworks):
    return pytest.importorskip("keras")
