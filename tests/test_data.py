import zipfile

import numpy as np
import pytest
from training import write_sequences

from lstmjax.config import Data
from lstmjax.data import (
    About,
    DataError,
    Sequences,
    batch,
    batch_rows,
    digits,
    fables,
    labelled,
    load,
    read,
    steps_per_epoch,
)

GOOD = "sequence,step,a,b,label\nu,0,1,2,yes\nu,1,3,4,yes\nv,0,5,6,no\n"


def test_the_digits_are_the_known_ones():
    parts = digits()
    assert [len(part.x) for part in parts[:3]] == [1149, 288, 360]
    y = np.concatenate([part.y for part in parts[:3]])
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # as UCI counts them
    x = np.concatenate([part.x for part in parts[:3]])
    assert (x.min(), x.max(), x.shape[1:]) == (0, 16, (8, 8))
    # The first image, as it is printed in scikit-learn's documentation.
    assert x[0, :3].tolist() == [[0, 0, 5, 13, 9, 1, 0, 0], [0, 0, 13, 15, 10, 15, 5, 0], [0, 3, 15, 2, 0, 11, 8, 0]]
    scaled, about = load(Data())
    np.testing.assert_array_equal(scaled.test.x, parts.test.x / 16)
    assert about.classes == tuple("0123456789")


def test_the_fables_are_four_with_what_was_said_between_marks():
    text = fables()
    titles = [line for line in text.split("\n") if " and the " in line[:18]]
    assert [title[:8] for title in titles] == ["The Hare", "The Lion", "The Ants", "The Crow"]
    said = text.split('"')[1::2]
    assert len(said) == 6
    assert all(words[0].isupper() and words[-1] in ".?" for words in said)


def test_npz_is_read_as_it_was_written(tmp_path):
    x, y, lengths = write_sequences(tmp_path / "a.npz")
    data = read(tmp_path / "a.npz")
    valid = np.arange(6) < lengths[:, None]
    np.testing.assert_array_equal(data.x[valid], x[valid])
    assert (data.x[~valid] == 0).all()
    np.testing.assert_array_equal(data.y, y)
    np.testing.assert_array_equal(data.lengths, lengths)


