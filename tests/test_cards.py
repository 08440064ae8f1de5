"""The replica cards themselves, and those of papers: what they say of our rows, looked for in our rows."""

from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recipes import B, H, I, P, T, all_notes, cook, note_of
from tolerances import assert_close

from lstmjax import (
    CELLS,
    PRESETS,
    RecurrentDropout,
    Zoneout,
    cell_step,
    init_params,
    lstm,
    stacked,
    tensorflow_lite_cell,
)
from lstmjax.convert import LAYOUTS
from lstmjax.frameworks.base.card import ADAM
from lstmjax.published import GREFF
from lstmjax.replica import CARDS, cards_as_markdown
from lstmjax.replica.cards import PAPERS
from lstmjax.training.optimizers import RULES

PAGE = Path(__file__).parent.parent / "docs" / "replica-cards.md"


def test_the_page_is_made_of_the_table():
    remake = 'python -c "from lstmjax.replica import cards_as_markdown as text; print(text(), end=str())"'
    assert PAGE.read_text(encoding="utf-8") == cards_as_markdown(), f"{remake} > docs/replica-cards.md"


def test_a_card_is_read_as_text():
    text = str(CARDS["haiku"])
    assert text.startswith("haiku: haiku.LSTM\n  source          haiku/_src/recurrent.py, Haiku 0.0.17\n")
    assert '  cell            CELLS["vanilla"]\n  gates           i, g, f, o, weights [N, 4H]\n' in text
    assert "  forget bias     1, added at run time and not stored; here it is stored\n" in text
    assert "  dropout         none\n" in text
    assert "optimizer.name: adam_keras" in str(CARDS["keras"])
    assert "cell            not in CELLS" in str(CARDS["hochreiter_1997"])


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_cards_point_to_rows_that_there_are(card):
    assert CARDS[card.name] is card
    assert card.layout is None or LAYOUTS[card.layout.name] is card.layout
    assert card.preset is None or PRESETS[card.preset.name] is card.preset
    tables = ((CELLS, card.cell), (RULES, card.adam))
    for table, name in tables:
        assert name is None or name in table
    assert ADAM.keys() <= RULES.keys()


@pytest.mark.parametrize("card", PAPERS, ids=lambda card: card.name)
def test_recipes_of_papers_run_as_they_stand(card):
    names = cook(card)
    params, xs, ys = (names[name] for name in ("params", "xs", "ys"))
    assert ys.shape == (B, T, P if card.cell == "projection" else H)
    assert jnp.isfinite(ys).all()
    cell = names.get("printed", card.cell or "no_forget_gate")
    as_said = lstm(params, xs, cell=cell)[1]  # refuses parameters of another cell
    assert (jnp.abs(as_said - ys).max() > 0.01) == bool(card.drops)


# What a paper drops


def test_recurrent_dropout_keeps_its_mask_for_all_steps_and_gates():
    drops = {drop.by: drop for drop in CARDS["gal_2016"].drops}
    assert drops["RecurrentDropout"][1:] == ("h", "sequence", False)
    fixed, scanned = RecurrentDropout(0.5).draw(jax.random.key(0), T, (jnp.zeros((B, H)), jnp.zeros((B, H))), None)
    assert fixed.shape == (B, H)
    assert scanned is None
    assert drops["keep"][1:] == ("inputs", "sequence", False)
    assert cook(CARDS["gal_2016"])["keep"].shape == (B, 1, I)


def test_zoneout_draws_its_masks_for_every_step():
    for n, name in enumerate("hc"):
        (drop,) = (drop for drop in CARDS["krueger_2017"].drops if drop.by == f"Zoneout({name}=)")
        assert drop.on.startswith(name)
        assert drop.mask == "step"
        state = jnp.zeros((B, H)), jnp.zeros((B, H))
        fixed, scanned = Zoneout(**{name: 0.5}).draw(jax.random.key(0), T, state, None)
        assert fixed is None
        assert scanned[n].shape == (T, B, H)
        assert scanned[1 - n] is None
        assert len({mask.tobytes() for mask in np.asarray(scanned[n])}) == T


def test_every_dropout_of_a_paper_is_looked_at():
    assert {card.name for card in PAPERS if card.drops} == {"gal_2016", "krueger_2017"}


# What is easily missed

NOTES = {}
note = partial(note_of, NOTES)


def test_every_note_has_a_test():
    assert NOTES.keys() == all_notes(PAPERS)


@pytest.mark.thorough
@pytest.mark.parametrize(("card", "name"), NOTES)
def test_notes_are_true(card, name):
    NOTES[card, name]()


