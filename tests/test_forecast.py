"""Forecasters: nothing of the future reaches them, stepping equals the pass over known targets, learning works."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from lstmjax.forecast import (
    LIKELIHOODS,
    Design,
    Rolling,
    SeriesError,
    Training,
    backtest,
    fit_forecaster,
    fitting,
    from_arrays,
    network,
    windows,
)
from lstmjax.forecast.fitting import _train
from lstmjax.forecast.forecaster import Forecaster, _forecast, columns_of
from lstmjax.forecast.likelihoods import SMALLEST
from lstmjax.forecast.network import init_forecaster, normal_of
from lstmjax.forecast.series import SeriesSet
from lstmjax.forecast.windows import coarse, draw, on_device, seasonal_pattern, training_origins

S, T, HORIZON, CONTEXT, SEASON = 5, 29, 3, 8, 4
FORMS = ["autoregressive", "handoff"]

# Compiled, as they are in training and forecasting: run as they stand, each operation is a program to compile.
cut = jax.jit(windows.cut, static_argnames="design")
outputs = jax.jit(network.outputs, static_argnames="design")
sample = jax.jit(network.sample, static_argnames=("design", "samples"))
window_loss = jax.jit(fitting.window_loss, static_argnames=("design", "loss_on"))


def design_of(**fields):
    defaults = {"horizon": HORIZON, "context": CONTEXT, "season": SEASON, "hidden_size": 6, "lags": (1, 4)}
    return Design(**(defaults | fields))


def series_of(count=S, steps=T, covariates=True, counts=False):
    rng = np.random.default_rng(7)
    lengths = steps - np.arange(count)
    targets = [rng.gamma(4.0, 2.0, n) + 3.0 * np.sin(np.arange(n) * np.pi / 2) + 3.5 for n in lengths]
    if counts:
        targets = [np.round(target) for target in targets]
    plain = from_arrays(targets, season=SEASON)
    if not covariates:
        return plain
    rows = len(plain.target) + count * HORIZON
    longer = plain.extended(HORIZON)
    return SeriesSet(
        names=longer.names, target=longer.target, starts=longer.starts, ends=longer.ends, season=SEASON,
        past=rng.normal(5.0, 2.0, (rows, 2)), known=rng.normal(-3.0, 4.0, (rows, 1)),
        numbers=rng.normal(0.0, 9.0, (count, 2)), categories=np.arange(count)[:, None] % 3,
        past_names=("a", "b"), known_names=("c",), number_names=("d", "e"), levels=(("f", ("x", "y", "z")),),
    )  # fmt: skip


def untrained(design, series, scale=1.0):
    params = init_forecaster(jax.random.key(0), design, series)
    head = params.head._replace(w=scale * jax.random.normal(jax.random.key(1), params.head.w.shape))
    params = params._replace(head=head)
    return Forecaster(params, design, normal_of(series), series.levels, columns=columns_of(series))


@pytest.mark.parametrize(
    ("form", "scaling", "base", "adjusted"),
    [
        ("autoregressive", "mean", "both", False),
        ("autoregressive", "log", "none", True),
        ("autoregressive", "standard", "seasonal", False),
        ("handoff", "standard", "both", False),
        ("handoff", "log1p", "last", True),
        ("handoff", "none", "seasonal", False),
    ],
)
def test_nothing_behind_the_origin_reaches_a_forecast(form, scaling, base, adjusted):
    series = series_of()
    design = design_of(form=form, scaling=scaling, base=base, seasonal_adjustment=adjusted, volatility=adjusted)
    origins = series.lengths - HORIZON
    poisoned_target, poisoned_past = series.target.copy(), series.past.copy()
    for start, stop, origin in zip(series.starts[:-1], series.starts[1:], origins, strict=True):
        poisoned_target[start + origin : stop] = np.nan
        poisoned_past[start + origin : stop] = np.nan
    poisoned = SeriesSet(**(vars(series) | {"target": poisoned_target, "past": poisoned_past}))
    extreme = SeriesSet(**(vars(series) | {"target": np.where(np.isnan(poisoned_target), 1e30, poisoned_target)}))
    forecaster = untrained(design, series, 0.1)
    clean = forecaster.forecast(series, origins=origins, samples=4).samples
    assert np.isfinite(clean).all()
    np.testing.assert_array_equal(clean, forecaster.forecast(poisoned, origins=origins, samples=4).samples)
    np.testing.assert_array_equal(clean, forecaster.forecast(extreme, origins=origins, samples=4).samples)


@pytest.mark.parametrize(
    ("base", "adjusted"), [("none", False), ("last", False), ("seasonal", False), ("both", False), ("last", True)]
)
def test_stepping_equals_the_pass_over_known_targets(base, adjusted):
    """With a head without noise, a path is what the teacher-forced pass returns when it is fed the path."""
    series = series_of()
    design = design_of(likelihood="point", base=base, seasonal_adjustment=adjusted, volatility=adjusted)
    forecaster = untrained(design, series)
    origins = series.lengths
    path = forecaster.forecast(series, samples=1).samples[:, 0]
    filled = series.extended(HORIZON)
    target = filled.target.copy()
    for start, origin, values in zip(filled.starts[:-1], origins, path, strict=True):
        target[start + origin : start + origin + HORIZON] = values
    known = SeriesSet(**(vars(filled) | {"target": target}))
    window = cut(on_device(known, design), jnp.arange(S), jnp.asarray(origins, jnp.int32), design)
    out = outputs(forecaster.params, window, design, forecaster.normal)[:, -HORIZON:, 0]
    out = out + window.pattern[:, -HORIZON:]
    np.testing.assert_allclose(out * window.scale[:, None] + window.location[:, None], path, rtol=2e-5, atol=2e-5)


@pytest.mark.usefixtures("promotion")
@pytest.mark.parametrize(
    ("form", "likelihood"),
    [
        *(
            pytest.param("handoff", name, marks=() if name in ("quantile", "mixture") else pytest.mark.slow)
            for name in LIKELIHOODS
        ),
        ("autoregressive", "student_t"),
        ("autoregressive", "negative_binomial"),
    ],
)
def test_every_head_learns_and_samples(form, likelihood):
    support = LIKELIHOODS[likelihood].support
    design = design_of(form=form, likelihood=likelihood)
    series = series_of(counts=support == "count")
    forecaster = fit_forecaster(series, design, Training(steps=100, batch_size=8, learning_rate=0.01))
    assert forecaster.losses[-1] < forecaster.losses[0]
    drawn = forecaster.forecast(series, samples=6).samples
    assert drawn.shape == (S, 6, HORIZON)
    assert np.isfinite(drawn).all()
    if support == "count":
        np.testing.assert_array_equal(drawn, np.round(drawn))


@pytest.mark.usefixtures("promotion")
@pytest.mark.parametrize("form", FORMS)
def test_short_gappy_and_constant_series_are_finite(form):
    targets = [[1.0, 2.0], [0.0] * 20, [5.0, np.nan, np.nan, 4.0, np.nan, 6.0, 5.0], [1e-9] * 30, [1e9, 2e9, 3e9]]
    series, design = from_arrays(targets, season=SEASON), design_of(form=form)
    forecaster = fit_forecaster(series, design, Training(steps=50, batch_size=16))
    assert np.isfinite(forecaster.losses).all()
    assert np.isfinite(forecaster.forecast(series, samples=3).samples).all()


def test_windows_are_the_rows_around_the_origin():
    series, design = series_of(), design_of(scaling="standard")
    which, origins = np.asarray([3, 0, 1]), np.asarray([12, 2, 28])
    window = cut(on_device(series, design), jnp.asarray(which), jnp.asarray(origins), design)
    before = design.reach + CONTEXT
    for row, (s, origin) in enumerate(zip(which, origins, strict=True)):
        y = series.target[series.starts[s] : series.starts[s + 1]]
        known = y[max(origin - CONTEXT, 0) : origin]
        assert float(window.location[row] + window.reference[row]) == pytest.approx(known.mean(), rel=1e-5)
        assert float(window.scale[row]) == pytest.approx(known.std(), rel=1e-4)
        for k, step in enumerate(range(origin - before, origin + HORIZON)):
            there = 0 <= step < len(y) and not np.isnan(y[step])
            assert bool(window.observed[row, k]) == there
            if there:
                z = (y[step] - known.mean()) / known.std()
                assert float(window.target[row, k]) == pytest.approx(z, rel=1e-3, abs=1e-4)


def test_windows_are_drawn_alike_or_series_are():
    series, design = series_of(count=2, steps=60, covariates=False), design_of()
    short = series.subset([0]).cut(40)
    both = from_arrays([series.history(0), short.history(0)], season=SEASON)
    origins = training_origins(both, design, "windows")
    which, at = draw(jax.random.key(0), origins, 4000)
    share = float((which == 0).mean())
    counts = np.asarray(origins.last - origins.first + 1)
    assert share == pytest.approx(counts[0] / counts.sum(), abs=0.03)
    assert int(at[which == 1].max()) <= int(origins.last[1])
    which, _ = draw(jax.random.key(0), training_origins(both, design, "series"), 4000)
    assert float((which == 0).mean()) == pytest.approx(0.5, abs=0.03)
    larger = from_arrays([series.history(0), 30 * short.history(0)], season=SEASON)
    which, _ = draw(jax.random.key(0), training_origins(larger, design, "size"), 4000)
    sizes = counts * [np.abs(larger.history(s)).mean() for s in (0, 1)]
    assert float((which == 0).mean()) == pytest.approx(sizes[0] / sizes.sum(), abs=0.01)


@pytest.mark.parametrize("season", [4, 5])
def test_the_seasonal_pattern_is_that_of_a_classical_decomposition(season):
    """By loops in NumPy, with a gap; a series of noise alone has a small one, and one season none."""
    rng = np.random.default_rng(0)
    steps = 6 * season + 2
    y = 3.0 * rng.normal(size=season)[np.arange(steps) % season] + 0.1 * np.arange(steps) + rng.normal(size=steps)
    observed = np.arange(steps) != 7
    half, phases = season // 2, [[] for _ in range(season)]
    for t in range(half, steps - half):
        near = y[t - half : t + half + 1].copy()
        if season % 2 == 0:
            near[[0, -1]] /= 2
        if observed[t - half : t + half + 1].all():
            phases[(t - steps) % season].append(y[t] - near.sum() / season)
    mean = np.asarray([np.mean(phase) for phase in phases])
    count = sum(map(len, phases))
    noise = sum(((np.asarray(p) - np.mean(p)) ** 2).sum() for p in phases) / (count - season)
    shrink = max(1 - noise / (count / season) / (mean**2).mean(), 0)
    values = np.stack([np.where(observed, y, 0.0), np.where(np.arange(steps) < steps - season, 0.0, y)])
    known = np.stack([observed, np.arange(steps) >= steps - season])
    pattern = np.asarray(seasonal_pattern(jnp.asarray(values, jnp.float32), jnp.asarray(known), season))
    assert 0.5 < shrink < 1
    np.testing.assert_allclose(pattern[0], shrink * (mean - mean.mean()), rtol=2e-4, atol=1e-5)
    np.testing.assert_array_equal(pattern[1], 0.0)


@pytest.mark.parametrize(("season", "recent"), [(4, 4), (1, 2)])
def test_the_volatility_is_that_of_loops_over_known_changes(season, recent):
    rng = np.random.default_rng(8)
    series = from_arrays(
        [
            rng.normal(9.0, 2.0, 15),
            [5.0] * 15,
            [1.0, *[np.nan, 3.0] * 7],
            [*rng.normal(9.0, 2.0, 9), *[np.nan] * 5, 8.0],
        ]
    )
    design = design_of(season=season, volatility=True, scaling="log", context=8)
    window = cut(on_device(series, design), jnp.arange(4), jnp.full(4, 15), design)
    for s in range(4):
        logs = np.log(series.history(s))
        for k, steps in enumerate((recent, 8)):
            squares = [(logs[t] - logs[t - 1]) ** 2 for t in range(15 - steps, 15)]
            squares = [square for square in squares if not np.isnan(square)]
            expected = 0.5 * np.log(np.mean(squares) + 1e-6) + 2.0 if squares else 0.0
            assert window.volatility[s, k] == pytest.approx(expected, abs=2e-4)
    assert window.volatility[2].tolist() == [0.0, 0.0]


@pytest.mark.usefixtures("promotion")
def test_a_network_that_sees_volatility_tells_calm_series_from_wild_ones():
    rng = np.random.default_rng(9)
    sigma = np.repeat([0.02, 0.3], 8)
    series = from_arrays([10.0 * np.exp(np.cumsum(rng.normal(0.0, s, 60))) for s in sigma], season=SEASON)
    training = Training(steps=100, batch_size=32, learning_rate=0.02)  # after 200 it may know by the windows, too
    ratio = []
    for volatility in (False, True):
        forecaster = fit_forecaster(series, design_of(scaling="log", volatility=volatility), training)
        width = np.diff(np.log(forecaster.forecast(series, samples=200).quantiles([0.1, 0.9])[:, 0]))[:, 0]
        ratio.append(width[8:].mean() / width[:8].mean())
    assert ratio[1] > 5.0
    assert ratio[1] > ratio[0]


@pytest.mark.usefixtures("promotion")
@pytest.mark.parametrize("likelihood", ["gaussian", "student_t", "mixture"])
def test_gradients_are_finite_at_all_sizes_with_gaps(likelihood):
    """What stands in for a missing target is of the size of the series, and so are the gradients those of size 1."""
    rng = np.random.default_rng(0)
    y = np.where(rng.random(30) < 0.3, np.nan, rng.gamma(3.0, 2.0, 30))
    design = design_of(likelihood=likelihood)
    gradients = []
    for factor in (1.0, 1e-30, 1e30):
        series = from_arrays([factor * y], season=SEASON)
        params = init_forecaster(jax.random.key(0), design, series)
        table, normal = on_device(series, design), normal_of(series)
        batch = (jnp.zeros(4, jnp.int32), jnp.asarray([12, 20, 27, 29]))
        slopes = jax.grad(window_loss)(params, batch, None, table=table, design=design, normal=normal)
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))
        gradients.append(slopes.head.b)
    usual, *others = (np.abs(gradient).max() for gradient in gradients)
    assert max(others) < 10 * usual


@pytest.mark.usefixtures("promotion")
@pytest.mark.parametrize("loss_on", ["window", "horizon"])
def test_the_loss_is_the_mean_over_its_steps(loss_on):
    """With a head that says the same at each step, whatever it reads: by SciPy, of targets in units of the window."""
    series, design = series_of(covariates=False), design_of(likelihood="gaussian", scaling="standard")
    params = init_forecaster(jax.random.key(0), design, series)
    params = params._replace(head=params.head._replace(w=0 * params.head.w, b=jnp.asarray([0.3, 0.7])))
    table, normal = on_device(series, design), normal_of(series)
    batch = (jnp.asarray([1, 3]), jnp.asarray([14, 20]))
    loss = window_loss(params, batch, None, table=table, design=design, normal=normal, loss_on=loss_on)
    densities = []
    for s, origin in zip(*map(np.asarray, batch), strict=True):
        known = series.history(s)[origin - CONTEXT : origin]
        first = origin - (CONTEXT if loss_on == "window" else 0)
        y = series.history(s)[first : origin + HORIZON]
        deviation = np.log1p(np.exp(0.7)) + SMALLEST
        densities.append(norm.logpdf(y, known.mean() + 0.3 * known.std(), deviation * known.std()))
    assert float(loss) == pytest.approx(-np.mean(densities), rel=1e-4)


def test_a_part_of_a_window_without_a_name_is_refused():
    with pytest.raises(ValueError, match=r"loss_on is 'context', expected one of 'window', 'horizon'"):
        Training(loss_on="context")


@pytest.mark.usefixtures("promotion")
def test_a_known_pattern_is_forecast_better_than_by_the_baselines():
    rng = np.random.default_rng(0)
    pattern = np.asarray([4.0, 9.0, 2.0, 6.0])
    targets = [(pattern[(np.arange(60) + k) % 4] + 0.1 * np.arange(60)) * rng.uniform(1, 100) for k in range(12)]
    series = from_arrays(targets, season=SEASON)
    design = design_of(hidden_size=16, base="seasonal", lags=(1, 4, 5))
    forecaster = fit_forecaster(series.cut(HORIZON + 2), design, Training(steps=300, learning_rate=0.01))
    measures = backtest(forecaster, series, Rolling(3), samples=50).measures()
    assert measures["network"]["mase"] < 0.7 * measures["seasonal naive"]["mase"]
    assert measures["network"]["mase"] < measures["drift"]["mase"]


def test_all_origins_at_once_are_single_forecasts():
    series, design = series_of(), design_of(likelihood="point", form="handoff")
    forecaster = untrained(design, series)
    result = backtest(forecaster, series, Rolling(3, 2), samples=2)
    for origins, drawn in zip(result.origins, result.samples, strict=True):
        np.testing.assert_allclose(drawn, forecaster.forecast(series, origins=origins, samples=2).samples, rtol=1e-5)
    np.testing.assert_array_equal(result.origins, series.lengths - np.asarray([[7], [5], [3]]))


def test_refitting_sees_what_is_known_at_each_origin():
    series, design = series_of(covariates=False), design_of()
    seen = []

    def refit(known):
        seen.append(known.lengths)
        return untrained(design, known, 0.1)

    backtest(untrained(design, series, 0.1), series, Rolling(3, 2), samples=2, refit=refit)
    np.testing.assert_array_equal(seen, [series.lengths - 5, series.lengths - 3])


@pytest.mark.usefixtures("promotion")
def test_refitting_compiles_nothing_anew():
    """Also with covariates, whose means are others at each origin."""
    series, design, training = series_of(), design_of(hidden_size=5), Training(steps=3, batch_size=4)
    sizes = []

    def refit(known):
        forecaster = fit_forecaster(known, design, training)
        sizes.append((_train._cache_size(), _forecast._cache_size()))
        return forecaster

    first = refit(series.cut(7))
    backtest(first, series, Rolling(4), samples=2, refit=refit)
    assert len(sizes) == 4
    assert len({trained for trained, _ in sizes}) == 1
    assert len({sampled for _, sampled in sizes[1:]}) == 1


@pytest.mark.usefixtures("promotion")
def test_the_same_seed_has_the_same_forecaster():
    series, design, training = series_of(), design_of(dropout=0.2), Training(steps=20, batch_size=8)
    first, second = (fit_forecaster(series, design, training, seed=3) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first.params, second.params)


def test_series_are_forecast_in_batches_of_one_size():
    """Batches only change the draws: without noise, any size of them has the same forecasts."""
    series = series_of()
    forecaster = untrained(design_of(likelihood="point"), series)
    together = forecaster.forecast(series, samples=2).samples
    for size in (2, 3):
        np.testing.assert_allclose(forecaster.forecast(series, samples=2, batch_size=size).samples, together, rtol=1e-5)


def test_samples_are_paths():
    """Each step follows the sample before it: with base "last" and a wide head, paths drift apart."""
    series, design = series_of(covariates=False), design_of(likelihood="gaussian", base="last", lags=(1,))
    forecaster = untrained(design, series, 0.0)
    window = cut(
        on_device(series.extended(HORIZON), design), jnp.arange(S), jnp.asarray(series.lengths, jnp.int32), design
    )
    drawn = sample(forecaster.params, window, design, forecaster.normal, jax.random.key(0), 4000)
    spread = (np.asarray(drawn) / np.asarray(window.scale)[:, None]).std(0)
    np.testing.assert_allclose(spread / spread[:, :1], np.broadcast_to(np.sqrt([1.0, 2.0, 3.0]), (S, 3)), rtol=0.08)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"horizon": 0}, "horizon is 0, expected a whole number of at least 1"),
        ({"form": "handof"}, "form is 'handof'.*Did you mean 'handoff'"),
        ({"likelihood": "student"}, "likelihood is 'student'.*Did you mean 'student_t'"),
        ({"lags": (2,)}, r"lags is \(2,\), expected different whole numbers from 1 up, 1 among them"),
        ({"base": "seasonal", "season": 1}, "base is 'seasonal', but season is 1"),
        ({"likelihood": "negative_binomial", "scaling": "standard"}, r"for count targets\. Pass scaling='mean'"),
        ({"likelihood": "log_normal", "base": "last"}, "'log_normal' has no location"),
        ({"dropout": 1.0}, "dropout is 1.0, expected a rate"),
        ({"seasonal_adjustment": True, "season": 7}, r"two seasons before the origin, but season is 7 and 12 steps"),
        ({"seasonal_adjustment": True, "likelihood": "negative_binomial"}, "makes targets negative.*count targets"),
    ],
)
def test_designs_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        design_of(**fields)


def test_targets_outside_of_the_domain_are_refused():
    series = from_arrays([[1.0, 2.0, 3.0], [4.0, -1.0, 2.5]], names=["a", "b"])
    with pytest.raises(
        SeriesError, match="series 'b' has the target -1 at step 1, but scaling 'log' is for targets above 0"
    ):
        on_device(series, design_of(scaling="log"))
    with pytest.raises(SeriesError, match=r"series 'b' has the target -1 at step 1.*counts"):
        on_device(series, design_of(likelihood="negative_binomial"))


def test_missing_known_covariates_are_named():
    series = series_of()
    known = series.known.copy()
    known[series.ends[2] + 1] = np.nan
    forecaster = untrained(design_of(), series)
    with pytest.raises(SeriesError, match="series '2' has no 'c' 2 steps ahead of the origin"):
        forecaster.forecast(SeriesSet(**(vars(series) | {"known": known})))


def test_an_origin_without_a_past_is_refused():
    series = series_of(covariates=False)
    with pytest.raises(SeriesError, match="origins has 0 for series '1', expected 1 to 28"):
        untrained(design_of(), series).forecast(series, origins=np.asarray([1, 0, 1, 1, 1]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"past_names": ("b", "a")},
            "have the covariates b, a, c, d, e, but the network was fitted with a, b, c, d, e",
        ),
        ({"levels": (("g", ("x", "y", "z")),)}, "have the categories g, but the network was fitted with f"),
        ({"past": np.zeros((0, 0)), "past_names": ()}, "have 0 past covariates, but the network was fitted with 2"),
    ],
)
def test_other_columns_than_in_the_training_are_refused(change, message):
    series = series_of()
    with pytest.raises(SeriesError, match=message):
        untrained(design_of(), series).forecast(SeriesSet(**(vars(series) | change)))


def test_categories_are_matched_by_their_values():
    series = series_of()
    forecaster = untrained(design_of(), series)
    renumbered = {"categories": 2 - series.categories, "levels": (("f", ("z", "y", "x")),)}
    expected = forecaster.forecast(series, samples=4).samples
    other = forecaster.forecast(SeriesSet(**(vars(series) | renumbered)), samples=4).samples
    np.testing.assert_array_equal(other, expected)
    with pytest.warns(UserWarning, match="training had f 'w', as '1' has; 2 of 5 series are forecast with"):
        unseen = forecaster.matched(SeriesSet(**(vars(series) | {"levels": (("f", ("x", "w", "z")),)})))
    np.testing.assert_array_equal(unseen.categories[:, 0], [0, 3, 2, 0, 3])


@pytest.mark.usefixtures("promotion")
def test_the_embedding_of_an_unknown_category_is_learnt():
    series, design = series_of(), design_of()
    start = init_forecaster(jax.random.split(jax.random.key(0))[0], design, series).embeddings[0][-1]
    rows = [
        fit_forecaster(
            series, design, Training(steps=20, batch_size=8, weight_decay=0.0, average=0.0, unseen=unseen)
        ).params.embeddings[0][-1]
        for unseen in (0.0, 0.3)
    ]
    np.testing.assert_array_equal(rows[0], start)
    assert np.abs(rows[1] - start).min() > 1e-3


@pytest.mark.usefixtures("promotion")
def test_a_context_without_targets_is_refused_and_not_learnt_from():
    gap = np.concatenate([1e6 + np.arange(20.0), np.full(CONTEXT + 1, np.nan), [1e6]])
    series, design = from_arrays([gap], names=["north"], season=SEASON), design_of()
    forecaster = untrained(design, series)
    with pytest.raises(SeriesError, match="series 'north' has no target in the 8 steps before step 28"):
        forecaster.forecast(series, origins=np.asarray([28]))
    batch = (jnp.asarray([0, 0]), jnp.asarray([28, 12]))
    table, fixed = on_device(series, design), {"design": design, "normal": forecaster.normal}
    both = window_loss(forecaster.params, batch, None, table=table, **fixed)
    alone = window_loss(forecaster.params, (batch[0][1:], batch[1][1:]), None, table=table, **fixed)
    np.testing.assert_allclose(both, alone, rtol=1e-6)


def test_a_backtest_leaves_out_origins_behind_a_long_gap():
    """The others are measured as if these were not there, by the network and by the baselines alike."""
    series = series_of(covariates=False)
    gap = series.target.copy()
    origins = Rolling(2, 2).of(series, HORIZON)
    gap[series.starts[1] + origins[1, 1] - CONTEXT : series.starts[1] + origins[1, 1]] = np.nan
    gappy = SeriesSet(**(vars(series) | {"target": gap}))
    forecaster = untrained(design_of(form="handoff", likelihood="point"), gappy)
    with pytest.warns(
        UserWarning, match=r"1 of 10 forecasts of the backtest, of 1 series.* 8 steps.* '1' from step 25"
    ):
        result = backtest(forecaster, gappy, Rolling(2, 2), samples=2)
    np.testing.assert_array_equal(np.argwhere(result.left_out), [[1, 1]])
    measures = result.measures()
    others = backtest(forecaster, gappy.subset([0, 2, 3, 4]), Rolling(2, 2), samples=2).measures()
    alone = backtest(forecaster, gappy.subset([1]).cut(2), Rolling(1), samples=2).measures()
    for row in ("network", "naive", "seasonal naive"):
        assert measures[row]["forecasts"] == 9
        for name in ("mae", "smape", "rmse"):
            expected = (8 * others[row][name] + alone[row][name]) / 9
            assert measures[row][name] == pytest.approx(expected, rel=1e-5)
    with pytest.raises(SeriesError, match=r"1 of 1 forecasts.*nothing is left to measure"):
        backtest(forecaster, gappy.subset([1]), samples=2)


def test_origins_that_are_not_whole_are_refused():
    series = series_of(covariates=False)
    with pytest.raises(SeriesError, match="origins has the dtype float64, expected whole numbers"):
        untrained(design_of(), series).forecast(series, origins=np.full(S, 9.5))


def test_targets_that_float32_cannot_hold_are_refused():
    for value in (1e39, 1e-41):
        with pytest.raises(SeriesError, match=r"the targets have .*, but float32 holds"):
            on_device(from_arrays([[value] * 9]), design_of())


@pytest.mark.usefixtures("promotion")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("level", "deviation"), [(1e9, 1.0), (-3e10, 2.0), (1e30, 1e26), (5e-26, 1e-30)])
def test_a_small_deviation_at_a_high_level_is_forecast_as_at_level_0(form, level, deviation):
    rng = np.random.default_rng(1)
    plain = [np.round(rng.normal(0, 1, 30), 3) for _ in range(3)]
    high = from_arrays([level + deviation * y for y in plain], season=SEASON)
    deviations = [y.astype(np.float64) - level for y in np.split(high.target, 3)]  # as float64 holds them
    design = design_of(form=form, scaling="standard", base="both", likelihood="quantiles")
    window, low = (
        cut(on_device(series, design), jnp.arange(3), jnp.asarray([20, 26, 11]), design)
        for series in (high, from_arrays(deviations, season=SEASON))
    )
    np.testing.assert_allclose(window.target, low.target, rtol=1e-3, atol=3e-4)
    np.testing.assert_allclose(window.scale, low.scale, rtol=1e-4)
    forecaster = untrained(design, high, 0.1)
    drawn = forecaster.forecast(high, samples=30).samples
    assert drawn.dtype == np.float64
    last = np.asarray([y[-1] for y in deviations])
    spread = np.abs(drawn - level - last[:, None, None])
    assert 0.01 * deviation < np.median(spread) < 30 * deviation


def test_a_constant_series_has_a_part_of_its_size_as_scale():
    """Also where float64 has rounded its values differently."""
    values = np.where(np.arange(20) % 2, 0.3, 0.1 + 0.2)
    series = from_arrays([np.full(20, 4e9), np.zeros(20), values, np.full(20, -5.0)])
    design = design_of(scaling="standard")
    window = cut(on_device(series, design), jnp.arange(4), jnp.full(4, 15), design)
    np.testing.assert_allclose(window.scale, [4e6, 1.0, 3e-4, 5e-3], rtol=1e-6)


@pytest.mark.usefixtures("promotion")
@pytest.mark.parametrize(
    ("scaling", "targets", "message"),
    [
        ("mean", 1e9 + np.arange(9.0) % 3, r"for 1 of 2 series, such as 'fine', whose deviation is 0.7.* is 1e\+06"),
        ("log", 1e9 + np.arange(9.0) % 3, r"Pass scaling='standard', which is computed in float64"),
        ("none", 1e-9 * (1.0 + np.arange(9.0) % 3), r"the smallest that can be forecast is 0.001"),
    ],
)
def test_a_scaling_that_is_too_coarse_for_a_series_warns(scaling, targets, message):
    series = from_arrays([targets, 5.0 + np.arange(9.0)], names=["fine", "usual"])
    with pytest.warns(UserWarning, match=message):
        fit_forecaster(series, design_of(scaling=scaling, season=1), Training(steps=1, batch_size=2))
    assert coarse(series, design_of(scaling="standard")) is None
    assert coarse(from_arrays([np.round(series.history(0))]), design_of(likelihood="negative_binomial")) is None


def test_a_forecast_that_is_not_a_number_is_refused():
    series = series_of(covariates=False)
    forecaster = untrained(design_of(), series)
    broken = replace(forecaster, params=jax.tree.map(lambda leaf: leaf * jnp.nan, forecaster.params))
    with pytest.raises(FloatingPointError, match="the forecast of series '0' is not a number"):
        broken.forecast(series, samples=2)


def test_series_of_gaps_cannot_be_learnt_from():
    with pytest.raises(SeriesError, match="no series has two targets or more"):
        training_origins(from_arrays([np.full(9, np.nan), [1.0]]), design_of())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": 0}, "steps is 0, expected a whole number of at least 1"),
        ({"batch_size": 1.5}, "batch_size is 1.5, expected a whole number"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0, expected a finite number above 0"),
        ({"average": 1.0}, "average is 1.0, expected a decay from 0 to below 1"),
        ({"unseen": 1.0}, "unseen is 1.0, expected a rate from 0 to below 1"),
        ({"weight_decay": float("nan")}, "weight_decay is nan"),
        ({"weights": "all"}, "weights is 'all', expected one of 'windows', 'series', 'size'"),
    ],
)
def test_trainings_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Training(**fields)


def test_lags_may_be_a_list():
    assert hash(design_of(lags=[1, 4])) == hash(design_of(lags=(1, 4)))
    with pytest.raises(ValueError, match="expected different whole numbers from 1 up"):
        design_of(lags=[1, 2.5])


def test_a_series_too_short_for_a_backtest_is_named():
    series = from_arrays([np.arange(30.0), np.arange(4.0)], names=["long", "short"], season=SEASON)
    with pytest.raises(SeriesError, match="series 'short' has 4 targets, too few for an origin 5 steps before its end"):
        backtest(untrained(design_of(), series), series, Rolling(3))


@pytest.mark.parametrize("scaling", ["mean", "log1p"])
@pytest.mark.parametrize("likelihood", ["gaussian", "student_t"])
def test_students_t_of_logarithms_has_no_mean(likelihood, scaling):
    """What is infinite is not estimated from samples: such an average is another one with each seed."""
    series = series_of(covariates=False)
    forecaster = untrained(design_of(likelihood=likelihood, scaling=scaling), series)
    forecast = forecaster.forecast(series, samples=20)
    result = backtest(forecaster, series, Rolling(1), samples=20)
    measures = result.measures()["network"]
    if (likelihood, scaling) == ("student_t", "log1p"):
        assert np.isnan(forecast.mean).all()
        assert np.isfinite(forecast.median).all()
        assert "crps" not in measures
        expected = np.median(result.samples, 2)
    else:
        np.testing.assert_allclose(forecast.mean, forecast.samples.mean(1))
        assert measures["crps"] > 0
        expected = result.samples.mean(2)
    errors = np.sqrt(np.nanmean((expected - result.target) ** 2, -1))
    assert measures["rmse"] == pytest.approx(np.nanmean(errors), rel=1e-6)


def test_a_covariate_that_is_constant_in_the_training_has_the_deviation_1():
    # the mean of 80 times 0.1 is not 0.1: the deviation of the column is 1e-17, by which 0.2 would be 7e15
    targets, prices = [np.arange(80.0)] * 2, [np.full(80, 0.1)] * 2
    series = from_arrays(
        targets, past={"a": prices}, known={"b": [prices[0], prices[1] * 3]}, numbers={"c": [0.1, 0.1]}
    )
    normal = normal_of(series)
    np.testing.assert_allclose(normal.past[1], [1.0])
    np.testing.assert_allclose(normal.numbers[1], [1.0])
    np.testing.assert_allclose(normal.known, [[0.2], [0.1]], rtol=1e-6)
