"""Data on the disk are those in the memory: the same parts, batches and runs, in bounded memory."""

import subprocess
import sys
import threading
import time
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest
from tiers import tiered
from training import config, lines, same_params, stop_at, write_sequences

from lstmjax.config import Columns, Data
from lstmjax.data import Ahead, DataError, Ragged, Sequences, batch, load
from lstmjax.data import blocks as blocks_module
from lstmjax.data import stream as stream_module
from lstmjax.data.disk import OnDisk
from lstmjax.data.stream import is_streamed
from lstmjax.training import Interrupted, evaluate_run, predict_file, resume, train
from lstmjax.training.plan import new_plan


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks_module, "ROWS", 7)
    monkeypatch.setattr(stream_module, "BLOCK", 64)


def frame(seed=0, gaps=False, ragged=True, **more):
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 9, 30) if ragged else np.full(30, 4)
    n = np.repeat(np.arange(30), lengths)
    a = random.normal(20.0, 3.0, len(n))
    columns = {
        "sequence": [f"s{k}" for k in n], "step": np.concatenate([np.arange(k) for k in lengths]),
        "a": pa.array(np.where(random.random(len(n)) < 0.3 * gaps, None, a).tolist(), pa.float64()),
        "b": random.normal(size=len(n)), "label": [["up", "down"][k % 2] for k in n],
        **{name: values(n) for name, values in more.items()},
    }  # fmt: skip
    return pa.table(columns)


def written(path, kind, **options):
    path = path / f"a{kind}"
    if kind == ".npz":
        write_sequences(path, n=30, **options)
    elif kind == ".csv":
        pyarrow.csv.write_csv(frame(**options), path)
    elif kind == ".parquet":
        pyarrow.parquet.write_table(frame(**options), path, row_group_size=11)
    else:
        pyarrow.feather.write_feather(frame(**options), path, chunksize=13)
    return str(path)


def same_parts(one, other):
    for part, same in zip(one[:3], other[:3], strict=True):
        assert (part is None) == (same is None)
        if part is not None:
            assert isinstance(same.x, OnDisk)
            valid = part.valid()
            np.testing.assert_array_equal(np.asarray(part.x)[valid], np.asarray(same.x)[valid])
            assert (np.asarray(same.x)[~valid] == 0).all()
            np.testing.assert_array_equal(part.y, same.y)
            assert (part.lengths is None) == (same.lengths is None)
            if part.lengths is not None:
                np.testing.assert_array_equal(part.lengths, same.lengths)
            assert (part.names, part.features) == (same.names, same.features)
            rows = np.random.default_rng(0).permutation(len(part.x))[:3]
            chosen, shown = valid[rows, 1:3], same.x[rows, 1:3]
            np.testing.assert_array_equal(part.x[rows, 1:3][chosen], shown[chosen])
            np.testing.assert_array_equal(same.take(rows).x[2], same.x[rows[2]])


@pytest.mark.parametrize("ragged", [True, False])
@pytest.mark.parametrize("kind", [".npz", ".csv", ".parquet", ".arrow", ".feather"])
def test_what_is_streamed_is_what_is_read(kind, ragged, tmp_path):
    source = written(tmp_path, kind, ragged=ragged)
    memory, about = load(Data(source=source, test_fraction=0.1, stream=False))
    disk, about_disk = load(Data(source=source, test_fraction=0.1, stream=True))
    same_parts(memory, disk)
    differ = {"fingerprint"}
    assert about.model_dump(exclude=differ) == about_disk.model_dump(exclude=differ)
    for step in (0, 7, 3):
        one, other = (batch(parts.train, 4, seed=5, step=step) for parts in (memory, disk))
        np.testing.assert_array_equal(one.x[one.valid()], other.x[one.valid()])
        np.testing.assert_array_equal(one.y, other.y)
    assert any(note.startswith("streamed from") for note in disk.notes)
    # Nothing is copied twice, and a source that has changed is copied anew.
    copies = {path: path.stat().st_mtime_ns for path in (tmp_path / ".lstmjax").iterdir()}
    assert load(Data(source=source, test_fraction=0.1, stream=True))[1] == about_disk
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / ".lstmjax").iterdir()} == copies
    written(tmp_path, kind, ragged=ragged, seed=1)
    assert load(Data(source=source, test_fraction=0.1, stream=True))[1].fingerprint != about_disk.fingerprint


