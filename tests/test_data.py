import re
import tracemalloc
import zipfile

import numpy as np
import pytest
from training import write_sequences

from lstmjax import claims
from lstmjax.config import ConfigError, Data, load_config
from lstmjax.data import (
    About,
    DataError,
    Sequences,
    batch,
    batch_rows,
    digits,
    fables,
    files,
    labelled,
    load,
    read,
    steps_per_epoch,
    table,
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
        ("sequence,step,a,a,label\n", "a.csv:1: column 'a' appears twice; rename one of them"),
        ("sequence,step,a,,label\nu,0,1,2,yes\n", "a.csv:1: column 4 has no name, but line 2 has '2' in it"),
        ("sequence,step,a,label\n", "a.csv: has no rows below the first line"),
        (GOOD + "v,1,7,no\n", "a.csv:5: 4 cells, but the first line names 5 columns"),
        (
            GOOD + "v,1,7,,no\n",
            "a.csv:5: column 'b' is empty; fill the cell or remove the sequence, or say by data.missing",
        ),
        (GOOD + "v,1,7,8,\n", "a.csv:5: column 'label' is empty"),
        (
            GOOD + "v,1,7,x8,no\n",
            "a.csv:5: column 'b' is 'x8', expected a finite number; fill the cell or remove the sequence, or name",
        ),
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


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_csv_is_read_in_blocks(tmp_path, monkeypatch, size):
    (tmp_path / "a.csv").write_text(GOOD + "v,1,7,8.5,no\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text(GOOD + "v,1,7,b,no\n", encoding="utf-8")
    (tmp_path / "c.csv").write_text(GOOD + "u,2,16777217,16777219,yes\nv,1,16777221,8,no\n", encoding="utf-8")
    monkeypatch.setattr(table, "BLOCK", size)
    data = read(tmp_path / "a.csv")
    np.testing.assert_array_equal(data.x, [[[1, 2], [3, 4]], [[5, 6], [7, 8.5]]])
    assert (data.y.tolist(), data.names, data.lengths) == (["yes", "no"], ("u", "v"), None)
    with pytest.raises(DataError, match=r"b.csv:5: column 'b' is 'b', expected a finite number"):
        read(tmp_path / "b.csv")
    with pytest.warns(UserWarning, match=r"c.csv:5: column 'a' is 16777217, .* as 16777216 \(3 such numbers in all\)"):
        read(tmp_path / "c.csv")


@pytest.mark.parametrize("ends", [",", ",,", " , ,"])
def test_empty_columns_without_a_name_are_dropped(tmp_path, ends):
    (tmp_path / "a.csv").write_text(GOOD, encoding="utf-8")
    (tmp_path / "b.csv").write_text("".join(f"{line}{ends}\n" for line in GOOD.splitlines()), encoding="utf-8")
    plain, data = read(tmp_path / "a.csv"), read(tmp_path / "b.csv")
    np.testing.assert_array_equal(data.x, plain.x)
    assert (data.names, data.features, data.y.tolist()) == (plain.names, plain.features, plain.y.tolist())


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("utf-16", "is in UTF-16 (Unicode in spreadsheets and editors); save it as UTF-8"),
        ("utf-16-le", "is in UTF-16, or no text, by its many zero bytes; save it as text in UTF-8"),
        ("latin-1", "is not in UTF-8 but in another encoding, such as Latin-1 or Windows-1252; save it as "),
    ],
)
def test_other_encodings_are_named(tmp_path, encoding, message):
    (tmp_path / "a.csv").write_text(GOOD.replace("yes", "größer"), encoding=encoding)
    with pytest.raises(DataError, match=re.escape(f"a.csv: {message}")):
        read(tmp_path / "a.csv")
    (tmp_path / "a.yaml").write_text("epochs: 3  # größer\n", encoding=encoding)
    with pytest.raises(ConfigError, match=re.escape(f"a.yaml: {message}")):
        load_config(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("v,1,7,1_000,no\n", "a.csv:5: column 'b' is '1_000', expected a finite number; write 1000, in digits 0 to 9"),
        ("v,1,１2,8,no\n", "a.csv:5: column 'a' is '１2', expected a finite number; write 12, in digits 0 to 9"),
        ("v,1,7,٣.٥,no\n", "a.csv:5: column 'b' is '٣.٥', expected a finite number; write 3.5, in digits 0 to 9"),
        ("v,1_0,7,8,no\n", "a.csv:5: column 'step' is '1_0', expected a whole number in digits 0 to 9"),
        ("v,１,7,8,no\n", "a.csv:5: column 'step' is '１', expected a whole number in digits 0 to 9"),
        (f"v,{'1' * 5000},7,8,no\n", "a.csv:5: column 'step' is '1111"),
        (f"v,{10**30},7,8,no\n", f"column 'step' is '{10**30}'; number the steps of each sequence from 0 or 1"),
    ],
)
def test_a_csv_takes_decimal_digits_only(tmp_path, row, message):
    (tmp_path / "a.csv").write_text(GOOD + row, encoding="utf-8")
    with pytest.raises(DataError) as error:
        read(tmp_path / "a.csv")
    assert message in str(error.value)
    assert len(str(error.value)) < 300


