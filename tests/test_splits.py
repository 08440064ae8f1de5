"""Splits by index, time and group: nothing is in two parts, and the run folder says what is where."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from training import config

from lstmjax.config import Columns, ConfigError, Data, parse_config
from lstmjax.data import DataError, Sequences, load
from lstmjax.data.form import Table
from lstmjax.data.splits import check_groups, split
from lstmjax.training import load_run, train

COUNT = 30


def table(seed=0):
    random = np.random.default_rng(seed)
    begin = random.permutation(COUNT) * 10.0
    group = np.array([f"p{n}" for n in random.integers(0, 8, COUNT)], object)
    data = Sequences(random.normal(size=(COUNT, 4, 2)).astype(np.float32), np.arange(COUNT) % 2)
    return Table(data, group, begin, begin + random.choice([5.0, 25.0], COUNT))


def settings(by, **more):
    columns = Columns(time="at", group="who" if by == "group" else None)
    return Data(source="a.csv", split=by, columns=columns, **more)


@pytest.mark.parametrize("test", [None, 0.2])
@pytest.mark.parametrize("by", ["random", "index", "time", "group"])
def test_every_split_parts_the_sequences(by, test):
    rows = split(table(), settings(by, test_fraction=test, validation_fraction=0.3))
    parts = [rows.train, rows.validation, rows.test]
    together = np.concatenate(parts)
    assert len(set(together.tolist())) == len(together) <= COUNT
    assert (len(rows.test) > 0) == (test is not None)
    assert all((np.diff(part) > 0).all() for part in parts)
    again = split(table(), settings(by, test_fraction=test, validation_fraction=0.3))
    assert all((one == other).all() for one, other in zip(parts, again[:3], strict=True))
    if by != "time":
        assert len(together) == COUNT


def test_a_split_by_index_takes_the_file_in_its_order():
    rows = split(table(), settings("index", test_fraction=0.2, validation_fraction=0.3))
    assert [part.tolist() for part in rows[:3]] == [[*range(15)], [*range(15, 24)], [*range(24, 30)]]


def test_a_split_by_time_lets_nothing_overlap():
    all_left_out = []
    for seed in range(20):
        sequences = table(seed)
        rows = split(sequences, settings("time", test_fraction=0.2, validation_fraction=0.3))
        begin, end = sequences.begin, sequences.end
        assert end[rows.train].max() < begin[rows.validation].min()
        assert end[rows.validation].max() < begin[rows.test].min()
        left_out = COUNT - sum(map(len, rows[:3]))
        assert rows.about["left out, as they reach into the next part"] == left_out
        all_left_out.append(left_out)
    assert max(all_left_out) > 0


def test_a_split_by_group_keeps_each_group_together():
    for seed in range(20):
        sequences = table(seed)
        rows = split(sequences, settings("group", test_fraction=0.2, validation_fraction=0.3))
        groups = [set(sequences.group[part]) for part in rows[:3]]
        assert all(groups)
        assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
        assert rows.about["groups"]["test"] == sorted(groups[2])
    few = sequences._replace(group=np.array(["a", "b"] * 15, object))
    assert len(split(few, settings("group")).validation) == 15
    with pytest.raises(DataError, match=r"column 'who' has 2 groups for 3 parts; give more groups, or parts as files"):
        split(few, settings("group", test_fraction=0.1))
    with pytest.raises(DataError, match=r"b.csv: group 'p\d' is also in a.csv"):
        check_groups({"a.csv": sequences, "b.csv": sequences})


def test_a_split_that_leaves_nothing_is_told():
    with pytest.raises(
        DataError, match=r"30 sequences cannot be split with data.test_fraction 0.001; give more, or a file as"
    ):
        split(table(), settings("random", test_fraction=0.001))
    always = table()._replace(begin=np.zeros(COUNT), end=np.ones(COUNT))
    with pytest.raises(DataError, match=r"data.split: time leaves no sequence for the train part"):
        split(always, settings("time"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"split": "time"}, "data.split is time, but there is no column of times; name it by data.columns.time"),
        ({"split": "group"}, "data.split is group, but there is no column of groups; name it by data.columns.group"),
        (
            {"columns": {"group": "who"}},
            "data.columns.group is who, but data.split is random, which puts a group into two",
        ),
        (
            {"test": "b.csv", "test_fraction": 0.1},
            "data.test and data.test_fraction are both given; remove one of them",
        ),
        ({"validation_fraction": 0.6, "test_fraction": 0.5}, "make 1.1 together, which leaves nothing for training"),
        (
            {"columns": {"features": ["a"], "target": "a"}},
            "column 'a' is in data.columns.features and in data.columns.target",
        ),
        (
            {"columns": {"features": ["a"], "categorical": "b"}},
            "column 'b' is in data.columns.categorical, but not in data.",
        ),
        ({"columns": {"time": "t", "weight": "t"}}, "column 't' is in data.columns.time and in data.columns.weight"),
        ({"columns": {"target": []}}, "data.columns.target names no column; name that of the label"),
        ({"columns": {"feature": "a"}}, "unknown key data.columns.feature; did you mean data.columns.features?"),
    ],
)
def test_keys_that_do_not_go_together_are_told(data, message):
    with pytest.raises(ConfigError) as error:
        parse_config({"epochs": 1, "data": {"source": "a.csv"} | data})
    assert message in str(error.value)


@pytest.mark.usefixtures("promotion")
def test_the_run_folder_states_the_split(tmp_path, capsys):
    random = np.random.default_rng(0)
    hours = np.repeat(np.arange(20) * 4, 3) + np.tile(np.arange(3), 20)
    frame = pa.table({
        "id": np.repeat([f"day {n}" for n in range(20)], 3),
        "at": hours.astype("datetime64[h]").astype("datetime64[ms]"),
        "a": random.normal(20, 2, 60), "label": np.repeat(np.arange(20) % 2, 3),
    })  # fmt: skip
    pyarrow.parquet.write_table(frame, tmp_path / "a.parquet")
    columns = {"sequence": "id", "time": "at"}
    data = {"source": str(tmp_path / "a.parquet"), "columns": columns, "split": "time", "test_fraction": 0.1}
    train(config(data=data, steps=2), tmp_path / "run")
    assert capsys.readouterr().out.splitlines()[1] == "split by time: 14 train, 4 validation, 2 test"
    stated = json.loads((tmp_path / "run" / "split.json").read_text("utf-8"))
    assert (stated["by"], stated["validation begins"]) == ("time", "1970-01-03T08:00:00.000000000")
    assert stated["sequences"]["test"] == ["day 18", "day 19"]
    assert load_run(tmp_path / "run").about.form.columns.sequence == "id"


@pytest.mark.thorough
@pytest.mark.usefixtures("promotion")
def test_a_weight_counts_in_the_loss_and_in_the_metric(tmp_path):
    """A sequence with weight 3 counts as three of it."""
    random = np.random.default_rng(1)
    rows = [
        (n, t, *random.normal(size=2), "ab"[n % 2], 1 + 2.0 * (n % 3 == 0)) for n in range(12) for t in range(1 + n % 4)
    ]
    frame = pa.table(dict(zip(("sequence", "step", "a", "b", "label", "w"), zip(*rows, strict=True), strict=True)))
    thrice = pa.concat_tables(
        [frame]
        + [
            frame.filter(pa.array([row[5] == 3.0 for row in rows])).set_column(
                0, "sequence", pa.array([100 * copy + row[0] for row in rows if row[5] == 3.0])
            )
            for copy in (1, 2)
        ]
    )
    runs = []
    for name, table_, columns in (("a", frame, {"weight": "w"}), ("b", thrice, {"ignore": "w"})):
        pyarrow.parquet.write_table(table_, tmp_path / f"{name}.parquet")
        source = str(tmp_path / f"{name}.parquet")
        data = {"source": source, "validation": source, "columns": columns, "normalize": "none"}
        result = train(
            config(data=data, steps=1, optimizer={"learning_rate": 1e-9}, batch_size=12), tmp_path / name, quiet=True
        )
        runs.append(result)
    assert runs[0].validation["loss"] == pytest.approx(runs[1].validation["loss"], rel=1e-5)
    assert runs[0].validation["accuracy"] == pytest.approx(runs[1].validation["accuracy"], rel=1e-5)
    parts, _ = load(Data(source=str(tmp_path / "a.parquet"), columns=Columns(weight="w")))
    assert set(parts.train.weight.tolist()) == {1.0, 3.0}
