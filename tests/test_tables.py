"""Tables of every kind say the same sequences; what is missing, ambiguous or wrong is named with its place."""

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest

from lstmjax.config import Columns, Data
from lstmjax.data import DataError, Ragged, labelled, load, read, sequences_from, unlabelled
from lstmjax.data.files import read_as
from lstmjax.data.form import Form
from lstmjax.data.wide import numbered

NAMES = ["u", "v", "w", "x", "y", "z"]
LENGTHS = np.array([3, 1, 4, 2, 3, 4])


def long_table(seed=0, **more):
    """Rows in any order: two features, words as labels."""
    random = np.random.default_rng(seed)
    rows = [(name, step) for name, length in zip(NAMES, LENGTHS, strict=True) for step in range(length)]
    columns = {
        "sequence": [name for name, _ in rows],
        "step": [step for _, step in rows],
        "a": random.normal(3.0, 2.0, len(rows)).tolist(),
        "b": random.normal(-1.0, 0.5, len(rows)).tolist(),
        "label": ["up" if name in "uwy" else "down" for name, _ in rows],
    }
    for name, values in more.items():
        columns[name] = [values(n, *row) for n, row in enumerate(rows)]
    table = pa.table(columns)
    return table.take(random.permutation(len(rows)))


def write(table, path):
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path, pyarrow.csv.WriteOptions(quoting_style="none"))
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path, row_group_size=4)
    else:
        pyarrow.feather.write_feather(table, path)
    return str(path)


def same(one, other):
    order = [other.names.index(name) for name in one.names]
    assert isinstance(one.x, Ragged) == isinstance(other.x, Ragged)
    np.testing.assert_array_equal(one.array, other.array[order])
    np.testing.assert_array_equal(one.y, other.y[order])
    np.testing.assert_array_equal(one.lengths, other.lengths[order])
    assert one.features == other.features


@pytest.mark.parametrize("kind", [".csv", ".parquet", ".arrow", ".feather"])
def test_tables_of_every_kind_say_the_same(kind, tmp_path):
    table = long_table()
    expected = read(write(table, tmp_path / "a.csv"))  # by the reader that needs no library
    same(read(write(table, tmp_path / f"b{kind}")), expected)
    by_library = read_as(tmp_path / "a.csv", Form(missing="mean")).data  # nothing is missing
    same(by_library, expected)
    assert by_library.names == expected.names


@pytest.mark.parametrize("library", ["pyarrow", "polars", "pandas"])
def test_data_frames_of_every_kind_say_the_same(library):
    module = pytest.importorskip(library)
    table = long_table()
    frame = {"pyarrow": lambda: table, "polars": lambda: module.from_arrow(table), "pandas": table.to_pandas}[library]()
    data, form = sequences_from(frame)
    expected = read_as_table(table)
    same(data, expected)
    again, _ = sequences_from(frame, like=form)
    same(again, expected)


def read_as_table(table):
    from lstmjax.data.columns import Source
    from lstmjax.data.tables import from_table

    return from_table(Source(table, "table"), Form(), labels=True).data


def test_columns_have_the_names_of_the_configuration(tmp_path):
    table = long_table(
        person=lambda n, name, step: f"p{ord(name) % 3}", importance=lambda n, name, step: 1 + ord(name) % 4,
        note=lambda n, name, step: "some words",
    ).rename_columns(["id", "n", "a", "b", "kind", "person", "importance", "note"])  # fmt: skip
    path = write(table, tmp_path / "a.parquet")
    columns = Columns(
        sequence="id",
        step="n",
        features=("b",),
        target=("kind",),
        weight="importance",
        group="person",
        ignore=("note",),
    )
    found = read_as(path, Form(columns=columns))
    assert (found.data.features, found.data.x.shape[-1]) == (("b",), 1)
    np.testing.assert_array_equal(found.data.weight, [1 + ord(name) % 4 for name in found.data.names])
    np.testing.assert_array_equal(found.group, [f"p{ord(name) % 3}" for name in found.data.names])
    with pytest.raises(DataError, match=r"no column 'sequence'.*name it by data.columns.sequence.* id, n, a, b, kind"):
        read_as(path, Form(columns=Columns(target=("kind",)), layout="long"))


