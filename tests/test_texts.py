"""Texts as tokens: vocabulary, parts by position, files of any size, and back to text."""

from collections import Counter

import numpy as np
import pytest
from training import config

from lstmjax.config import ConfigError, Data
from lstmjax.data import DataError, Vocabulary, fables, load, text_of, tokens
from lstmjax.data.tokens import Reader, split

TEXT = 'The hare ran. "Don\'t stop!", said the tortoise; the hare-bell (blue) rang: é日𝄞. ' * 3


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["characters", "bytes", "words"])
@pytest.mark.parametrize("block", [7, 1000])
@pytest.mark.parametrize("large", [False, True])
def test_a_file_is_its_tokens_whatever_the_blocks(monkeypatch, file, kind, block, large):
    monkeypatch.setattr(tokens, "BLOCK", block)
    monkeypatch.setattr(tokens, "IN_MEMORY", 0 if large else 10_000)
    reader = Reader(kind)
    raw = reader.read(file)
    assert list(reader.names(raw)) == list(split(TEXT, kind))
    assert isinstance(raw, np.memmap) == (large or kind == "bytes")
    data = Data(source=str(file), text=kind, validation_fraction=0.5)
    parts, about = load(data)
    numbers = np.concatenate([*parts.train.blocks(), *parts.validation.blocks()])
    assert [about.classes[n] for n in numbers] == list(split(TEXT, kind))
    assert parts.validation.read(2, 5).tolist() == numbers[parts.train.count + 2 : parts.train.count + 5].tolist()


@pytest.mark.parametrize("kind", ["characters", "bytes", "words"])
@pytest.mark.parametrize("large", [False, True])
def test_a_folder_of_texts_is_its_files_in_the_order_of_their_names(monkeypatch, tmp_path, kind, large):
    monkeypatch.setattr(tokens, "BLOCK", 7)
    monkeypatch.setattr(tokens, "IN_MEMORY", 0 if large else 10_000)
    texts = {"a.txt": "one two thr", "b/c.txt": "ee four\n", "d.txt": "fünf", ".hidden.txt": "no", "e.md": "no"}
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    reader = Reader(kind)
    raw = reader.read(tmp_path)
    read = ["one two thr", "ee four\n", "fünf"]
    assert list(reader.names(raw)) == [token for text in read for token in split(text, kind)]
    assert isinstance(raw, np.memmap) == large
    _, about = load(Data(source=str(tmp_path), text=kind, validation_fraction=0.5))
    assert text_of(str(tmp_path / "a.txt"), about).count == len(split(read[0], kind))


def test_a_folder_that_cannot_be_read_as_a_text_is_told(tmp_path):
    (tmp_path / "a.md").write_text("no")
    with pytest.raises(DataError, match=r"is a folder without texts; expected files that end in .txt"):
        Reader("words").read(tmp_path)
    (tmp_path / "a.txt").write_text("fine", "utf-8")
    (tmp_path / "b.txt").write_bytes("für".encode("latin-1"))
    with pytest.raises(DataError, match=r"b.txt: is not UTF-8 .byte 1 of a block.; convert it"):
        Reader("characters").read(tmp_path)


