"""What the pages of forecasts and of regional models share: the file, the errors, the lines."""

from __future__ import annotations

import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lstmjax.config import ConfigError
from lstmjax.errors import UserError, message_of
from lstmjax.report.page import Page


def page_file(run: Path, out: str | Path | None, examples: int) -> Path:
    """Return the file of a page, report.html in the folder by default; refuse what cannot be written or shown."""
    out = run / "report.html" if out is None else Path(out)
    if out.suffix.lower() not in (".html", ".htm") or not out.parent.is_dir() or out.is_dir():
        raise ConfigError(f"{out}: expected a name that ends in .html, in a folder that is there")
    if examples < 1:
        raise ConfigError(f"--examples is {examples}; expected 1 or more")
    return out


@contextmanager
def errors_name(run: Path) -> Iterator[None]:
    """Let errors of a report name the folder; those of users name their file already."""
    try:
        yield
    except UserError:
        raise
    except ValueError as error:
        raise ConfigError(message_of(error, f"{run}: ")) from None


def written(page: Page, out: Path, shown: str, *, open_page: bool) -> Iterator[str]:
    """Yield the lines about a page that was written, after `shown`; open it where that is wanted."""
    yield shown
    yield f"{len(page.html.encode()) / 1e6:.2f} MB written to {out}"
    if open_page and not webbrowser.open(out.absolute().as_uri()):
        yield "no browser could be opened; open the file by hand"