def test_csv_says_what_npz_says(tmp_path):
    x, y, lengths = write_sequences(tmp_path / "a.npz", target="word")
    cells = [[",".join(repr(float(v)) for v in step) for step in sequence] for sequence in x]
    rows = [f"s{n},{t + 1},{cells[n][t]},{y[n]}" for n in range(len(x)) for t in range(lengths[n])]
    order = np.random.default_rng(3).permutation(len(rows))  # rows may stand anywhere
    (tmp_path / "a.csv").write_text("\n".join(["sequence,step,a,b,c,label", *(rows[k] for k in order)]), "utf-8")
    one, other = read(tmp_path / "a.npz"), read(tmp_path / "a.csv")
    place = [other.names.index(f"s{n}") for n in range(len(x))]
    np.testing.assert_array_equal(other.x[place][:, : lengths.max()], one.x[:, : lengths.max()])
    np.testing.assert_array_equal(other.y[place], y)
    np.testing.assert_array_equal(other.lengths[place], lengths)
    assert other.features == ("a", "b", "c")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.csv:1: no column 'sequence'"),
        ("seqence,step,a,label\n", "a.csv:1: no column 'sequence' (is 'seqence' meant?)"),
        ("sequence,step,label\n", "a.csv:1: no feature columns; expected the columns sequence, step"),
        ("sequence,step,a,a,label\n", "a.csv:1: column 'a' is there twice; rename one of them"),
        ("sequence,step,a,,label\n", "a.csv:1: column 4 has no name"),
        ("sequence,step,a,label\n", "a.csv: has no rows below the first line"),
        (GOOD + "v,1,7,no\n", "a.csv:5: 4 cells, but the first line names 5 columns"),
        (GOOD + "v,1,7,,no\n", "a.csv:5: column 'b' is empty; fill the cell or remove the sequence"),
        (GOOD + "v,1,7,8,\n", "a.csv:5: column 'label' is empty"),
        (GOOD + "v,1,7,x8,no\n", "a.csv:5: column 'b' is 'x8', expected a finite number"),
        (GOOD + "v,1,7,nan,no\n", "a.csv:5: column 'b' is 'nan', expected a finite number"),
        (
            GOOD + "v,1,7,1e39,no\n",
            "a.csv:5: column 'b' is '1e39', expected a finite number that float32 holds; give it",
        ),
        (GOOD.replace(",", ";"), "a.csv:1: the columns are separated by semicolons; write it with commas"),
        (GOOD.replace(",", "\t"), "a.csv:1: the columns are separated by tabs; write it with commas"),
        (GOOD + "v,one,7,8,no\n", "a.csv:5: column 'step' is 'one', expected a whole number"),
        (GOOD + "v,2,7,8,no\n", "a.csv:5: column 'step' is 2, but step 1 of sequence 'v' is missing"),
        (GOOD + "w,1,7,8,no\n", "a.csv:5: column 'step' is 1, but step 0 of sequence 'w' is missing"),
        (GOOD + "u,1,7,8,yes\n", "a.csv:5: column 'step': sequence 'u' has step 1 twice; remove one"),
        (GOOD + "v,1,7,8,yes\n", "a.csv:5: column 'label' is 'yes', but sequence 'v' began with 'no'"),
        (GOOD.replace(",0,", ",7,").replace(",1,3", ",8,3"), "a.csv: the first step is 7, expected 0 or 1"),
        (GOOD + 'v,1,"7,8,no\n', "a.csv: cannot be read as CSV"),
    ],
)
def test_a_mistake_in_a_csv_is_told_with_line_and_column(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as error:
        read(tmp_path / "a.csv")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


X = np.random.default_rng(1).normal(size=(5, 4, 3)).astype(np.float32)
Y = np.arange(5) % 2


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": Y}, "no array 'x'; expected x [sequences, steps, features]"),
        ({"x": X}, "no array 'y'"),
        ({"x": X, "y": Y, "length": Y}, "unknown array 'length'; did you mean 'lengths'?"),
        ({"x": X[0], "y": Y}, "x has shape (4, 3), expected [sequences, steps, features]"),
        ({"x": X, "y": Y[:4]}, "y has shape (4,), but x has 5 sequences"),
        ({"x": X.astype("U9"), "y": Y}, "x is <U9, expected numbers"),
        ({"x": X[:0], "y": Y[:0]}, "so there is nothing in it"),
        ({"x": X, "y": Y, "lengths": Y}, "lengths[0] is 0, expected 1 to T = 4; remove empty sequences"),
        ({"x": X, "y": Y, "lengths": Y + 4}, "lengths[1] is 5, expected 1 to T = 4"),
        ({"x": X, "y": Y, "lengths": X[:, 0, 0]}, "lengths is float32 (5,), expected 5 whole numbers"),
        (
            {"x": np.where(np.isin(X, X[2, 1, 0]), np.nan, X), "y": Y},
            "x[2, 1, 0] is nan; fill or remove missing values",
        ),
        ({"x": X, "y": np.where(Y, np.inf, 1.0)}, "y[1] is inf; fill or remove missing values (2 in all)"),
        ({"x": X.astype(float) * 1e60, "y": Y}, "too large for float32; give it in other units (60 in all)"),
        ({"x": X, "y": Y.astype(object)}, "cannot be read as NPZ (Object arrays cannot be loaded); write"),
    ],
)
def test_a_mistake_in_an_npz_is_told(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError) as error:
        read(tmp_path / "a.npz")
    assert message in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "a.npz"))


def test_a_file_that_is_none_is_told(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"no zip at all")
    for name, message in (
        ("a.npz", "cannot be read as NPZ"),
        ("b.npz", "no such file; relative paths are read from the folder in which the command runs"),
        ("a.xls", "unknown kind of file; expected a name that ends in .npz, .npy, .csv"),
    ):
        with pytest.raises(DataError, match=message):
            read(tmp_path / name)
    np.save(tmp_path / "a.npy", X)
    (tmp_path / "array.npz").write_bytes((tmp_path / "a.npy").read_bytes())
    (tmp_path / "text.npy").write_bytes(b"1,2,3")
    np.savez(tmp_path / "archive.npz", x=X)
    (tmp_path / "archive.npz").replace(tmp_path / "archive.npy")
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as file:
        file.writestr("x", "1,2,3")
    for name, message in (
        ("array.npz", "it is one array, as np.save writes it; name it .npy, or write it by np.savez"),
        ("text.npz", "'x' in it is no array; write it by np.savez"),
        ("text.npy", "it is no array; write it by np.save"),
        ("archive.npy", "it is an archive, as np.savez writes it; name it .npz"),
    ):
        with pytest.raises(DataError, match=message) as error:
            read(tmp_path / name, labels=False)
        assert "pickle" not in str(error.value)
    with pytest.raises(DataError, match="an NPY file has no labels"):
        read(tmp_path / "a.npy")
    assert read(tmp_path / "a.npy", labels=False).x.shape == (5, 4, 3)