def test_text_of_a_file_on_the_disk_takes_no_memory(tmp_path, monkeypatch):
    """2 MB in blocks of 64 kB: the numbers are on the disk, and only those of a block in memory."""
    import tracemalloc

    monkeypatch.setattr(tokens, "IN_MEMORY", 2**20)
    monkeypatch.setattr(tokens, "BLOCK", 2**16)
    (tmp_path / "a.txt").write_text("one two three four five six seven\n" * 60_000, encoding="utf-8")
    tracemalloc.start()
    parts, about = load(Data(source=str(tmp_path / "a.txt"), text="words"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert parts.train.count + parts.validation.count == 420_000
    assert len(about.classes) == 7
    assert peak < 420_000 * 8  # the words alone would take three times as much


def test_the_vocabulary_is_that_of_training_and_parts_are_successive(tmp_path):
    (tmp_path / "a.txt").write_text("b a b c b a . " * 10 + "d a e b", encoding="utf-8")
    data = Data(source=str(tmp_path / "a.txt"), text="words", validation_fraction=2 / 74, test_fraction=2 / 74)
    parts, about = load(data)
    assert about.classes == ("b", "a", "c", ".", "<unk>")  # by frequency, then as they come
    assert [part.count for part in (parts.train, parts.validation, parts.test)] == [70, 2, 2]
    words = [[about.classes[n] for n in part.read(0, part.count)] for part in parts[:3]]
    assert words[0] == ["b", "a", "b", "c", "b", "a", "."] * 10
    assert words[1:] == [["<unk>", "a"], ["<unk>", "b"]]
    assert "validation: 1 of 2 words is not in the vocabulary of training (<unk>)" in parts.notes


def test_rare_words_are_one(file):
    parts, about = load(Data(source=str(file), text="words", vocabulary=3))
    words = list(split(TEXT, "words"))[: parts.train.count]
    assert about.classes == (*(word for word, _ in Counter(words).most_common(3)), "<unk>")
    assert (parts.train.read(0, parts.train.count) == 3).any()


@pytest.mark.parametrize("kind", ["characters", "bytes", "words"])
def test_numbers_become_text_again(kind):
    text = "The hare (blue) ran. é日! Don't stop: 1, 2" if kind != "bytes" else TEXT
    names = tuple(map(chr, range(256))) if kind == "bytes" else tuple(sorted(set(split(text, kind))))
    vocabulary = Vocabulary(names, kind)
    assert "".join(vocabulary.decoder().pieces(vocabulary.numbers(text))) == text
    assert "".join(vocabulary.decoder("blue").pieces(vocabulary.numbers("ran") if kind == "words" else [])) in (
        "",
        " ran",
    )


def test_bytes_of_a_character_are_held_until_it_is_complete():
    vocabulary = Vocabulary(tuple(map(chr, range(256))), "bytes")
    assert list(vocabulary.decoder().pieces([195, 169, 65, 195])) == ["", "é", "A", "", "�"]


def test_a_text_in_the_vocabulary_of_a_run(tmp_path):
    _, about = load(Data(source="fables", text="words"))
    (tmp_path / "b.txt").write_text("The Hare, the zebra", encoding="utf-8")
    part = text_of(str(tmp_path / "b.txt"), about)
    assert [about.classes[n] for n in part.read(0, part.count)] == ["The", "Hare", ",", "the", "<unk>"]
    _, about = load(Data(source="fable", validation="fable", text="words"))
    with pytest.raises(DataError, match="'The' is none of the 112 words that the network knows"):
        text_of(str(tmp_path / "b.txt"), about)


def test_other_texts_are_other_data(tmp_path):
    for name, change in (("a", ""), ("b", "x")):
        (tmp_path / f"{name}.txt").write_text(fables() + change, encoding="utf-8")
    a, b = (load(Data(source=str(tmp_path / f"{name}.txt"), text="characters"))[1] for name in "ab")
    again = load(Data(source=str(tmp_path / "a.txt"), text="characters"))[1]
    assert a.has_same_data(again)
    assert not a.has_same_data(b)


@pytest.mark.parametrize(
    ("content", "data", "message"),
    [
        (None, {}, "a.txt: no such file; give the path of a text"),
        (b"\xff\xfeabc", {}, "a.txt: is not UTF-8 .*or say data.text: bytes"),
        (b"a", {}, "its train part has 1 characters, expected 2 or more|its validation part has 0"),
        (b"", {"text": "bytes"}, "its train part has 0 bytes"),
        (b"a b c d e f", {"text": "words", "window": 5}, "its .* part has . words, expected 6 or more"),
    ],
)
def test_texts_that_cannot_be_used_are_told(tmp_path, content, data, message):
    path = tmp_path / "a.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        load(Data(**({"source": str(path), "text": "characters"} | data)))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"data": {"source": "fables"}}, "data.source fables is a text; say data.text: characters, bytes or words"),
        ({"data": {"source": "a.npz", "segment": 5}}, "data.segment is for a text; say by data.text what its"),
        ({"data": {"source": "a.txt", "text": "words", "window": 3, "segment": 5}}, "data.window and data.segment are"),
        ({"data": {"source": "a.txt", "text": "bytes", "vocabulary": 9}}, "bytes are always 256, so remove it"),
        (
            {"data": {"source": "a.txt", "text": "words", "split": "index"}},
            "a text is read in its order.*remove data.split",
        ),
        ({"data": {"source": "digits", "text": "words"}}, "remove data.text"),
        ({"data": {"source": "fables", "text": "words", "normalize": "standardize"}}, "a language model reads tokens"),
        (
            {"data": {"source": "fables", "text": "words"}, "loss": {"name": "linear"}},
            "the next token of a text is a class",
        ),
        (
            {"data": {"source": "fables", "text": "words"}, "model": {"bidirectional": True}},
            "show a language model the",
        ),
        (
            {"data": {"source": "fables", "text": "words"}, "metrics": ["bits_per_character"]},
            "metrics has bits_per_character, but the tokens are words; say data.text: characters, or take perplexity",
        ),
        ({"model": {"tie_weights": True}}, "model.tie_weights is for a language model, which reads a text"),
        (
            {"data": {"source": "fables", "text": "words"}, "model": {"tie_weights": True, "embedding_size": 3}},
            "model.tie_weights needs an embedding as wide as h, but model.embedding_size is 3 and h is 4 wide",
        ),
        ({"model": {"weight_drop": 1.0}}, "model.weight_drop is 1.0; it should be less than 1"),
    ],
)
def test_configurations_that_make_no_sense_are_told(sections, message):
    with pytest.raises(ConfigError, match=message):
        config(**sections)
