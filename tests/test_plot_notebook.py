"""Parameters, states and traces as a notebook shows them, in a notebook that is run."""

import base64
import html
import re
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pictures import NOTHING, gates

from lstmjax import Bidirectional, LSTMParams, Norms, init_network, plot

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
treescope = pytest.importorskip("treescope")

# treescope looks at every name in NumPy when it first meets it, the old ones too.
pytestmark = pytest.mark.filterwarnings("ignore:The chararray class is deprecated:DeprecationWarning")

CELLS = {
    "set up": "import numpy as np\nfrom lstmjax import LSTMParams, Step, plot\n"
    "f = np.random.default_rng(0).uniform(0, 1, (7, 5)).astype(np.float32)\n"
    "step = Step(*(None,) * 11)._replace(f=f)\nparams = LSTMParams(f.reshape(7, 1, 5), f[:5, None])",
    "figure": "plot.gates(step, fields=('f',))",
    "shown": "plot.show(step)",
    "bare": "params",
    "turned on": "plot.rich()",
    "rich": "params",
    "state": "import sys; sorted({'matplotlib.pyplot'} & set(sys.modules))",
    "inline": "%matplotlib inline\nplot.gates(step, fields=('f',))",
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the notebook's own client
def test_a_notebook_shows_figures_by_themselves_and_trees_when_asked():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS.values()])
    nbclient.NotebookClient(notebook, timeout=120).execute()
    shown = {
        name: [output["data"] for output in cell.outputs if "data" in output]
        for name, cell in zip(CELLS, notebook.cells, strict=True)
    }
    assert shown["set up"] == shown["turned on"] == []
    for name in ("figure", "inline"):
        (data,) = shown[name]
        assert data["image/png"].startswith("iVBORw0KGgo"), name
    assert "treescope" in shown["shown"][0]["text/html"]
    assert shown["shown"][0]["text/plain"].startswith("Step\n  f  (T 7, H 5)  float32")
    assert "text/html" not in shown["bare"][0]
    assert "treescope" in shown["rich"][0]["text/html"]
    assert shown["state"][0]["text/plain"] == "[]"


def test_the_summary_names_axes_counts_parameters_and_says_the_range():
    params = init_network(jax.random.key(0), 5, 3, 2, layers=2, bidirectional=True, projection_size=4)
    lines = plot.summary(params).splitlines()
    assert lines[0] == f"NetworkParams, {sum(leaf.size for leaf in jax.tree.leaves(params)):,} parameters"
    assert lines[1].startswith("  layers: 2 layers, ")
    assert lines[2].startswith("    [0]: Bidirectional, ")
    w_x = params.layers[0].forward.w_x
    assert lines[3].startswith("      forward: LSTMParams: 5 features into 3 units, ")
    assert f"w_x  (I 5, G 4, H 3)  float32  {w_x.min():.3g} to {w_x.max():.3g}, mean {w_x.mean():.3g}" in lines[4]
    assert "w_h  (P 4, G 4, H 3)" in lines[5]
    assert "w_p  (H 3, P 4)" in lines[7]
    assert "(P 8, O 2)" in lines[-2]


def test_the_summary_of_what_is_rarer():
    norm = Norms(jnp.ones((4, 3)), jnp.ones((4, 3)), jnp.ones(3))
    said = plot.summary(LSTMParams(jnp.ones((2, 4, 3)), jnp.ones((3, 4, 3)), w_c=jnp.ones((3, 3)), norm=norm))
    assert "w_c  (K 3, H 3)" in said
    assert "norm: Norms, 27 parameters" in said
    assert "x  (G 4, H 3)" in said
    h, c = jnp.ones((6, 2)), jnp.array([[1.0, jnp.nan, 3.0]] * 6)
    assert plot.summary((h, c)).splitlines()[1:] == [
        "  h  (B 6, P 2)  float32  1 to 1, mean 1 ± 0",
        "  c  (B 6, H 3)  float32  1 to 3, mean 2 ± 1, 6 not finite",
    ]
    assert plot.summary(np.array([3 + 4j, 0])) == "(2)  complex128  magnitudes 0 to 5, mean 2.5 ± 2.5"
    assert plot.summary(jnp.array([True])) == "(1)  bool"
    assert plot.summary(jax.random.key(0)) == "()  key<fry>"
    assert plot.summary(jnp.arange(3)) == "(3)  int32  0 to 2, mean 1 ± 0.82"
    assert plot.summary({"a": jnp.zeros((0, 2)), "b": None, "c": "text"}).splitlines() == [
        "dict",
        "  a  (0, 2)  float32  empty",
        "  b: None",
        "  c: 'text'",
    ]


def unpacked(html):
    """What treescope packs into its page, as text."""
    packed = max(re.findall(r"[A-Za-z0-9+/=]{200,}", html), key=len)
    return zlib.decompress(base64.b64decode(packed)).decode()


def test_the_page_holds_what_the_summary_says_and_treescope_stays_as_it_was():
    params = init_network(jax.random.key(0), 5, 3, 2)
    before = treescope.active_renderer.get()
    page = unpacked(plot.show(params)._repr_html_())
    assert treescope.active_renderer.get() is before
    assert LSTMParams not in treescope.type_registries.TREESCOPE_HANDLER_REGISTRY
    assert not hasattr(LSTMParams, "_repr_html_")
    for line in plot.summary(params).splitlines():
        for part in line.strip().split("  "):
            assert html.escape(part.split(": ", 1)[-1].strip()) in page, part


def test_large_arrays_are_averaged_to_a_small_picture():
    step = NOTHING._replace(f=np.random.default_rng(0).uniform(0, 1, (2000, 700)).astype(np.float32))
    assert len(plot.show(step)._repr_html_()) < 150_000


@pytest.mark.parametrize(
    "tree",
    [
        (jnp.ones(3), jnp.ones(3)),
        ((jnp.ones((2, 3)), jnp.ones((2, 3))), (jnp.ones((2, 3)), jnp.ones((2, 3)))),
        Bidirectional(*[gates(np.random.default_rng(0))] * 2),
        {"a": [LSTMParams(jnp.ones((2, 4, 3)), jnp.ones((3, 4, 3), jnp.bfloat16))], "n": jnp.arange(2)},
        jax.tree.map(lambda a: a[0, 0], gates(np.random.default_rng(0))),
    ],
)
def test_any_tree_of_ours_is_shown(tree):
    assert "treescope" in plot.show(tree)._repr_html_()


def test_outside_of_a_notebook_rich_says_so():
    with pytest.raises(RuntimeError, match=r"rich\(\) is for notebooks, and this is none. Use print"):
        plot.rich()