@pytest.mark.parametrize("missing", ["mean", "forward", "mask"])
def test_gaps_and_categories_are_those_of_the_whole_file(missing, tmp_path):
    more = {"city": lambda n: [["Rome", "Bern", "Oslo"][k // 11] for k in n], "who": lambda n: [f"p{k % 7}" for k in n]}
    pyarrow.parquet.write_table(frame(gaps=True, **more), tmp_path / "a.parquet")
    columns = Columns(categorical=("city",), group="who")
    options = {"source": str(tmp_path / "a.parquet"), "missing": missing, "columns": columns, "split": "group"}
    memory, about = load(Data(**options, stream=False))
    disk, about_disk = load(Data(**options, stream=True, cache=str(tmp_path / "copies")))
    same_parts(memory, disk)
    assert about.model_dump(exclude={"fingerprint"}) == about_disk.model_dump(exclude={"fingerprint"})
    assert memory.split == disk.split
    assert (tmp_path / "copies").is_dir()
    assert not (tmp_path / ".lstmjax").exists()


def test_wide_tables_and_labels_of_each_step_are_streamed(tmp_path):
    random = np.random.default_rng(0)
    wide = {f"v{t}": random.normal(size=20) for t in range(6)} | {"label": random.integers(0, 3, 20)}
    pyarrow.parquet.write_table(pa.table(wide), tmp_path / "a.parquet")
    parts = [load(Data(source=str(tmp_path / "a.parquet"), stream=stream))[0] for stream in (False, True)]
    same_parts(*parts)
    tags = frame(tag=lambda n: np.random.default_rng(1).choice(["x", "y", "z"], len(n)))
    pyarrow.parquet.write_table(tags, tmp_path / "b.parquet")
    columns = Columns(target="tag", target_of="step", ignore=("label",))
    parts = [
        load(Data(source=str(tmp_path / "b.parquet"), columns=columns, stream=stream))[0] for stream in (False, True)
    ]
    for one, other in zip(parts[0][:2], parts[1][:2], strict=True):
        np.testing.assert_array_equal(one.y[one.valid()], other.y[other.valid()])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: pa.concat_tables([t.slice(0, 6), t.slice(7), t.slice(6, 1)]),
            r"the rows of sequence 's\d' do not stand together, .* sort it",
        ),
        (lambda t: t.set_column(2, "a", pa.array([*[1.0] * (len(t) - 1), None])), r"row {last}: column 'a' is missing"),
        (
            lambda t: t.set_column(3, "b", pa.array([*[1.0] * (len(t) - 1), np.inf])),
            r"row {last}: column 'b' is inf, expected",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place_in_the_whole_file(change, message, tmp_path):
    table = frame()
    pyarrow.parquet.write_table(change(table), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=message.format(last=len(table) - 1)):
        load(Data(source=str(tmp_path / "a.parquet"), stream=True))
    assert not [*(tmp_path / ".lstmjax").iterdir()]  # no half of a copy


def test_a_mistake_in_an_npz_is_told(tmp_path):
    x = np.random.default_rng(0).normal(size=(20, 4, 3)).astype(np.float32)
    for arrays, message in (
        (
            {"x": np.where(x == x[11, 2, 1], np.nan, x), "y": np.arange(20) % 2},
            r"counted from 10: x\[1, 2, 1\] is nan; fill or",
        ),
        (
            {"x": np.asfortranarray(x), "y": np.arange(20) % 2},
            r"in column order, expected numbers .* write np.ascontiguousarray",
        ),
        ({"x": x, "y": np.arange(19)}, "y has shape .19,., but x has 20 sequences"),
        ({"x": x}, "holds the arrays x; expected x, y and, for ragged data, lengths"),
    ):
        np.savez(tmp_path / "a.npz", **arrays)
        with pytest.raises(DataError, match=message):
            load(Data(source=str(tmp_path / "a.npz"), stream=True))
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(DataError, match=r"cannot be read as NPZ"):
        load(Data(source=str(tmp_path / "a.npz"), stream=True))
    np.save(tmp_path / "a.npy", x)
    with pytest.raises(
        DataError,
        match=r"data.stream is true, but only folders and .npz, .parquet, .arrow, .feather, .csv, .txt can be streamed",
    ):
        load(Data(source=str(tmp_path / "a.npy"), stream=True))


def folder_of(path, kind, seed=0):
    """Files of different lengths in a folder for each class, one of them with whole numbers alone."""
    random = np.random.default_rng(seed)
    for n in range(30):
        place = path / ["up", "down"][n % 2]
        place.mkdir(parents=True, exist_ok=True)
        steps = int(random.integers(2, 6))
        a = np.arange(steps) if n == 3 else random.normal(20.0, 3.0, steps)
        if kind == ".txt":
            (place / f"s{n}.txt").write_text("".join(random.choice([*"abcdé\n"], steps)), "utf-8")
        elif kind == ".npy":
            np.save(place / f"s{n}.npy", np.stack([a, a * 2], axis=1))
        else:
            table = pa.table({"a": a, "city": random.choice(["Rome", "Bern"], steps)})
            writer = pyarrow.csv.write_csv if kind == ".csv" else pyarrow.parquet.write_table
            writer(table, place / f"s{n}{kind}")
    (path / "README.md").write_text("not a sequence", "utf-8")
    return str(path)


@pytest.mark.parametrize("kind", [".csv", ".parquet", ".npy", ".txt"])
def test_a_folder_that_is_streamed_is_the_one_that_is_read(kind, tmp_path):
    source = folder_of(tmp_path / "data", kind)
    columns = Columns(categorical=("city",)) if kind in (".csv", ".parquet") else Columns()
    data = Data(source=source, columns=columns, test_fraction=0.1)
    (memory, about), (disk, about_disk) = (load(data.model_copy(update={"stream": stream})) for stream in (False, True))
    same_parts(memory, disk)
    assert about.model_dump(exclude={"fingerprint"}) == about_disk.model_dump(exclude={"fingerprint"})
    assert "left out of data, as files of other kinds: README.md" in disk.notes
    assert memory.split == disk.split
    folder_of(tmp_path / "data", kind, seed=1)  # a file that changes is copied anew, though the folder stays
    assert load(data.model_copy(update={"stream": True}))[1].fingerprint != about_disk.fingerprint


def test_a_folder_with_a_table_of_labels_is_streamed(tmp_path):
    source = folder_of(tmp_path / "data", ".npy")
    names = [f"{['up', 'down'][n % 2]}/s{n}.npy" for n in range(30)]
    labels = {"file": names, "label": [f"c{n % 3}" for n in range(30)], "who": [f"p{n // 4}" for n in range(30)]}
    pyarrow.csv.write_csv(pa.table(labels), tmp_path / "labels.csv")
    data = Data(source=source, table=str(tmp_path / "labels.csv"), columns=Columns(group="who"), split="group")
    (memory, about), (disk, about_disk) = (load(data.model_copy(update={"stream": stream})) for stream in (False, True))
    same_parts(memory, disk)
    assert about.classes == about_disk.classes == ("c0", "c1", "c2")
    assert memory.split == disk.split
    pyarrow.csv.write_csv(pa.table(labels | {"label": [*labels["label"][:-1], "c0"]}), tmp_path / "labels.csv")
    assert load(data.model_copy(update={"stream": True}))[1].fingerprint != about_disk.fingerprint


def test_lines_of_a_text_are_streamed(tmp_path):
    random = np.random.default_rng(0)
    lines = [f"{'xy'[n % 2]}\t{''.join(random.choice([*'abcdé '], 5 + n % 4))}." for n in range(30)]
    (tmp_path / "a.txt").write_text("\n\n".join(lines), "utf-8")
    (memory, about), (disk, about_disk) = (
        load(Data(source=str(tmp_path / "a.txt"), stream=stream)) for stream in (False, True)
    )
    same_parts(memory, disk)
    assert about.model_dump(exclude={"fingerprint"}) == about_disk.model_dump(exclude={"fingerprint"})
    (tmp_path / "a.txt").write_text("\n".join([*lines, "no label"]), "utf-8")
    with pytest.raises(DataError, match=r"a.txt:31: has no label; write the label, a tab, and the text"):
        load(Data(source=str(tmp_path / "a.txt"), stream=True))
    assert len([*(tmp_path / ".lstmjax").iterdir()]) == 1  # the copy of before


def test_a_mistake_in_a_folder_that_is_streamed_is_told(tmp_path):
    source = folder_of(tmp_path / "data", ".parquet")
    pyarrow.parquet.write_table(pa.table({"a": [1.0], "town": ["Rome"]}), tmp_path / "data" / "up" / "x.parquet")
    data = Data(source=source, columns=Columns(categorical=("city",)), stream=True)
    with pytest.raises(DataError, match=r"x.parquet: has the columns a, town, but s1.parquet has a, city; give all"):
        load(data)
    pyarrow.parquet.write_table(pa.table({"a": [None, 2.0], "city": ["Rome"] * 2}), tmp_path / "data/up/x.parquet")
    with pytest.raises(DataError, match=r"column 'a' is missing .1 such cells in all."):
        load(data)
    pyarrow.parquet.write_table(pa.table({"a": [True], "city": ["Rome"]}), tmp_path / "data/up/x.parquet")
    with pytest.raises(DataError, match=r"data: the files do not fit each other"):
        load(data)


def test_a_damaged_copy_is_told(tmp_path):
    data = Data(source=written(tmp_path, ".npz"), stream=True)
    load(data)
    (folder,) = (tmp_path / ".lstmjax").iterdir()
    with (folder / "x.bin").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(DataError, match=r"is damaged .it has another size.; remove it, and it is written anew"):
        load(data)


def test_large_files_are_streamed_by_themselves(tmp_path, monkeypatch):
    source = written(tmp_path, ".npz")
    assert not is_streamed(Data(source=source))
    monkeypatch.setattr(stream_module, "LARGE", 1000)
    assert is_streamed(Data(source=source))
    assert not is_streamed(Data(source=source, stream=False))
    assert isinstance(load(Data(source=source))[0].train.x, OnDisk)


@pytest.mark.usefixtures("promotion")
@pytest.mark.parametrize("target", tiered(["word", "number_each_step"], first=["word"]))
def test_a_streamed_run_is_that_of_the_memory_and_goes_on_bit_by_bit(target, tmp_path, monkeypatch):
    source = str(tmp_path / "a.npz")
    write_sequences(source, target=target, n=60, t=9)
    loss = {"name": "linear" if target.startswith("number") else "softmax"}
    runs = {}
    for stream in (False, True):
        settings = config(data={"source": source, "stream": stream}, loss=loss, steps=8)
        runs[stream] = train(settings, tmp_path / f"{stream}", quiet=True)
    same_params(runs[True].trained.params, runs[False].trained.params)
    assert lines(tmp_path / "True") == lines(tmp_path / "False")
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        with pytest.raises(Interrupted):
            train(settings, tmp_path / "stopped", quiet=True)
    same_params(resume(tmp_path / "stopped", quiet=True).trained.params, runs[True].trained.params)
    assert lines(tmp_path / "stopped") == lines(tmp_path / "True")
    assert [*evaluate_run(tmp_path / "True", "validation")] == [*evaluate_run(tmp_path / "False", "validation")]
    assert [*predict_file(tmp_path / "True", source)] == [*predict_file(tmp_path / "False", source)]


MEMORY = """
import resource, sys
import numpy as np
from lstmjax.config import Data
from lstmjax.data import batch, load

load(Data(source=sys.argv[2], stream=True))  # whatever is loaded once
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
parts, about = load(Data(source=sys.argv[1], stream=True))
for step in range(200):
    batch(parts.train, 32, seed=0, step=step)
print(peak() - before)
"""


@pytest.mark.thorough
def test_a_file_of_several_times_the_limit_is_read_below_it(tmp_path):
    limit, count = 40, 80_000  # MB; 80,000 × 100 × 5 float32 are 160 MB
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name, shape, kind in (("x", (count, 100, 5), "<f4"), ("y", (count,), "|i1")):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": shape})
                for n in range(80):
                    random = np.random.default_rng(n)
                    size = (count // 80, *shape[1:])
                    block = random.random(size, np.float32) if name == "x" else random.integers(0, 2, size, np.int8)
                    file.write(block.tobytes())
    write_sequences(tmp_path / "b.npz")
    paths = [str(tmp_path / "a.npz"), str(tmp_path / "b.npz")]
    result = subprocess.run([sys.executable, "-c", MEMORY, *paths], capture_output=True, text=True, check=True)
    assert int(result.stdout) < limit, result.stdout


# Batches ahead


def test_batches_are_prepared_in_a_thread_and_are_the_same():
    drawn = []

    def draw(*, seed, step):
        drawn.append((step, threading.current_thread().name))
        return Sequences(np.full((2, 3, 1), 100 * seed + step))

    ahead = Ahead(draw)
    for seed, step in ((3, 0), (3, 1), (3, 2), (3, 7), (4, 8), (4, 9)):
        assert ahead(seed=seed, step=step).x[0, 0, 0] == 100 * seed + step
    deadline = time.monotonic() + 10
    while len([step for step, _ in drawn if step == 11]) == 0 and time.monotonic() < deadline:
        time.sleep(0.001)
    threads = dict(drawn)
    assert threads[1].startswith("lstmjax-batches")
    assert threads[7] == threading.main_thread().name  # it was not expected
    assert {10, 11} <= threads.keys()


def test_an_error_is_raised_at_the_step_whose_batch_cannot_be_drawn():
    def draw(*, seed, step):
        if step == 2:
            raise DataError("the disk is gone")
        return step

    ahead = Ahead(draw)
    assert [ahead(seed=0, step=0), ahead(seed=0, step=1)] == [0, 1]
    with pytest.raises(DataError, match=r"the disk is gone"):
        ahead(seed=0, step=2)
    assert ahead(seed=0, step=3) == 3


def test_the_batches_of_a_run_are_prepared_ahead(tmp_path):
    write_sequences(tmp_path / "a.npz")
    plan = new_plan(config(data={"source": str(tmp_path / "a.npz")}))
    assert isinstance(plan.batches.draw, Ahead)
    assert not isinstance(plan.parts.train.x, Ragged)
