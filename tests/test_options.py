"""The options of a run: spelled out by lstm, stacked and network, taken as one thing by everything else."""

import dataclasses
import inspect

import jax
import jax.numpy as jnp
import pytest

from lstmjax import explain_backend, init_network, init_params, init_stacked, inside, lstm, network, plot, stacked
from lstmjax.convert import load_model, load_weights
from lstmjax.convert.convert_file import convert_file
from lstmjax.convert.find import find
from lstmjax.convert.options import FileOptions, ReadOptions, Selection
from lstmjax.init_stack import InitOptions
from lstmjax.options import (
    CallOptions,
    LayerOptions,
    ModuleFields,
    ModuleOptions,
    PassOptions,
    RunOptions,
    StepOptions,
    with_defaults,
)
from lstmjax.plot.tracks import TrackOptions, tracks_of
from lstmjax.replica import verify
from lstmjax.replica.verify_files import verify_files
from lstmjax.report import report
from lstmjax.report.inputs import report_inputs
from lstmjax.report.shown import NetworkOptions, settings_of
from lstmjax.report.tree import tree_of

DERIVED = [
    (inside.trace, RunOptions),
    (inside.gradient_flow, RunOptions),
    (inside.gate_statistics, RunOptions),
    (inside.gradient_paths, PassOptions),
    (inside.gradient_spans, PassOptions),
    (inside.step_jacobians, StepOptions),
    (inside.state_jacobian, StepOptions),
    (inside.lyapunov_spectrum, StepOptions),
    (explain_backend, CallOptions),
    (init_stacked, InitOptions),
    (init_network, InitOptions),
    (report, NetworkOptions),
    (plot.gates, TrackOptions),
    (plot.unit, TrackOptions),
    (load_weights, FileOptions),
    (load_model, ReadOptions),
    (convert_file, ReadOptions),
    (verify, ReadOptions),
    (verify_files, ReadOptions),
]
OF_REPORT = {
    name: parameter
    for function in (report_inputs, tree_of, settings_of)
    for name, parameter in inspect.signature(function).parameters.items()
}
SOURCES = {
    InitOptions: inspect.signature(init_params).parameters,
    NetworkOptions: OF_REPORT,
    TrackOptions: inspect.signature(tracks_of).parameters,
    FileOptions: inspect.signature(Selection).parameters,
    ReadOptions: inspect.signature(find).parameters | inspect.signature(Selection).parameters,
}
KEYWORDS = inspect.signature(lstm).parameters | inspect.signature(stacked).parameters


def keywords(function):
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


@pytest.mark.parametrize("call", [lstm, stacked, network])
def test_every_keyword_of_the_three_calls_is_an_option_with_one_default(call):
    options = keywords(call)
    assert options.keys() - CallOptions.__annotations__ <= {"return_sequences", "run"}
    for name in options.keys() & CallOptions.__annotations__:
        assert KEYWORDS[name].default == options[name], name


@pytest.mark.parametrize(("function", "options"), DERIVED, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_derived_shows_every_option(function, options):
    source = SOURCES.get(options, KEYWORDS)
    shown = inspect.signature(function).parameters
    assert not any(p.kind is p.VAR_KEYWORD for p in shown.values())
    for name in options.__annotations__:
        assert shown[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert shown[name].default == source[name].default
        assert shown[name].annotation == source[name].annotation or options is not InitOptions
    assert function.__doc__
    assert function.__name__ in function.__qualname__


def test_what_a_report_runs_the_layers_with_has_the_defaults_of_stacked():
    for name in LayerOptions.__annotations__:
        assert OF_REPORT[name].default == KEYWORDS[name].default, name


def test_the_fields_of_modules_are_their_options_with_the_defaults_of_stacked():
    fields = {field.name: field.default for field in dataclasses.fields(ModuleFields)}
    assert fields.keys() == ModuleOptions.__annotations__.keys()
    assert fields == {name: KEYWORDS[name].default for name in fields}


def test_an_unknown_option_is_refused_with_the_name_that_is_near():
    params, xs = init_params(jax.random.key(0), 2, 4), jnp.ones((3, 2))
    with pytest.raises(TypeError, match=r"trace has no argument 'length'. Did you mean 'lengths'"):
        inside.trace(params, xs, length=3)
    with pytest.raises(TypeError, match=r"has no argument .wrappers.. It has cell, lengths, loss, mask,"):
        inside.gradient_paths(params, xs, jnp.sum, wrappers=())
    with pytest.raises(TypeError, match=r"load_model has no argument 'prefixes'. Did you mean 'prefix'"):
        load_model("layers.npz", prefixes="rnn")


def test_options_that_are_left_out_have_their_defaults():
    options = with_defaults(unroll=3)
    assert options == {name: KEYWORDS[name].default for name in RunOptions.__annotations__} | {"unroll": 3}