def test_times_order_the_rows_and_may_have_gaps(tmp_path):
    table = long_table(
        at=lambda n, name, step: (
            np.datetime64("2026-01-01T00:00", "s") + np.timedelta64(3600 * step * (1 + ord(name) % 5), "s")
        )
    )
    expected = read_as_table(table.drop_columns("at"))
    for at in (table.column("at"), pa.array([str(t) for t in table.column("at").to_pylist()])):
        frame = table.drop_columns(["at", "step"]).append_column("at", at)
        data, _ = sequences_from(frame, Columns(time="at"))
        same(data, expected)
    twice = pa.concat_tables([frame, frame.slice(2, 1)])
    with pytest.raises(
        DataError, match=r"the frame: row 17: column 'at': sequence '.' has the time 2026-01-01T.* twice"
    ):
        sequences_from(twice, Columns(time="at"))


# Wide


def test_a_wide_table_says_what_a_long_one_says(tmp_path):
    expected = read_as_table(long_table())
    x = expected.array.astype(object)
    x[~expected.valid()] = None
    columns = {f"{name}_{t}": x[:, t, n].tolist() for t in range(4) for n, name in enumerate("ab")}
    columns |= {"sequence": expected.names, "label": expected.y.tolist()}
    for kind in (".csv", ".parquet"):
        same(read(write(pa.table(columns), tmp_path / f"a{kind}")), expected)
    lists = {
        name: [expected.array[n, : expected.lengths[n], k].tolist() for n in range(6)] for k, name in enumerate("ab")
    }
    lists |= {"sequence": expected.names, "label": expected.y.tolist()}
    same(read(write(pa.table(lists), tmp_path / "lists.parquet")), expected)


def test_a_guessed_layout_is_said(tmp_path):
    source = write(pa.table(WIDE | {"a_1": [3.0, 4.0], "a_2": [5.0, None]}), tmp_path / "a.parquet")
    assert read_as(source, Form()).notes == ("wide table: a row is a sequence of 2 to 3 steps of a",)
    assert read_as(source, Form(layout="wide")).notes == ()


def test_numbered_columns_are_grouped_by_feature():
    assert numbered(("0", "1", "2")) == {"x": ["0", "1", "2"]}
    assert numbered(("t 1", "u 1", "u 2", "t 2")) == {"t": ["t 1", "t 2"], "u": ["u 1", "u 2"]}
    assert numbered(("v[0]", "v[1]")) == {"v": ["v[0]", "v[1]"]}
    for names in (("a0", "a2"), ("a0", "a1", "b0"), ("a", "b0"), ("a2", "a3"), ("a0", "a00")):
        assert numbered(names) is None


WIDE = {"a_0": [1.0, 2.0], "a_1": [3.0, None], "a_2": [5.0, 6.0], "label": ["x", "y"]}