@pytest.mark.parametrize(
    ("target", "loss", "message"),
    [
        ("number", "softmax", "y is float32; classes are whole numbers or words"),
        ("switch", "softmax", "y is [sequences, 2]; classes are [sequences]"),
        ("word", "linear", "y holds no numbers"),
        ("number", "sigmoid", "labels that may hold together are 0 or 1 each"),
    ],
)
def test_labels_that_do_not_fit_the_loss_are_told(tmp_path, target, loss, message):
    write_sequences(tmp_path / "a.npz", target=target)
    with pytest.raises(DataError) as error:
        load(Data(source=str(tmp_path / "a.npz")), loss)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("train", "other", "loss", "message"),
    [
        ("number", "switch", "linear", "y is 2 wide, but the network learns 1 for each sequence"),
        ("number", "number_each_step", "linear", "y is for each step, but the network learns it for each sequence"),
        ("class", "class_each_step", "softmax", "y is for each step, but the network learns it for each sequence"),
        ("class_each_step", "class", "softmax", "y is for each sequence, but the network learns it for each step"),
    ],
)
def test_targets_of_another_kind_are_told_with_their_file(tmp_path, train, other, loss, message):
    a, b = str(tmp_path / "a.npz"), str(tmp_path / "b.npz")
    write_sequences(a, target=train)
    write_sequences(b, target=other)
    _, about = load(Data(source=a), loss)
    for use in (
        lambda: load(Data(source=a, validation=b), loss),
        lambda: load(Data(source=a, test=b), loss),
        lambda: labelled(b, about, loss),
    ):
        with pytest.raises(DataError) as error:
            use()
        assert str(error.value) == f"{b}: {message}"


def test_labels_of_another_file_are_told_with_that_file(tmp_path):
    a, b, csv = (str(tmp_path / name) for name in ("a.npz", "b.npz", "a.csv"))
    np.savez(a, x=X, y=Y)
    np.savez(b, x=X, y=np.where(Y, "up", "down"))
    with pytest.raises(DataError) as error:
        load(Data(source=a, validation=b))
    assert str(error.value).startswith(f"{b}: labels such as 'down', but {a} has labels such as '0'; name the classes")
    np.savez(b, x=X, y=Y + 1)
    with pytest.raises(DataError) as error:
        load(Data(source=a, test=b))
    assert str(error.value) == f"{b}: label '2' is none of the 2 classes in training"
    # Numbers in an NPZ file and the same ones in a CSV file are the same classes.
    (tmp_path / "a.csv").write_text("sequence,step,a,b,c,label\nu,0,1,2,3,1\nv,0,1,2,3,0\n", "utf-8")
    assert load(Data(source=a, validation=csv))[1].classes == ("0", "1")
    (tmp_path / "b.csv").write_text("sequence,step,a,c,b,label\nu,0,1,2,3,1\nv,0,1,2,3,0\n", "utf-8")
    with pytest.raises(DataError) as error:
        load(Data(source=csv, validation=str(tmp_path / "b.csv")))
    assert str(error.value).startswith(f"{tmp_path / 'b.csv'}: the feature columns are a, c, b, but")


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.array(["1.5", "nan", "2", "3", "4"]), "y[1] is nan; fill or remove missing values (1 in all)"),
        (np.array(["1.5", "1", "-inf", "3", "4"]), "y[2] is -inf; fill or remove missing values"),
        (np.array(["1.5", "1", "2", "1e300", "4"]), "y[3] is 1e300; too large for float32; give it in other units"),
        (Y * 1e300, "y[1] is 1e+300; too large for float32; give it in other units (2 in all)"),
        (Y * 1j, "y is complex128, expected real numbers"),
    ],
)
def test_numbers_that_cannot_be_learned_are_told(tmp_path, y, message):
    np.savez(tmp_path / "a.npz", x=X, y=y)
    with pytest.raises(DataError) as error:
        load(Data(source=str(tmp_path / "a.npz")), "linear")
    assert str(error.value).startswith(f"{tmp_path / 'a.npz'}: {message}")


