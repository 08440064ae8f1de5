import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import get_args

import pytest

from lstmjax import limits
from lstmjax.config import (
    BUILT_IN,
    SECTIONS,
    TEXTS,
    CellName,
    ConfigError,
    Model,
    dump_config,
    keys,
    load_config,
    parse_config,
)
from lstmjax.data import load
from lstmjax.limits import check_network, check_order, parameters
from lstmjax.yaml_file import read_yaml

CONFIGS = sorted(Path(__file__).parent.parent.joinpath("configs").glob("*.yaml"))
# forecasts and regional models have keys of their own
CONFIGS = [path for path in CONFIGS if not {"horizon", "training"} & read_yaml(path).keys()]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"optimizer": {"clip_nrm": 1.0}}, "unknown key optimizer.clip_nrm; did you mean optimizer.clip_norm?"),
        ({"hidden_size": 8}, "unknown key hidden_size; did you mean model.hidden_size?"),
        ({"modle": {"layers": 2}}, "unknown key modle; did you mean model?"),
        ({"data": {"qqqqq": 2}}, "unknown key data.qqqqq; valid ones are data.source, data.validation"),
        ({"model": {"hidden_size": True}}, "model.hidden_size is True; it should be a valid integer"),
        ({"model": {"hidden_size": "big"}}, "model.hidden_size is 'big'; it should be a valid integer"),
        ({"model": {"hidden_size": -2}}, "model.hidden_size is -2; it should be greater than or equal to 1"),
        ({"model": {"dropout": 1.5}}, "model.dropout is 1.5; it should be less than or equal to 1"),
        ({"optimizer": {"momentum": 1.0}}, "optimizer.momentum is 1.0; it should be less than 1"),
        ({"loss": {"label_smoothing": 1.0}}, "loss.label_smoothing is 1.0; it should be less than 1"),
        ({"model": {"hidden_size": 10**9}}, "model.hidden_size is 1000000000; it should be less than or equal to 1"),
        ({"model": {"projection_size": 99999999999999999}}, "model.projection_size is 99999999999999999; it should be"),
        ({"model": {"layers": 10**8}}, "model.layers is 100000000; it should be less than or equal to 1000"),
        ({"batch_size": 2**31}, "batch_size is 2147483648; it should be less than 2147483648"),
        ({"optimizer": {"warmup_steps": 2**31}}, "optimizer.warmup_steps is 2147483648; it should be less than"),
        ({"data": {"source": "order", "length": 2 * 10**9}}, "data.length is 2000000000; it should be less than"),
        ({"data": {"source": "~nouser/x.csv"}}, "data.source is '~nouser/x.csv', but ~nouser is nobody's home"),
        ({"data": {"source": "a.npz", "test": "~nouser"}}, "data.test is '~nouser', but ~nouser is nobody's home"),
        ({"model": {"input_bias": 1e300}}, "model.input_bias: 1e+300 is infinite in float32; it should be at most 3.4"),
        ({"model": {"forget_bias": -1e39}}, "model.forget_bias: -1e+39 is infinite in float32; it should be at most"),
        (
            {"model": {"input_bias": 1.0, "input_bias_step": 3e37}},
            "input_bias + input_bias_step · (hidden_size − 1) is 3.81e+39 in size, which is infinite in float32; set "
            "model.input_bias_step nearer to 0",
        ),
        (
            {"model": {"input_bias_step": 1}},
            "model.input_bias_step is 1.0, but there is no bias of the first unit to step from; set model.input_bias, "
            "or remove model.input_bias_step",
        ),
        ({"optimizer": {"learning_rate": 1e-300}}, "optimizer.learning_rate: 1e-300 is 0 in float32; it should be at"),
        ({"optimizer": {"weight_decay": 1e39}}, "optimizer.weight_decay: 1e+39 is infinite in float32"),
        ({"model": {"cell": "lstm"}}, "model.cell is 'lstm'; it should be 'vanilla', 'peephole', 'nig'"),
        ({"model": {"cell": "projection"}}, "model: cell projection without projection_size is cell peephole; set"),
        ({"model": 3}, "model is 3; it should be a section with keys of its own"),
        ({"optimizer": {"name": "adamx"}}, "optimizer.name is 'adamx'; it should be 'adamw', 'adam'"),
        ({"optimizer": {"clip_norm": 0}}, "optimizer.clip_norm is 0; it should be greater than 0"),
        ({"optimizer": {"name": "adam", "weight_decay": 0.1}}, "optimizer: adam with weight_decay is adamw"),
        ({"optimizer": {"learning_rate": float("nan")}}, "optimizer.learning_rate is nan; it should be"),
        ({"loss": {"name": "linear", "label_smoothing": 0.1}}, "loss.label_smoothing is for classes"),
        ({"data": {"test": "a.npz"}}, "the digits bring their validation and test part, their 8 steps and their scale"),
        ({"data": {"test": "a.npz", "length": 50}}, "(pixels / 16) with them; remove data.test and data.length"),
        ({"data": {"source": "a.npz", "length": 50}}, "a file has sequences of its own length; remove data.length"),
        ({"data": {"source": "order"}}, "data.source order has no epochs, as every batch is new; give steps, not"),
        ({"data": {"source": "order", "length": 9}}, "data.length is 9; it should be greater than or equal to 20"),
        (
            {"data": {"source": "order", "normalize": "standardize", "shift": 1}},
            "data: the temporal-order task is generated, with validation and test parts, and its inputs are zeros and "
            "ones; remove data.normalize and data.shift",
        ),
        ({"steps": 3}, "give exactly one of epochs and steps; both are given"),
        ({"epochs": None}, "give exactly one of epochs and steps; neither is given"),
        ({"epochs": 2**31}, "epochs is 2147483648; it should be less than 2147483648"),
        ({"epochs": None, "steps": 2**31}, "steps is 2147483648; it should be less than 2147483648"),
        ({(1, 2): 3}, "is not a tree of keys and values (keys must be str"),
        ({"seed": -1}, "seed is -1; it should be greater than or equal to 0"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_key_and_the_remedy(tree, message):
    with pytest.raises(ConfigError) as error:
        parse_config({"epochs": 2} | tree, "run.yaml")
    assert message in str(error.value)
    assert str(error.value).startswith("run.yaml: ")
    assert "\n" not in str(error.value)


def bomb(last, *, begin):
    """Values that stand for nine times those of the line before, line by line: a few hundred bytes for 9^9 values."""
    lines = [f"a: &a {begin}"]
    for above, name in pairwise("abcdefghi"):
        lines.append(f"{name}: &{name} {last.format(', '.join([f'*{above}'] * 9))}")
    return "\n".join(lines)


BOMB, MERGED = bomb("[{}]", begin="[x, x, x]"), bomb("{{<<: [{}]}}", begin="{x: 1}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs: 2\nepochs: 3\n", "a.yaml:2: key epochs is given twice; remove one of them"),
        ("epochs: [2\n", "a.yaml:2: expected ',' or ']'"),
        ("- 1\n", "a.yaml: holds a list, expected keys and values such as 'epochs: 60'"),
        ("", "a.yaml: give exactly one of epochs and steps; neither is given"),
        ("seed: \x00", "a.yaml: unacceptable character"),
        ("epochs: 2\nseed: 1:30\n", "a.yaml:2: 1:30 is a number of base 60 in YAML, 90; write 90, or '1:30' in quotes"),
        ("epochs: 2\nseed: 1:30.5\n", "a.yaml:2: 1:30.5 is a number of base 60 in YAML, 90.5; write 90.5, or"),
        ("seed: 017\nepochs: 2\n", "a.yaml:1: 017 is octal in YAML, 15; write 17 or 15, or '017' in quotes for"),
        ("epochs: !!int 017\n", "a.yaml:1: 017 is octal in YAML, 15; write 17 or 15, or '017' in quotes for"),
        (
            "data: " + "x" * 2**20,
            "a.yaml: is larger than 1,048,576 bytes, which no configuration is; is it another file?",
        ),
        (BOMB, "a.yaml:1: aliases (*) stand for more than 10,000 values; write the values out"),
        (MERGED, "a.yaml:1: aliases (*) stand for more than 10,000 values; write the values out"),
        ("epochs: 2\n? [1]\n: 3\n", "a.yaml:2: a sequence is used as a key; keys are strings"),
        ("epochs: 2\n{a: 1}: 3\n", "a.yaml:2: a mapping is used as a key; keys are strings"),
        ("steps: &x [*x]\n", "a.yaml: is not a tree of keys and values (Circular reference detected)"),
        ("steps: " + "[" * 5000, "a.yaml: cannot be read as YAML (too deeply nested)"),
        ("seed: 2020-13-45\n", "a.yaml: cannot be read as YAML (month must be in 1..12"),
        ("epochs: 2\n2020-01-01: 3\n", "a.yaml: unknown key 2020-01-01; valid ones are"),
        ("epochs: 2\n1: 3\n", "a.yaml: unknown key 1; valid ones are"),
        ("epochs: 2\nseed: 2020-01-01\n", "a.yaml: seed is '2020-01-01'; it should be a valid integer"),
    ],
)
def test_a_file_that_is_no_configuration_is_told_with_its_line(tmp_path, text, message):
    path = tmp_path / "a.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert message in str(error.value)


