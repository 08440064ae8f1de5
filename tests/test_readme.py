"""The README's examples run as they stand, one after the other, and print what they say."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.usefixtures("promotion")
def test_every_example_runs_and_prints_what_its_comment_says(capsys):
    assert len(BLOCKS) >= 6
    names: dict = {}
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)
        said = [line.split("#", 1)[1].strip() for line in block.splitlines() if line.startswith("print(")]
        printed = capsys.readouterr().out.splitlines()
        assert len(said) == len(printed)
        for comment, line in zip(said, printed, strict=True):
            shapes = comment.removeprefix("each ")
            assert line == (" ".join([shapes] * 3) if comment.startswith("each ") else shapes)


def test_examples_are_short():
    assert all(len(block.strip().splitlines()) <= 25 for block in BLOCKS)