@cache
def steps_of(cell):
    """Random parameters of a cell, inputs `[B, T, I]`, and everything that the cell computes of them."""
    keys, width = jax.random.split(jax.random.key(0), 3), P if cell == "projection" else None
    params = init_params(keys[0], I, H, cell=cell, init="equinox", projection_size=width)
    params = jax.tree.map(lambda a: a + 0.4 * jax.random.normal(keys[1], a.shape), params)
    xs = jax.random.normal(keys[2], (B, T, I))
    return params, xs, lstm(params, xs, cell=cell, emit="step")[1]


def before(a):
    """What stood at the step before each step: zeros, then all but the last."""
    return jnp.pad(a, ((0, 0), (1, 0), (0, 0)))[:, :-1]


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def slope(cell, of, by):
    """Gives d `of` / d `by` in one step, `by` "h" or "c" of the step before, from a random state."""
    params, xs, _ = steps_of(cell)
    state = {name: jax.random.normal(jax.random.key(n), (H,)) for n, name in enumerate("hc")}

    def value(given):
        given = state | {by: given}
        return getattr(cell_step(params, (given["h"], given["c"]), xs[0, 0], cell=cell, emit="step")[1], of)

    return jax.jit(jax.jacobian(value))(state[by])


@note("hochreiter_1997", "forget gate")
def c_is_only_added_to():
    _, _, steps = steps_of("no_forget_gate")
    assert_close(steps.c, before(steps.c) + steps.i * steps.g)
    assert "f" in CELLS["vanilla"].blocks
    assert CARDS["hochreiter_1997"].cell is None


@note("hochreiter_1997", "ranges")
def no_row_has_the_functions_of_1997():
    z = np.linspace(-4, 4, 17, dtype=np.float32)
    g, h = 4 / (1 + np.exp(-z)) - 2, 2 / (1 + np.exp(-z)) - 1
    np.testing.assert_allclose(g, 2 * np.tanh(z / 2), atol=1e-6)
    np.testing.assert_allclose(h, np.tanh(z / 2), atol=1e-6)
    for row in CELLS.values():
        assert np.abs(row.g(z) - g).max() > 0.1
        assert np.abs(row.squash(z) - h).max() > 0.1


@note("hochreiter_1997", "blocks")
def gates_are_shared_and_see_each_other():
    """The printed numbers of weights of experiment 1: blocks of s cells and two gates, 7 symbols in and out."""

    def weights(blocks, size, inputs=7, outputs=7):
        cells, gates = blocks * size, 2 * blocks
        seen = inputs + cells + gates
        return cells * seen + gates * (seen + 1) + outputs * cells

    assert (weights(4, 1), weights(3, 2)) == (264, 276)
    row = CELLS["no_forget_gate"]
    assert row.feeds == ()
    assert count(init_params(jax.random.key(0), 7, 4, cell=row)) + 7 * 4 == 172


@note("hochreiter_1997", "gradient")
def errors_go_back_through_h():
    assert jnp.abs(slope("no_forget_gate", "c", "h")).max() > 0.01


@note("gers_2000_forget", "forget gate")
def f_of_1_forgets_nothing():
    params, xs, steps = steps_of("vanilla")
    assert_close(steps.c, steps.f * before(steps.c) + steps.i * steps.g)
    open_gate = params._replace(b=params.b.at[1].set(60.0))
    without = jax.tree.map(lambda a: jnp.delete(a, 1, axis=a.ndim - 2), params)
    assert_close(lstm(open_gate, xs), lstm(without, xs, cell="no_forget_gate"))


@note("gers_2000_forget", "blocks")
def twelve_gates_serve_eight_cells():
    cells, gates, outputs = 8 * (7 + 8), 12 * (7 + 8 + 1), 7 * (7 + 8 + 1)
    assert (cells + gates, cells + gates + outputs) == (312, 424)
    assert count(init_params(jax.random.key(0), 7, 8)) == 512


@note("gers_2000_peepholes", "new c")
def the_output_gate_sees_the_new_c():
    params, xs, steps = steps_of("peephole")
    z = jnp.einsum("bti,igh->gbth", xs, params.w_x) + jnp.einsum("bth,hgk->gbtk", before(steps.h), params.w_h)
    z = z + params.b[:, None, None]
    for block, w_c, z_k, c in zip((0, 1, 3), params.w_c, (steps.z_i, steps.z_f, steps.z_o), "oon", strict=True):
        seen = steps.c if c == "n" else before(steps.c)
        assert_close(z_k, z[block] + w_c[None, None] * seen, gradient=True)


