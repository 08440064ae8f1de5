"""The examples of the README and of docs run as they stand, one after the other, and print what they say."""

import re
from pathlib import Path

import pytest

from lstmjax import plot

ROOT = Path(__file__).parent.parent
PAGES = {  # at least so many examples
    "README.md": 4,
    "docs/tutorial.md": 5,
    "docs/layers.md": 4,
    "docs/cells.md": 2,
    "docs/flax.md": 2,
    "docs/weights.md": 2,
    "docs/verify.md": 1,
    "docs/inside.md": 5,
    "docs/gallery.md": 12,
    "docs/backends.md": 5,
    "docs/long-sequences.md": 3,
    "docs/forecasting.md": 1,
    "docs/hydrology.md": 2,
    "docs/recipes.md": 7,
    "docs/agents.md": 8,
    "docs/language.md": 1,
}


def blocks(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.usefixtures("promotion")
@pytest.mark.parametrize("page", PAGES)
def test_every_example_runs_and_prints_what_its_comment_says(page, capsys):
    assert len(blocks(page)) >= PAGES[page]
    names: dict = {}
    for block in blocks(page):
        exec(compile(block, page, "exec"), names)
        said = [line.split("#", 1)[1].strip() for line in block.splitlines() if line.startswith("print(")]
        printed = capsys.readouterr().out.splitlines()
        assert len(said) == len(printed)
        for comment, line in zip(said, printed, strict=True):
            shapes = comment.removeprefix("each ")
            assert line == (" ".join([shapes] * 3) if comment.startswith("each ") else shapes)


@pytest.mark.parametrize("page", PAGES)
def test_examples_are_short(page):
    assert all(len(block.strip().splitlines()) <= 25 for block in blocks(page))


def test_the_gallery_shows_every_picture():
    text = (ROOT / "docs/gallery.md").read_text(encoding="utf-8")
    for name in sorted(set(plot.__all__) - {"Picture", "rich"}):
        assert f"plot.{name}(" in text, name
    pictures = re.findall(r"!\[[a-z_]+\]\((.*?)\)", text)
    assert len(pictures) == text.count("figure = ")
    assert all((ROOT / "docs" / picture).is_file() for picture in pictures)
