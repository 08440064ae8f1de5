"""Makes the notebooks of their sources: `python tests/make_notebooks.py [name ...]`, without a name all.

The source of `notebooks/NAME.ipynb` is `notebooks/NAME.py`, cells between lines of `# %%` (jupytext's
percent format). Change the source, run this, commit both; `test_notebooks.py` compares their cells.
"""

import base64
import io
import sys
from pathlib import Path

import jupytext
import nbclient
import nbformat
from PIL import Image

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
NAMES = sorted(path.stem for path in NOTEBOOKS.glob("*.py"))
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def source(name):
    """The notebook without outputs, as its source has it."""
    notebook = jupytext.read(NOTEBOOKS / f"{name}.py", fmt="py:percent")
    notebook.metadata = METADATA
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # jupytext draws them at random
    return notebook


def execute(notebook):
    """Runs all cells in the folder of the notebooks, and leaves the outputs in them."""
    client = nbclient.NotebookClient(
        notebook, timeout=900, record_timing=False, coalesce_streams=True, resources={"metadata": {"path": NOTEBOOKS}}
    )
    client.execute()
    return notebook


def with_palettes(notebook):
    """Its pictures in 256 colours, a third of the size: a repository keeps every version."""
    for output in (output for cell in notebook.cells for output in cell.get("outputs", ())):
        if "image/png" in output.get("data", ()):
            picture = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
            small = io.BytesIO()
            picture.convert("RGB").quantize(256).save(small, "png", optimize=True)
            output.data["image/png"] = base64.b64encode(small.getvalue()).decode()
    return notebook


if __name__ == "__main__":
    for name in sys.argv[1:] or NAMES:
        notebook = with_palettes(execute(source(name)))
        notebook.metadata = METADATA  # the kernel adds its version
        nbformat.write(notebook, NOTEBOOKS / f"{name}.ipynb")
        print(f"notebooks/{name}.ipynb")