def test_targets_of_words_take_decimal_digits_only(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=np.array(["1", "2", "1_000", "3", "4"]))
    with pytest.raises(DataError, match=r"y holds no numbers .could not convert string to float: '1_000'"):
        load(Data(source=str(tmp_path / "a.npz")), "linear")


def test_whole_numbers_that_lose_digits_are_told(tmp_path):
    (tmp_path / "a.csv").write_text(GOOD.replace(",3,", ",1.700000001e9,"), encoding="utf-8")
    with pytest.warns(UserWarning, match="a.csv:3: column 'a' is 1.700000001e9, which float32 keeps as 17"):
        assert read(tmp_path / "a.csv").x[0, 1, 0] == 1.7e9
    for kind in (np.int64, np.float64):
        x = X.astype(kind)
        x[2, 1, 0] = 1_700_000_001
        np.savez(tmp_path / "a.npz", x=x, y=Y)
        with pytest.warns(
            UserWarning, match=r"a.npz: x\[2, 1, 0\] is 1700000001(.0)?, which float32 keeps as 1700000000 "
        ):
            read(tmp_path / "a.npz")
    for value in (16_777_216, 0.1, 3.3e20, 1.7e9):  # whole and kept, or no whole number that counts something
        np.savez(tmp_path / "a.npz", x=np.where(X[2, 1, 0] == X, value, 0.0), y=Y)
        assert read(tmp_path / "a.npz").x[2, 1, 0] == np.float32(value)


@pytest.mark.parametrize("value", [2**53 + 1, 1_700_000_000_000_000_000, -(2**62) - 1, 2**63 - 1, 2**64 - 1])
def test_whole_numbers_of_any_size_that_lose_digits_are_named(value, tmp_path):
    kept = int(np.float32(value))
    for written in (str(value), f"{value}.0", str(value).replace("-", "-00")):
        (tmp_path / "a.csv").write_text(GOOD.replace(",3,", f",{written},"), encoding="utf-8")
        with pytest.warns(UserWarning, match=f"a.csv:3: column 'a' is 0*{written}, which float32 keeps as {kept} "):
            assert read(tmp_path / "a.csv").x[0, 1, 0] == kept
    kinds = [kind for kind in (np.int64, np.uint64) if np.iinfo(kind).min <= value <= np.iinfo(kind).max]
    for kind in kinds:
        x = np.zeros(X.shape, kind)
        x[2, 1, 0], x[3] = value, 2**24
        np.savez(tmp_path / "a.npz", x=x, y=Y)
        with pytest.warns(UserWarning, match=rf"x\[2, 1, 0\] is {value}, .* keeps as {kept} \(1 such numbers in all"):
            assert read(tmp_path / "a.npz").x[2, 1, 0] == kept
    np.savez(tmp_path / "a.npz", x=X, y=np.array([str(value), "1", "2", "3", "4"]))
    with pytest.warns(UserWarning, match=rf"y\[0\] is {value}, which float32 keeps as {kept} "):
        load(Data(source=str(tmp_path / "a.npz")), "linear")


