"""Say of a text file that is not UTF-8 in which encoding it seems to be."""

from __future__ import annotations

from pathlib import Path

from lstmjax.errors import UserError

NOT_UTF8 = "is not in UTF-8 but in another encoding, such as Latin-1 or Windows-1252"


def check_text(path: Path, error: type[UserError]) -> None:
    """Refuse a text file that holds many zero bytes or begins with the mark of UTF-16.

    Args:
        path: the file.
        error: the class of what is raised.
    """
    with path.open("rb") as file:
        start = file.read(4096)
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise error(f"{path}: is in UTF-16 (Unicode in spreadsheets and editors); save it as UTF-8")
    if start.count(0) * 4 > len(start):  # without the mark: every other byte of plain English is zero
        raise error(f"{path}: is in UTF-16, or no text, by its many zero bytes; save it as text in UTF-8")