def test_a_missing_file_is_told_with_the_one_that_may_be_meant(tmp_path):
    (tmp_path / "digits.yaml").write_text("epochs: 2\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"digit\.yaml: no such file; did you mean .*digits\.yaml\?"):
        load_config(tmp_path / "digit.yaml")
    with pytest.raises(ConfigError, match="no such file, nor is there a folder"):
        load_config(tmp_path / "nowhere" / "digits.yaml")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_what_is_saved_with_a_run_loads_equal(path, tmp_path):
    config = load_config(path)
    (tmp_path / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    assert load_config(tmp_path / "config.yaml") == config
    assert config.data.source in BUILT_IN or Path(config.data.source).is_file()


@pytest.mark.parametrize(
    ("written", "value"), [("3e-4", 3e-4), ("1E2", 100.0), ("2.5e-3", 0.0025), ("1_0.5e1", 105.0), ("1", 1.0)]
)
def test_numbers_are_read_as_numbers(tmp_path, written, value):
    path = tmp_path / "a.yaml"
    path.write_text(f"epochs: 2\noptimizer:\n  learning_rate: {written}\n", encoding="utf-8")
    assert load_config(path).optimizer.learning_rate == value


def test_aliases_are_read_where_they_stand_for_little(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("epochs: 2\nmodel: {dropout: &rate 0.25, zoneout: *rate}\n", encoding="utf-8")
    model = load_config(path).model
    assert (model.dropout, model.zoneout) == (0.25, 0.25)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("width", [None, 5])
def test_the_parameters_that_are_counted_are_the_least_that_there_are(bidirectional, width):
    jax = pytest.importorskip("jax")
    from lstmjax import init_network

    sizes = {"hidden_size": 7, "layers": 3, "bidirectional": bidirectional, "projection_size": width}
    for cell in ("vanilla", "cifg"):
        network = init_network(jax.random.key(0), 2, output_size=4, bias=None, cell=cell, **sizes)
        layers = jax.tree.map(
            lambda part: part._replace(w_p=None, w_c=None), network.layers, is_leaf=lambda part: hasattr(part, "w_p")
        )
        made = sum(leaf.size for leaf in jax.tree.leaves((layers, network.head.w)))
        counted = parameters(Model(**sizes), 2, 4)
        assert counted == made if cell == "cifg" else counted < made


def test_a_network_that_does_not_fit_the_memory_is_told(monkeypatch):
    config = parse_config({"epochs": 2, "model": {"hidden_size": 1000}})
    check_network(config, 8, 10)
    with pytest.raises(ConfigError) as error:
        check_network(config, 8, 10, room=10**6)
    assert str(error.value) == (
        "model.hidden_size 1,000 and model.layers 1 make 3,034,000 parameters at least, which with gradients and adamw "
        "take 48.5 MB of memory, and 1 MB are available; set them lower"
    )
    monkeypatch.setattr(limits, "available", lambda: 10**6)
    with pytest.raises(ConfigError, match=r"take 48.5 MB of memory, and 1 MB are available"):
        check_network(config, 8, 10)
    task = parse_config({"steps": 2, "batch_size": 640, "model": {"hidden_size": 8}, "data": {"source": "order"}})
    with pytest.raises(ConfigError, match=r"640 sequences of data.length 100 take 2.82 MB of memory, and 1 MB are"):
        check_network(task, 8, 4)
    with pytest.raises(ConfigError, match=r"set data.length to 247 at most"):
        check_order(parse_config({"steps": 2, "data": {"source": "order", "length": 1000}}).data, "data.length", 92, 8)
    monkeypatch.setattr(limits, "available", lambda: 10**4)
    with pytest.raises(ConfigError, match=r"4,608 sequences of data.length 100 take 20.3 MB of memory"):
        load(task.data)


def test_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = parse_config({"epochs": 2, "data": {"source": "a.npz", "test": "b.npz"}})
    assert (config.data.source, config.data.test) == (str(tmp_path / "a.npz"), str(tmp_path / "b.npz"))


def test_the_fingerprint_sees_every_value_but_where_the_data_lie():
    base = parse_config({"epochs": 2})
    moved = parse_config({"epochs": 2, "data": {"source": "a.npz"}})
    assert base.fingerprint == moved.fingerprint
    assert base.fingerprint != parse_config({"epochs": 2, "seed": 1}).fingerprint
    assert base.fingerprint != parse_config({"epochs": 2, "data": {"shift": 1}}).fingerprint


def test_a_run_from_before_there_was_a_choice_keeps_its_fingerprint():
    before = {"digits.yaml": "409acfde4dc67103", "digits-plain.yaml": "e64ca49607c26e8b"}
    assert {path.name: load_config(path).fingerprint for path in CONFIGS if path.name in before} == before
    said = {cell: parse_config({"epochs": 2, "model": {"cell": cell}}).fingerprint for cell in ("vanilla", "peephole")}
    assert said["vanilla"] == parse_config({"epochs": 2}).fingerprint == "771723b9434e2078"
    assert said["peephole"] != said["vanilla"]
    kept = [parse_config({"epochs": 2, "keep_every": every}).fingerprint for every in (None, 10, 20)]
    assert kept[0] == "771723b9434e2078"
    assert len(set(kept)) == 3
    for later in ({"model": {"input_bias": -1.0}}, {"model": {"input_bias": 0.0, "input_bias_step": -1.0}}):
        assert parse_config({"epochs": 2} | later).fingerprint != said["vanilla"]
    task = {"steps": 2, "data": {"source": "order"}}
    longer = {"steps": 2, "data": {"source": "order", "length": 50}}
    assert parse_config(task).fingerprint != parse_config(longer).fingerprint


def test_the_cells_are_those_of_the_table():
    from lstmjax import CELLS

    assert get_args(CellName) == tuple(CELLS)


def test_the_sources_are_those_that_are_made():
    from lstmjax.data import texts
    from lstmjax.data.load import SOURCES

    assert tuple(BUILT_IN) == (*SOURCES, *TEXTS)
    assert tuple(texts.BUILT_IN) == TEXTS


def test_every_key_has_its_explanation():
    fields = [key for key in keys() if key not in SECTIONS]
    assert len(fields) > 30
    from lstmjax.config import Config

    for key in fields:
        section = Config
        *path, name = key.split(".")
        for part in path:
            section = section.model_fields[part].annotation
        assert section.model_fields[name].description, key


def test_reading_a_configuration_loads_no_jax():
    code = (
        "import sys, lstmjax.config, lstmjax.cli; assert not {'jax', 'flax', 'orbax', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