@note("gers_2000_peepholes", "order")
def peepholes_are_i_f_o():
    assert CELLS["peephole"].peepholes == ("i", "f", "o")
    w_c = init_params(jax.random.key(0), I, H, cell="peephole").w_c
    assert w_c.shape == (3, H)
    assert not w_c.any()


@note("gers_2000_peepholes", "gradient")
def errors_go_through_peepholes():
    assert jnp.abs(slope("peephole", "z_i", "c")).max() > 0.01
    assert not slope("vanilla", "z_i", "c").any()


@note("sak_2014", "peepholes")
def the_projected_cell_has_peepholes():
    assert steps_of("projection")[0].w_c.shape == (3, H)


@note("sak_2014", "projection")
def h_is_a_product_and_nothing_more():
    params, _, steps = steps_of("projection")
    assert params.w_h.shape == (P, 4, H)
    assert_close(steps.h, steps.m @ params.w_p)


@note("jozefowicz_2015", "output gate")
def o_is_a_tanh_in_print():
    card = CARDS["jozefowicz_2015"]
    names, row = cook(card), CELLS[card.cell]
    assert row.o is jax.lax.logistic
    _, steps = lstm(names["params"], names["xs"], cell=names["printed"], emit="step")
    assert_close(steps.o, jnp.tanh(steps.z_o))
    assert replace(names["printed"], name=row.name, o=row.o) == row


@note("jozefowicz_2015", "forget bias")
def the_default_forget_bias_is_1():
    for params in (cook(CARDS["jozefowicz_2015"])["params"], init_params(jax.random.key(0), I, H)):
        assert (params.gate("f").b == 1).all()
        assert params.b_h is None


@note("ba_2016", "together")
def a_gate_changes_the_others():
    params, xs, steps = steps_of("layer_norm")
    for field in ("w_x", "w_h"):
        louder = params._replace(**{field: getattr(params, field).at[:, 1].multiply(3.0)})
        changed = lstm(louder, xs, cell="layer_norm", emit="step")[1]
        assert jnp.abs(changed.z_i - steps.z_i).max() > 0.01


@note("ba_2016", "raw c")
def only_h_sees_the_normalised_c():
    for cell, raw in (("layer_norm", True), ("layer_norm_carried", False)):
        _, _, steps = steps_of(cell)
        distance = jnp.abs(steps.c - (steps.f * before(steps.c) + steps.i * steps.g)).max()
        assert distance < 1e-6 if raw else distance > 0.1


@note("ba_2016", "epsilon")
def epsilon_stands_under_the_root():
    row, carried = CELLS["layer_norm"], CELLS["layer_norm_carried"]
    assert {row.join.epsilon, row.inside.epsilon} == {1e-5}
    assert {carried.join.epsilon, carried.carry.epsilon} == {1e-3}
    params = init_params(jax.random.key(0), I, 2, cell=row)
    small = jnp.array([1e-3, -1e-3])
    assert_close(row.inside(params, small), small / jnp.sqrt(1e-6 + 1e-5))


@note("ba_2016", "shifts")
def every_ln_has_a_shift_beside_b():
    params, _, _ = steps_of("layer_norm")
    assert all(a is not None for a in (*params.norm, params.b))


@note("tensorflow_lite", "by gate")
def a_gate_does_not_change_the_others_and_b_is_added_after():
    params, xs, steps = steps_of("layer_norm_per_gate")
    louder = params._replace(w_x=params.w_x.at[:, 1].set(params.w_x[:, 2]), b=params.b.at[0].add(2.0))
    changed = lstm(louder, xs[:, :1], cell="layer_norm_per_gate", emit="step")[1]
    first = jax.tree.map(lambda a: a[:, :1], steps)
    assert jnp.abs(changed.z_f - first.z_f).max() > 0.01
    assert_close(changed.z_g, first.z_g)
    assert_close(changed.z_i, first.z_i + 2.0)


@note("tensorflow_lite", "epsilon")
def the_epsilon_of_tensorflow_lite_stands_under_the_root():
    row = CELLS["layer_norm_per_gate"]
    assert row.normalise.epsilon == 1e-8
    params = init_params(jax.random.key(0), I, 2, cell=row)
    small = jnp.array([1e-4, -1e-4])
    assert_close(row.normalise(params, 0, small), small / jnp.sqrt(1e-8 + 1e-8))


