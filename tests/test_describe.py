"""`lstmjax data describe` says what is understood of a file, and asks for the rest by naming the option."""

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from training import config, write_sequences

from lstmjax.cli import main
from lstmjax.config import dump_config, parse_config
from lstmjax.data import DataError
from lstmjax.data.describe import describe


def frame(seed=0):
    random = np.random.default_rng(seed)
    lengths = random.integers(2, 6, 20)
    n = np.repeat(np.arange(20), lengths)
    step = np.concatenate([np.arange(length) for length in lengths])
    a = random.normal(20, 2, len(n))
    return pa.table({
        "sequence": [f"s{k}" for k in n], "step": step,
        "a": pa.array(np.where(random.random(len(n)) < 0.2, None, a).tolist()),
        "city": [["Rome", "Bern"][k % 2] for k in step], "code": [int(k % 4) for k in step],
        "at": (step * 3600).astype("datetime64[s]").astype("datetime64[ms]"),
        "label": [["rare", "common", "common", "common", "common", "common", "common"][k % 7] for k in n],
    })  # fmt: skip


def test_what_is_ambiguous_is_asked_with_the_option(tmp_path):
    pyarrow.parquet.write_table(frame(), tmp_path / "a.parquet")
    lines = [*describe(tmp_path / "a.parquet")]
    assert lines[1].endswith("rows, 7 columns:")
    assert any(line.startswith("  a: numbers, feature, 1") and "missing (" in line for line in lines)
    assert "  city: words, feature, 2 different" in lines
    assert "layout: long, a row is a step" in lines
    questions = [line for line in lines if line.startswith("? ")]
    assert [question.split("'")[1] for question in questions] == ["a", "city", "code", "at"]
    for question, option in zip(
        questions,
        ("data.missing", "data.columns.categorical", "data.columns.categorical", "data.columns.time"),
        strict=True,
    ):
        assert option in question


def test_what_is_answered_is_no_longer_asked(tmp_path, capsys):
    pyarrow.csv.write_csv(frame(), tmp_path / "a.csv")
    columns = {"categorical": ["city", "code"], "ignore": "at"}
    config = parse_config({"epochs": 1, "data": {"source": "elsewhere.csv", "columns": columns, "missing": "mask"}})
    (tmp_path / "c.yaml").write_text(dump_config(config), encoding="utf-8")
    assert main(["data", "describe", str(tmp_path / "a.csv"), "--config", str(tmp_path / "c.yaml")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if line.startswith("?")]
    assert "  at: times, left out, 1970-01-01 00:00:00 to 1970-01-01 04:00:00" in lines
    (sequences,) = [line for line in lines if " sequences of " in line]
    assert sequences.startswith("20 sequences of 2 to 5 steps (median ")
    assert "8 input features: a, city=Bern, city=Rome, code=0, code=1, code=2, code=3, a missing" in lines
    (classes,) = [line for line in lines if line.startswith("2 classes")]
    assert "one for each sequence; of the training part common 8" in classes
    assert any(line.startswith("split by random: 16 train, 4 validation") for line in lines)
    assert any(line.startswith("missing values: a ") for line in lines)


def test_files_without_names_and_folders_are_described(tmp_path):
    write_sequences(tmp_path / "a.npz", target="word")
    lines = [*describe(tmp_path / "a.npz")]
    assert lines[1].startswith("40 sequences of 2 to 6 steps")
    write_sequences(tmp_path / "b.npz", target="number")
    assert [*describe(tmp_path / "b.npz")][-1] == "? are the labels numbers to be predicted? Then set loss.name: linear"
    (tmp_path / "c").mkdir()
    with pytest.raises(DataError, match="c: has no file that ends in"):
        [*describe(tmp_path / "c")]
    assert next(iter(describe("digits"))) == "digits: a source in the package"
    pyarrow.parquet.write_table(pa.table({"width": [1.0, 2.0], "height": [1.0, 3.0]}), tmp_path / "d.parquet")
    questions = [line for line in describe(tmp_path / "d.parquet") if line.startswith("?")]
    assert "is a row a step or a sequence?" in questions[0]
    assert questions[1] == "? which column is the label? There is no 'label'; name it by data.columns.target"


def test_the_command_tells_what_it_takes(capsys):
    with pytest.raises(SystemExit):
        main(["data", "--help"])
    assert "describe" in capsys.readouterr().out
    assert main(["data", "describe", "none.csv"]) == 2
    assert "none.csv" in capsys.readouterr().err


def test_a_text_is_described_by_its_tokens(tmp_path):
    (tmp_path / "a.txt").write_text("the cat and the dog and the hare\n" * 9, encoding="utf-8")
    asked = list(describe(tmp_path / "a.txt"))
    assert asked[-1].endswith("Then set data.text: characters, bytes or words")
    assert list(describe("fables"))[-1] == "? it is a text: say data.text: characters, bytes or words"
    for settings in ({"source": "fables"}, {"source": str(tmp_path / "a.txt")}):
        lines = list(describe(tmp_path / "a.txt", config(data=settings | {"text": "words"})))
        assert lines[1] == "text: words, 58 train, 14 validate; vocabulary of 5"
        assert lines[-1] == "most frequent words: 'the', 'and', 'cat', 'dog', 'hare'"
    lines = list(describe(tmp_path / "a.txt", config(data={"source": "fable", "text": "words", "window": 2})))
    assert "sequences of 2 steps each" in lines[1]
