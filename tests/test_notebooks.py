"""The notebooks run from start to end: shortened here, as they stand with `pytest -m slow`."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
SHORT = {  # what is put behind the cell of parameters
    "variants": 'STEPS, SEEDS, NAMES = 5, 2, ["vanilla", "cifg"]',
    "replica": "STEPS = 3",
}
NEEDS = {"replica": ("torch", "keras")}


def run(name, short):
    for package in NEEDS.get(name, ()):
        pytest.importorskip(package)
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    if short:
        at = next(n for n, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ()))
        notebook.cells.insert(at + 1, nbformat.v4.new_code_cell(SHORT[name]))
    nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": NOTEBOOKS}}).execute()
    assert any(output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs)


@pytest.mark.parametrize("name", sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")))
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the notebook's own client
def test_shortened(name):
    run(name, short=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")))
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_as_they_stand(name):
    run(name, short=False)