@note("tensorflow_lite", "other forms")
def every_form_is_a_cell():
    for peephole, layer_norm in ((False, False), (True, False), (False, True), (True, True)):
        row = tensorflow_lite_cell(cifg=True, peephole=peephole, layer_norm=layer_norm, cell_clip=3.0, proj_clip=2.0)
        assert ("w_c" in row.has, "gain" in row.has) == (peephole, layer_norm)
        assert (row.carry.limit, row.limit_h.limit) == (3.0, 2.0)


@note("tensorflow_lite", "coupled")
def i_is_1_minus_f():
    params, xs, _ = steps_of("cifg_mirror")
    steps = lstm(params, xs, cell=tensorflow_lite_cell(cifg=True, peephole=True), emit="step")[1]
    assert_close(steps.i, 1 - steps.f)


@note("tensorflow_lite", "limits")
def o_sees_the_limited_c_and_h_is_limited_with_its_bias():
    params = init_params(jax.random.key(0), I, H, cell="peephole", projection_size=P, projection_bias=True)
    params = params._replace(w_c=params.w_c + 1.0, b_p=params.b_p + 0.5)
    xs = 5 * jax.random.normal(jax.random.key(1), (B, T, I))
    limited, free = (
        lstm(params, xs[:, :1], cell=tensorflow_lite_cell(peephole=True, **limits), emit="step")[1]
        for limits in ({"cell_clip": 0.1, "proj_clip": 0.5}, {})
    )
    assert_close(limited.z_o, free.z_o - free.c + jnp.clip(free.c, -0.1, 0.1))
    assert_close(limited.h, jnp.clip(limited.m @ params.w_p + 0.5, -0.5, 0.5))


@note("gal_2016", "between layers")
def dropout_between_layers_is_new_at_every_step():
    layers = [init_params(jax.random.key(n), i, H, forget_bias=-60.0) for n, i in enumerate((I, H))]
    layers = tuple(layer._replace(w_h=0 * layer.w_h) for layer in layers)  # a step remembers nothing
    xs = jnp.broadcast_to(jnp.array([1.0, -2.0]), (T, I))  # the same at all steps
    _, ys = stacked(layers, xs, dropout=0.5, key=jax.random.key(0))
    assert len({y.tobytes() for y in np.asarray(ys)}) > 2


@note("greff_2017", "vanilla")
def its_vanilla_is_peephole():
    assert CELLS["np"] is CELLS["vanilla"]
    bare = replace(CELLS["peephole"], name=CELLS["np"].name, paper=CELLS["np"].paper, has=())
    assert bare == CELLS["np"]


@note("greff_2017", "variants")
def its_variants_are_rows():
    (text,) = (note.text for note in CARDS["greff_2017"].notes if note.name == "variants")
    names = [word.strip(",").lower() for word in text.split(" are rows")[0].split() if word != "and"]
    assert len(names) == 8
    assert {CELLS[name].paper for name in names if name != "np"} == {GREFF}


@note("greff_2017", "coupled")
def f_is_1_minus_i():
    for cell, own in (("cifg", "i"), ("cifg_mirror", "f")):
        _, _, steps = steps_of(cell)
        assert_close(steps.f, 1 - steps.i)
        assert set("if") & set(CELLS[cell].blocks) == {own}


@note("greff_2017", "fgr")
def gates_are_fed_back():
    params, xs, _ = steps_of("fgr")
    assert params.w_r.size == 9 * H * H
    state, steps = lstm(params, xs, cell="fgr", emit="step")
    assert_close(state, tuple(getattr(steps, name)[:, -1] for name in ("h", "c", "i", "f", "o")))


@note("krueger_2017", "new c")
def h_comes_before_the_zoneout_of_c():
    params, xs, steps = steps_of("vanilla")
    _, zoned = lstm(params, xs[:, :1], wrappers=(Zoneout(c=0.9),), emit="step")
    assert_close(zoned.h[:, 0], steps.h[:, 0])
    assert_close(zoned.c[:, 0], (1 - 0.9) * steps.c[:, 0])


@note("krueger_2017", "evaluation")
def without_a_key_the_state_is_the_expected_one():
    old = tuple(jax.random.normal(jax.random.key(n), (B, H)) for n in range(2))
    params, xs, _ = steps_of("vanilla")
    (h, c), _ = lstm(params, xs[:, :1], old)
    new, _ = lstm(params, xs[:, :1], old, wrappers=(Zoneout(h=0.3, c=0.6),))
    assert_close(new, (0.3 * old[0] + 0.7 * h, 0.6 * old[1] + 0.4 * c))