def test_large_numbers_that_float32_merges_are_told(tmp_path):
    times = 1.7e18 + 1e9 * np.arange(X.size).reshape(X.shape)  # a second apart, in nanoseconds
    distinct = [len(np.unique(times[..., i].astype(np.float32))) for i in range(3)]
    assert max(distinct) < 10
    x = X.astype(np.float64)
    x[..., 1] = times[..., 1]
    np.savez(tmp_path / "a.npz", x=x, y=Y)
    with pytest.warns(
        UserWarning, match=rf"a.npz: x\[..., 1\] has 20 different values of 2\^53 .* float32 keeps {distinct[1]} apart"
    ):
        read(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", x=X, y=times[:, 0, 0])
    with pytest.warns(UserWarning, match="a.npz: y has 5 different values"):
        load(Data(source=str(tmp_path / "a.npz")), "linear")
    # Physical quantities, which float32 keeps to seven digits, and padding.
    x[..., 1] = 3.3e20 * (1 + np.arange(20).reshape(5, 4) / 1e4)
    x[:, 2:, 1] = times[:, 2:, 1]
    np.savez(tmp_path / "a.npz", x=x, y=Y, lengths=np.full(5, 2))
    read(tmp_path / "a.npz")


def test_large_whole_numbers_that_float32_holds_are_taken_without_a_warning(tmp_path):
    for value in (2**60, -(2**63), 2**24):
        (tmp_path / "a.csv").write_text(GOOD.replace(",3,", f",{value},"), encoding="utf-8")
        np.savez(tmp_path / "a.npz", x=np.full(X.shape, value), y=Y)
        assert read(tmp_path / "a.csv").x[0, 1, 0] == read(tmp_path / "a.npz").x[0, 0, 0] == value


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


def header(shape, dtype="<f4", version=1):
    """The beginning of an NPY file with this header, whatever it claims."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}".encode()
    size = len(text).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + text


CLAIMS = {
    "many": (header("(1000000000000, 5, 2)"), "claims to have 40,000,000,000,000 bytes in 82"),
    "very many": (header(f"({10**30}, 5, 2)"), "claims to have 40,000,000,000,000,000,"),
    "a little more": (header("(3, 5, 2)") + bytes(119), "claims to have 120 bytes, and ends before"),
    "no number": (header("(True, 5, 2)") + bytes(40), "claims to have the shape (True, 5, 2), which is impossible"),
    "below 0": (header("(-1, 5, 2)") + bytes(40), "claims to have the shape (-1, 5, 2), which is impossible"),
    "no bytes": (header("(1000000000000,)", "<U0"), "claims to have 1,000,000,000,000 bytes in"),
    "cut off": (header("(3,5"), "has a header that states no shape and dtype"),
    "expression": (header("(10**12, 5, 2)"), "has a header that states no shape and dtype"),
    "no dtype": (header("(3, 5, 2)", "float99"), "has a header that states no shape and dtype"),
    "short": (header("(3, 5, 2)")[:40], "EOF"),
    "deep": (header("(" * 3000), "cannot be read as"),
    "version": (header("(3, 5, 2)", version=7), "is of version (7, 0) of the NPY format"),
    "objects": (header("(3, 5, 2)", "|O"), "Object arrays cannot be loaded"),
}


@pytest.mark.parametrize("end", [".npy", ".npz"])
@pytest.mark.parametrize("name", CLAIMS)
def test_what_a_header_claims_is_checked_against_bytes(tmp_path, name, end):
    content, message = CLAIMS[name]
    path = tmp_path / f"a{end}"
    if end == ".npy":
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("x.npy", content)
    with pytest.raises(DataError) as error:
        read(path, labels=False)
    assert message in str(error.value)
    assert str(error.value).startswith(f"{path}: cannot be read as {end[1:].upper()} (")
    assert "write it by np.save" in str(error.value)
    assert "\n" not in str(error.value)
    assert "pickle" not in str(error.value)


def test_an_archive_that_unpacks_to_far_more_than_it_is_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "FREE", 2**16)  # so that the bomb can be small
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((1000, 50, 7), np.float32), y=np.arange(1000) % 2)
    with pytest.raises(
        DataError, match=r"claims to hold 1,4.* bytes of arrays in .*; write it by np.savez, uncompressed"
    ):
        read(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", x=np.zeros((1000, 50, 7), np.float32), y=np.arange(1000) % 2)
    assert read(tmp_path / "a.npz").x.shape == (1000, 50, 7)
    np.savez_compressed(tmp_path / "b.npz", x=np.zeros((200, 100, 3), np.uint8), y=np.arange(200) % 2)
    with pytest.raises(DataError, match="claims to hold 240,000 bytes of arrays"):  # four bytes each as float32
        read(tmp_path / "b.npz")


def test_what_is_larger_than_the_memory_is_one_line(tmp_path, monkeypatch):
    write_sequences(tmp_path / "a.npz")
    np.save(tmp_path / "a.npy", X)
    (tmp_path / "a.csv").write_text(GOOD, encoding="utf-8")
    monkeypatch.setattr(claims, "available", lambda: 10)
    for name in ("a.npz", "a.npy", "a.csv"):
        with pytest.raises(DataError, match="of memory") as error:
            read(tmp_path / name, labels=name != "a.npy")
        assert str(error.value).startswith(str(tmp_path / name))

    def full(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr(files, "READERS", dict.fromkeys(files.READERS, full))
    for name in ("a.npz", "a.npy", "a.csv"):
        with pytest.raises(DataError, match="there is not enough memory for it; give less of it, or use a computer"):
            read(tmp_path / name)


def test_unequal_sequences_of_a_csv_take_the_memory_of_their_steps(tmp_path, monkeypatch):
    count = 5_000  # one sequence of so many steps, and so many of one: 0.2 MB that would be padded to 0.2 GB
    monkeypatch.setattr(table, "BLOCK", 1000)  # as small for this file as it is for a real one
    long = [f"long,{t},{t / 7},2,a" for t in range(count)]
    short = [f"s{n},0,1,{-n},b" for n in range(count)]
    (tmp_path / "a.csv").write_text("\n".join(["sequence,step,p,q,label", *long, *short]), encoding="utf-8")
    tracemalloc.start()
    source = str(tmp_path / "a.csv")
    parts, about = load(Data(source=source, validation=source, normalize="none"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * (tmp_path / "a.csv").stat().st_size
    x = parts.train.x
    assert (x.shape, len(x.flat), about.classes) == ((count + 1, count, 2), 2 * count, ("a", "b"))
    np.testing.assert_array_equal(x[0, :, 0], (np.arange(count) / 7).astype(np.float32))
    np.testing.assert_array_equal(x[[count, 5], :2, 1], [[1 - count, 0], [-4, 0]])


def test_a_long_label_takes_the_memory_of_one(tmp_path):
    long = "a" * 100_000
    rows = [f"s{n},0,1,{long if n == 7 else 'b'}" for n in range(1000)]
    (tmp_path / "a.csv").write_text("\n".join(["sequence,step,p,label", *rows]), encoding="utf-8")
    tracemalloc.start()
    parts, about = load(Data(source=str(tmp_path / "a.csv"), validation=str(tmp_path / "a.csv")))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**24  # 400 kB for each of the thousand would be 400 MB
    assert about.classes == (long, "b")
    assert np.flatnonzero(parts.train.y == 0).tolist() == [7]


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
    parts, about = load(Data(source=str(tmp_path / "a.npz"), validation_fraction=0.25, normalize="none"))
    again, _ = load(Data(source=str(tmp_path / "a.npz"), validation_fraction=0.25, normalize="none"))
    assert (len(parts.train.x), len(parts.validation.x)) == (30, 10)
    np.testing.assert_array_equal(parts.train.x, again.train.x)
    both = np.concatenate([parts.train.x, parts.validation.x])
    np.testing.assert_array_equal(np.sort(both, axis=0), np.sort(x, axis=0))
    other, about_other = load(Data(source=str(tmp_path / "a.npz"), validation_fraction=0.3, normalize="none"))
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