def test_standardize_uses_the_training_part_and_its_valid_steps(tmp_path):
    x, _, lengths = write_sequences(tmp_path / "a.npz")
    _, _, more = write_sequences(tmp_path / "b.npz", seed=5)
    parts, about = load(
        Data(source=str(tmp_path / "a.npz"), validation=str(tmp_path / "b.npz"), normalize="standardize")
    )
    steps = np.concatenate([x[n, : lengths[n]] for n in range(len(x))]).astype(np.float64)
    np.testing.assert_allclose(about.offset, steps.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(about.scale, steps.std(axis=0), rtol=1e-12)
    np.testing.assert_allclose(
        parts.train.x[3, : lengths[3]], (x[3, : lengths[3]] - steps.mean(0)) / steps.std(0), rtol=1e-5
    )
    assert (len(parts.validation.x), parts.test) == (len(more), None)


def test_the_split_is_the_same_for_all_and_leaves_nothing_out(tmp_path):
    x, _, _ = write_sequences(tmp_path / "a.npz", ragged=False)
    parts, about = load(Data(source=str(tmp_path / "a.npz"), validation_fraction=0.25))
    again, _ = load(Data(source=str(tmp_path / "a.npz"), validation_fraction=0.25))
    assert (len(parts.train.x), len(parts.validation.x)) == (30, 10)
    np.testing.assert_array_equal(parts.train.x, again.train.x)
    both = np.concatenate([parts.train.x, parts.validation.x])
    np.testing.assert_array_equal(np.sort(both, axis=0), np.sort(x, axis=0))
    other, about_other = load(Data(source=str(tmp_path / "a.npz"), validation_fraction=0.3))
    assert about.fingerprint != about_other.fingerprint
    assert len(other.validation.x) == 12


def test_classes_keep_their_names(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=np.array([10, 9, 10, 9, 10]))
    np.savez(tmp_path / "b.npz", x=X, y=np.array([10, 9, 9, 9, 11]))
    parts, about = load(Data(source=str(tmp_path / "a.npz"), validation=str(tmp_path / "a.npz")))
    assert about.classes == ("9", "10")
    assert parts.train.y.tolist() == [1, 0, 1, 0, 1]
    with pytest.raises(DataError, match="label '11' is none of the 2 classes in training"):
        labelled(str(tmp_path / "b.npz"), about, "softmax")


def test_what_does_not_fit_the_network_is_told():
    about = About(
        input_size=3, output_size=2, per_step=False, classes=None, offset=(0.0,) * 3, scale=(1.0,) * 3,
        features=("a", "b", "c"), fingerprint=0,
    )  # fmt: skip
    with pytest.raises(DataError, match=r"in.npy: 2 features at each step, but the network was trained on I = 3"):
        about.scaled(Sequences(X[..., :2]), "in.npy")
    with pytest.raises(DataError, match="the feature columns are a, c, b, but the network was trained on a, b, c"):
        about.scaled(Sequences(X, features=("a", "c", "b")))


def test_an_epoch_takes_each_sequence_once_in_an_order_of_its_own():
    count, size = 23, 5
    assert steps_per_epoch(count, size) == 4
    first, second = (
        np.concatenate([batch_rows(count, size, seed=7, step=4 * e + s) for s in range(4)]) for e in range(2)
    )
    assert len(set(first.tolist())) == len(set(second.tolist())) == 20
    assert first.tolist() != second.tolist()
    assert batch_rows(count, size, seed=8, step=0).tolist() != first[:5].tolist()
    x = np.arange(23.0).reshape(23, 1, 1)
    chosen = batch(Sequences(x, np.arange(23)), size, seed=7, step=2)
    np.testing.assert_array_equal(chosen.x[:, 0, 0], first[10:15])
    np.testing.assert_array_equal(chosen.y, first[10:15])
    with pytest.raises(DataError, match="batch_size is 24, but only 23 sequences train; set it to 23 at most"):
        steps_per_epoch(count, 24)