@pytest.mark.parametrize(
    ("columns", "form", "message"),
    [
        (
            WIDE,
            {},
            "a.parquet: row 1: step 1 of 'a' is missing (1 such values in all); fill them, or say how by data.missing",
        ),
        (
            WIDE | {"age": [1, 2]},
            {},
            "is a row a step or a sequence? There is no column 'sequence' and no column 'step'",
        ),
        (
            WIDE | {"age": [1, 2]},
            {"layout": "wide"},
            "'age' has no number; leave out what is no feature by data.columns.ignore",
        ),
        (
            {"a_0": [1.0, None], "a_1": [2.0, None], "label": ["x", "y"]},
            {},
            "row 1: has no value at all; remove the row",
        ),
        (
            WIDE | {"sequence": ["u", "u"]},
            {"missing": "mean"},
            "column 'sequence' has names twice, but a row is a sequence",
        ),
        (
            {"a": [[1.0], [2.0, 3.0]], "b": [[1.0], [2.0]], "label": [0, 1]},
            {},
            "row 1: column 'b' has 1 step, but 'a' has 2",
        ),
        ({"a": [[1.0], [None]], "label": [0, 1]}, {}, "row 1: step 0 of 'a' is missing"),
        ({"a": [[1.0], []], "label": [0, 1]}, {}, "row 1: column 'a' is empty; remove the row"),
    ],
)
def test_a_mistake_in_a_wide_table_is_told(columns, form, message, tmp_path):
    write(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(DataError) as error:
        read_as(tmp_path / "a.parquet", Form(**form))
    assert message in str(error.value)


GOOD = {"sequence": ["u", "u", "v"], "step": [0, 1, 0], "a": [1.0, 2.0, 3.0], "label": ["x", "x", "y"]}


@pytest.mark.parametrize(
    ("columns", "columns_of", "message"),
    [
        ({"a": [1.0, None, 3.0]}, {}, "row 1: column 'a' is missing (1 such cells in all); fill them, or say how by d"),
        ({"a": [1.0, np.inf, 3.0]}, {}, "row 1: column 'a' is inf, expected a finite number that float32 holds; empty"),
        ({"a": [1.0, 1e39, 3.0]}, {}, "row 1: column 'a' is 1e+39, expected a finite number that float32 holds; give"),
        ({"a": ["1", "b", "c"]}, {}, "row 1: column 'a' is 'b', expected a number (2 such cells in all); name it by d"),
        ({"a": [[1.0], [2.0], [3.0]]}, {}, "column 'a' is list<"),
        ({"a": np.array([1, 2, 3], "datetime64[s]")}, {}, "column 'a' holds times (timestamp[ms]), expected numbers;"),
        ({"sequence": ["u", None, "v"]}, {}, "row 1: column 'sequence' is empty; fill the cell or remove the sequence"),
        ({"label": ["x", None, "y"]}, {}, "row 1: column 'label' is empty; fill the cell or remove the sequence"),
        ({"label": [1.5, None, 2.5]}, {}, "row 1: column 'label' is empty, and labels are never filled in"),
        ({"label": ["x", "z", "y"]}, {}, "row 1: column 'label' is 'z', but sequence 'u' began with 'x'; give a seque"),
        ({"step": [0, 2, 0]}, {}, "row 1: column 'step' is 2, but step 1 of sequence 'u' is missing; number the steps"),
        ({"step": [0, 0, 0]}, {}, "row 1: column 'step': sequence 'u' has step 0 twice; remove one"),
        ({"step": [5, 6, 5]}, {}, "column 'step': the first step is 5, expected 0 or 1"),
        ({"step": [0.0, 0.5, 0.0]}, {}, "column 'step' is double, expected the numbers of steps; if it is a time, set"),
        ({"w": [1.0, 1.0, 0.0]}, {"weight": "w"}, "column 'w' is 0 for sequence 'v', expected a number above 0"),
        ({"w": [1.0, 2.0, 1.0]}, {"weight": "w"}, "row 1: column 'w' is 2, but sequence 'u' began with 1; give a sequ"),
        ({}, {"features": ("aa",)}, "no column 'aa' (is 'a' meant?); name it by data.columns.features. The columns ar"),
        ({}, {"target": ("lable",)}, "no column 'lable' (is 'label' meant?); name it by data.columns.target"),
        ({}, {"ignore": ("a",)}, "no feature columns beside sequence, step, a, label; name them by data.columns.featu"),
        ({"day": ["x", "y", "z"]}, {"time": "day"}, "column 'day' holds words such as 'x', expected numbers or times"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_long_table_is_told(columns, columns_of, message, tmp_path):
    write(pa.table(GOOD | columns), tmp_path / "a.parquet")
    with pytest.raises(DataError) as error:
        read_as(tmp_path / "a.parquet", Form(columns=Columns(**columns_of), layout="long"))
    assert message in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "a.parquet"))


def test_a_mistake_in_a_csv_is_told_with_its_line(tmp_path):
    (tmp_path / "a.csv").write_text("sequence,step,a,label\nu,0,1,x\nu,1,b,x\n", "utf-8")
    with pytest.raises(DataError, match=r"a.csv:3: column 'a' is 'b', expected a number"):
        read_as(tmp_path / "a.csv", Form(missing="mean"))
    for text, message in (("sequence;step;a;label\n1;0;1;2\n", "by semicolons"), ("", "cannot be read as CSV")):
        (tmp_path / "a.csv").write_text(text, "utf-8")
        with pytest.raises(DataError, match=message):
            read_as(tmp_path / "a.csv", Form(missing="mean"))
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no parquet")
    with pytest.raises(DataError, match=r"a.parquet: cannot be read as Parquet \(.*\); write it anew"):
        read(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"frame is a list, expected a data frame, such as one of pandas"):
        sequences_from([1, 2])


def test_numbers_that_lose_digits_are_told(tmp_path):
    write(pa.table(GOOD | {"a": [1, 16_777_217, 3]}), tmp_path / "a.parquet")
    with pytest.warns(UserWarning, match=r"row 1: column 'a' is 16777217, which float32 keeps as 16777216 \(1 such"):
        read(tmp_path / "a.parquet")
    write(pa.table(GOOD | {"a": [1.7e18 + 1e5 * n for n in range(3)]}), tmp_path / "a.parquet")
    with pytest.warns(
        UserWarning, match=r"column 'a' has 3 different values of 2\^53 and more in size, of which float32 keeps 1"
    ):
        read(tmp_path / "a.parquet")


# Categories


def cities(names, seed=0):
    return long_table(seed, city=lambda n, name, step: names[(n + step) % len(names)])


def test_categories_are_columns_of_zeros_and_ones_and_unseen_ones_are_refused(tmp_path):
    columns = Columns(categorical=("city",))
    source = write(cities(["Rome", "Bern", "Oslo"]), tmp_path / "a.parquet")
    parts, about = load(Data(source=source, columns=columns, normalize="none"))
    assert about.features == ("a", "b", "city=Bern", "city=Oslo", "city=Rome")
    hot = np.concatenate([part.x.flat if isinstance(part.x, Ragged) else part.x.reshape(-1, 5) for part in parts[:2]])[
        :, 2:
    ]
    assert (hot.sum(axis=1) == 1).all()
    assert set(np.unique(hot)) == {0.0, 1.0}
    # A file with fewer categories has the same columns; one with another category is refused.
    few = unlabelled(write(cities(["Rome"]), tmp_path / "b.parquet"), about)
    assert few.features == about.features
    valid = few.valid_steps()
    np.testing.assert_array_equal(valid[:, 2:], np.tile([0, 0, 1], (len(valid), 1)))
    other = write(cities(["Rome", "Osla"]), tmp_path / "c.parquet")
    for use in (lambda: unlabelled(other, about), lambda: load(Data(source=source, test=other, columns=columns))):
        with pytest.raises(
            DataError,
            match=r"'city' is 'Osla', which is none of the 3 categories in training \(is 'Oslo' meant\?\): Bern, Os",
        ):
            use()
    with pytest.raises(
        DataError, match=r"column 'city' is 'Bern', expected a number .* name it by data.columns.categorical"
    ):
        load(Data(source=write(cities(["Bern"]), tmp_path / "d.parquet")))


def test_codes_of_categories_are_words_whatever_their_type(tmp_path):
    columns = Columns(categorical=("city",))
    for codes in ([1, 2, 3], [1.0, 2.0, 3.0], ["1", "2", "3"]):
        data, form = sequences_from(cities(codes), columns)
        assert form.categories == (("city", ("1", "2", "3")),)
        assert data.features[2:] == ("city=1", "city=2", "city=3")


# Labels of each step, and several targets


def test_labels_of_each_step_and_several_targets(tmp_path):
    table = long_table(
        tag=lambda n, name, step: "ab"[(n * step) % 2], y=lambda n, name, step: 0.5 * n, z=lambda n, name, step: n
    )
    tags, _ = sequences_from(table, Columns(target=("tag",), target_of="step", ignore=("label", "y", "z")))
    assert tags.y.shape == (6, 4)
    rows = {(r["sequence"], r["step"]): r for r in table.to_pylist()}
    for n, name in enumerate(tags.names):
        assert tags.y[n, : tags.lengths[n]].tolist() == [rows[name, t]["tag"] for t in range(tags.lengths[n])]
    for target, width in ((("z",), 1), (("y", "z"), 2)):
        columns = Columns(target=target, target_of="step", features=("a", "b"))
        source = write(table, tmp_path / "a.parquet")
        parts, about = load(Data(source=source, columns=columns, normalize_targets="none"), "linear")
        assert (about.per_step, about.output_size, parts.train.y.shape[1:]) == (True, width, (4, width))
        for part in parts[:2]:
            for n, name in enumerate(part.names):
                expected = [[rows[name, t][key] for key in target] for t in range(part.lengths[n])]
                np.testing.assert_allclose(part.y[n, : part.lengths[n]], expected, rtol=1e-6)
        again = labelled(source, about, "linear")
        assert again.y.shape == (6, 4, width)
    constant = long_table(y=lambda n, name, step: 0.5 * ord(name), z=lambda n, name, step: ord(name))
    parts, about = load(
        Data(
            source=write(constant, tmp_path / "b.csv"),
            columns=Columns(target=("y", "z"), features=("a", "b")),
            normalize_targets="none",
        ),
        "linear",
    )
    np.testing.assert_allclose(parts.train.y, [[0.5 * ord(name), ord(name)] for name in parts.train.names])


def test_a_csv_of_unequal_lengths_has_a_number_at_each_step(tmp_path):
    steps = [(name, t) for name, count in (("u", 2), ("v", 4), ("w", 3)) for t in range(count)]
    rows = {step: f"{value:.3f}" for step, value in zip(steps, np.random.default_rng(0).normal(size=9), strict=True)}
    path = tmp_path / "a.csv"
    path.write_text("sequence,step,a,z\n" + "".join(f"{s},{t},{t},{value}\n" for (s, t), value in rows.items()))
    columns = Columns(target=("z",), target_of="step")
    parts, about = load(Data(source=str(path), columns=columns, normalize_targets="none"), "linear")
    assert (about.per_step, about.output_size) == (True, 1)
    for part in parts[:2]:
        for n, name in enumerate(part.names):
            expected = [float(rows[name, t]) for t in range(part.lengths[n])]
            np.testing.assert_allclose(part.y[n, : part.lengths[n], 0], expected, rtol=1e-6)
            assert not part.y[n, part.lengths[n] :].any()
    path.write_text(path.read_text().replace(rows["v", 1], "much"))
    with pytest.raises(DataError, match=r"y holds no numbers .*'much'"):
        load(Data(source=str(path), columns=columns), "linear")


# Folders and text


def folder_of(table, path, kind):
    """A file for each sequence of a table, in folders that are named by its label."""
    rows = table.to_pylist()
    for name in NAMES:
        steps = sorted((row for row in rows if row["sequence"] == name), key=lambda row: row["step"])
        place = path / steps[0]["label"]
        place.mkdir(parents=True, exist_ok=True)
        if kind == ".npy":
            np.save(place / f"{name}.npy", [[row["a"], row["b"]] for row in steps])
        else:
            write(pa.table({key: [row[key] for row in steps] for key in "ab"}), place / f"{name}{kind}")


@pytest.mark.parametrize("kind", [".csv", ".parquet", ".npy"])
def test_a_folder_has_a_sequence_in_each_file_and_the_label_is_its_folder(kind, tmp_path):
    table = long_table()
    folder_of(table, tmp_path / "data", kind)
    (tmp_path / "data" / "README.md").write_text("not a sequence", "utf-8")
    (tmp_path / "data" / ".hidden.csv").write_text("x", "utf-8")
    found = read_as(tmp_path / "data", Form())
    assert found.notes == ("left out of data, as files of other kinds: README.md",)
    expected = read_as_table(table)
    plain = tuple(name.rpartition("/")[2].partition(".")[0] for name in found.data.names)
    features = ("a", "b") if kind != ".npy" else expected.features
    same(found.data._replace(names=plain, features=features), expected)
    # By a table, in which the labels are others.
    labels = pa.table(
        {"file": list(found.data.names), "label": [f"class {n % 2}" for n in range(6)], "who": list("ppqqrr")}
    )
    write(labels, tmp_path / "data" / "labels.csv")
    by_table = read_as(tmp_path / "data", Form(columns=Columns(group="who")), table=tmp_path / "data" / "labels.csv")
    assert by_table.data.y.tolist() == [f"class {n % 2}" for n in range(6)]
    assert by_table.group.tolist() == list("ppqqrr")
    np.testing.assert_array_equal(by_table.data.array, found.data.array)
    _parts, about = load(Data(source=str(tmp_path / "data"), table=str(tmp_path / "data" / "labels.csv")))
    assert about.classes == ("class 0", "class 1")


def test_a_mistake_in_a_folder_is_told(tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match=r"none: has no file that ends in \.csv, "):
        read(tmp_path / "none")
    folder_of(long_table(), tmp_path / "data", ".csv")
    (tmp_path / "data" / "bare.csv").write_text("a,b\n1,2\n", "utf-8")
    with pytest.raises(
        DataError, match=r"what is the label of bare.csv\? Put .* the columns 'file' and 'label' by data.table"
    ):
        read(tmp_path / "data")
    (tmp_path / "data" / "bare.csv").unlink()
    (tmp_path / "data" / "up" / "other.csv").write_text("a,c\n1,2\n", "utf-8")
    with pytest.raises(
        DataError, match=r"other.csv: has the columns a, c, but v.csv has a, b; give all files the same"
    ):
        read(tmp_path / "data")
    (tmp_path / "data" / "up" / "other.csv").write_text("a,b\n", "utf-8")
    with pytest.raises(DataError, match=r"other.csv: has no steps; remove the file"):
        read(tmp_path / "data")
    (tmp_path / "data" / "up" / "other.csv").unlink()
    write(pa.table({"file": ["up/u.csv"], "label": ["x"]}), tmp_path / "labels.csv")
    with pytest.raises(DataError, match=r"labels.csv: no row for file 'down/v.csv' \(5 such files in all\); add it"):
        read_as(tmp_path / "data", Form(), table=tmp_path / "labels.csv")
    with pytest.raises(DataError, match=r"groups and weights of files stand in a table; name it by data.table"):
        read_as(tmp_path / "data", Form(columns=Columns(group="who")))
    with pytest.raises(DataError, match=r"is a file, but data.table is for a folder"):
        read_as(tmp_path / "labels.csv", Form(), table=tmp_path / "labels.csv")


def test_each_character_of_a_text_is_a_step(tmp_path):
    texts = {"anna": "palindrome", "otto": "palindrome", "hans": "other", "no": "other"}
    (tmp_path / "a.txt").write_text("".join(f"{label}\t{text}\n\n" for text, label in texts.items()), "utf-8")
    for text, label in texts.items():
        (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / label / f"{text}.txt").write_text(text, "utf-8")
    letters = "ahnost"
    for path in (tmp_path / "a.txt", tmp_path / "data"):
        found = read_as(path, Form()).data
        assert found.features == tuple(f"character={letter}" for letter in letters)
        for n, label in enumerate(found.y):
            word = "".join(letters[k] for k in found.x[n, : found.lengths[n]].argmax(axis=1))
            assert texts[word] == label
    _parts, about = load(Data(source=str(tmp_path / "a.txt"), validation=str(tmp_path / "a.txt")))
    (tmp_path / "new.txt").write_text("hannah\nx\totto\n", "utf-8")
    new = unlabelled(tmp_path / "new.txt", about)
    assert new.lengths.tolist() == [6, 4]
    (tmp_path / "new.txt").write_text("hannes\n", "utf-8")
    with pytest.raises(
        DataError, match=r"'character' is 'e', which is none of the 6 categories in training: a, h, n, o, s, t"
    ):
        unlabelled(tmp_path / "new.txt", about)
    (tmp_path / "b.txt").write_text("word without a label\n", "utf-8")
    with pytest.raises(DataError, match=r"b.txt:1: has no label; write the label, a tab, and the text"):
        read(tmp_path / "b.txt")
