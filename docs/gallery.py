"""Draw the pictures of gallery.md, by the code that stands there.

python docs/gallery.py
"""

import re
from pathlib import Path

DOCS = Path(__file__).parent
PAGE = DOCS / "gallery.md"


def blocks() -> list[tuple[str, str | None]]:
    """Return each block of code with the path of the picture below it, from docs/, or None."""
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```(?:\n\n!\[[a-z_]+\]\((.*?)\))?", text, flags=re.DOTALL)


def draw(dpi: int = 70) -> None:
    """Run the blocks one after the other, and write the figure that each of them leaves."""
    names: dict = {}
    for code, picture in blocks():
        exec(compile(code, str(PAGE), "exec"), names)
        if picture:
            names["figure"].savefig(DOCS / picture, dpi=dpi)


if __name__ == "__main__":
    draw()
