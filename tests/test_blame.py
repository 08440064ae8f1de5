"""The first array that is not finite is the one that was made so."""

import jax
import numpy as np
import pytest
from training import config, lines, write_sequences

from lstmjax.data import batch_rows
from lstmjax.training import resume, train
from lstmjax.training.blame import blame, first_bad
from lstmjax.training.finite import Diverged
from lstmjax.training.plan import new_plan
from lstmjax.training.recipe import first_state, restored_form, run_key, saved_form

pytestmark = pytest.mark.usefixtures("promotion", "no_curves")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_sequences(folder / "a.npz", target="number", ragged=False)
    return folder


@pytest.fixture(scope="module", params=[False, True], ids=["forward", "both directions"])
def plan(folder, request):
    with jax.numpy_dtype_promotion("standard"):
        data = {"source": str(folder / "a.npz"), "normalize": "none", "normalize_targets": "none"}
        model = {"layers": 2, "bidirectional": request.param}
        return new_plan(config(data=data, model=model, loss={"name": "linear"}))


def ready(plan):
    state = first_state(jax.random.key(0), recipe=plan.recipe, about=plan.about)
    return restored_form(saved_form(state)), plan.batches.draw(seed=0, step=0)


def changed(state, path, value):
    """The state with one number of a parameter replaced."""
    names = path.split(".")
    leaves, tree = jax.tree.flatten_with_path(state.params)
    found = []
    for keys, leaf in leaves:
        array = np.array(leaf)
        if jax.tree_util.keystr(keys, simple=True, separator=".") == ".".join(names):
            array[value[0]] = value[1]
        found.append(array)
    return state._replace(params=jax.tree.unflatten(tree, found))


def said(plan, state, batch):
    return blame(state, batch, jax.random.fold_in(run_key(0), 0), plan.recipe)


def test_a_gate_at_a_step_is_named(plan):
    state, batch = ready(plan)
    x = np.zeros_like(batch.x)
    x[5, 3, 1] = 100.0
    both = isinstance(state.params.layers[0], tuple) and hasattr(state.params.layers[0], "reverse")
    path = "layers.0.reverse.w_x" if both else "layers.0.w_x"
    state = changed(state, path, ((1, 1, 2), 1e37))  # input 1, forget gate, unit 2: its product overflows
    words = said(plan, state, batch._replace(x=x))
    of = "the reverse direction of layer 0" if both else "layer 0"
    assert words == (
        f"the pre-activation of the forget gate of unit 2 at time step 3 of sequence 5 of the batch in {of}"
    )


def test_a_parameter_the_input_the_loss_and_a_gradient_are_named(plan):
    state, batch = ready(plan)
    assert said(plan, changed(state, "head.b", (0, np.nan)), batch) == "the parameter head.b"
    x = np.array(batch.x)
    x[2, 4, 0] = np.inf
    assert said(plan, state, batch._replace(x=x)) == "the input, feature 0 at time step 4 of sequence 2 of the batch"
    y = np.array(batch.y)
    y[1] = 1e30
    assert said(plan, state, batch._replace(y=y)).startswith("the loss itself, of logits of size ")
    assert said(plan, changed(state, "head.b", (0, 3e38)), batch).startswith("the loss itself, of logits of size 3e+38")


def test_steps_are_repeated_up_to_the_bad_one(plan):
    state, _ = ready(plan)

    def draw(step):
        batch = plan.batches.draw(seed=0, step=step)
        return batch if step < 3 else batch._replace(y=np.full_like(batch.y, 1e30))

    step, words, before = first_bad(state, 6, draw, run_key(0), plan.recipe)
    assert (step, int(before.step)) == (4, 3)
    assert words.startswith("the loss itself")
    assert first_bad(state, 3, draw, run_key(0), plan.recipe) is None


def test_a_run_that_diverges_says_where_and_keeps_the_state_before(folder, tmp_path):
    x, y, _ = write_sequences(tmp_path / "a.npz", target="number", ragged=False, n=64)
    y[batch_rows(64, 8, seed=0, step=5)[0]] = 1e30  # its square is infinite in float32
    np.savez(tmp_path / "a.npz", x=x, y=y)
    data = {"source": str(tmp_path / "a.npz"), "validation": str(folder / "a.npz"), "normalize_targets": "none"}
    settings = config(data=data, loss={"name": "linear"}, steps=8, evaluate_every=2)
    with pytest.raises(Diverged, match="The first NaN or infinity was, at step 6, in the loss itself, of log") as error:
        train(settings, tmp_path / "run", quiet=True)
    saved = [int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir() if path.name.isdecimal()]
    assert sorted(saved)[-2:] == [4, 5]
    assert len(lines(tmp_path / "run")) == 2
    assert (tmp_path / "run" / "diverged.txt").read_text("utf-8") == f"{error.value}\n"
    with pytest.raises(Diverged, match="at step 6; "):
        resume(tmp_path / "run", quiet=True)
