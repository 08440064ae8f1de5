"""The notebooks are what their sources say, and run from start to end: shortened here, whole with `pytest -m slow`."""

import base64

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("jupytext")

from make_notebooks import NAMES, NOTEBOOKS, execute, source  # noqa: E402

SHORT = {  # what is put behind the cell of parameters
    "bandit": "STEPS, SESSIONS = 20, 12",
    "replica": "STEPS = 3",
    "hydrology": "STEPS, YEARS = 2, 4",
    "gates": "ORDER_STEPS, TEXT_STEPS = 2, 2",
}
LONG = ("gates", "gradients")  # minutes of compiling
NEEDS = {"replica": ("torch", "keras")}
PICTURE = 60_000  # bytes


def cells(notebook):
    return [(cell.cell_type, cell.source, cell.metadata.get("tags")) for cell in notebook.cells]


def pictures(cell):
    return [
        base64.b64decode(output.data["image/png"]) for output in cell.outputs if "image/png" in output.get("data", ())
    ]


def run(name, short=None):
    for package in NEEDS.get(name, ()):
        pytest.importorskip(package)
    notebook = source(name)
    if short:
        at = next(n for n, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ()))
        notebook.cells.insert(at + 1, nbformat.v4.new_code_cell(short))
    execute(notebook)
    assert any(output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_has_the_cells_of_its_source_and_small_outputs(name):
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    assert cells(notebook) == cells(source(name)), f"python tests/make_notebooks.py {name}"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert all(len(picture) < PICTURE for cell in code for picture in pictures(cell))


def test_every_notebook_has_a_source():
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == NAMES


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in LONG else ()) for n in NAMES])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the notebook's own client
def test_it_runs(name):
    run(name, SHORT.get(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SHORT))
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_it_runs_whole(name):
    run(name)
