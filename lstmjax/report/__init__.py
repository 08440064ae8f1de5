"""The report: one HTML page that shows what happens inside a network, and opens offline.

`collect.py` computes what is on it, `pack.py` makes the arrays small, `page.py` puts the page of `page/` together,
`commands.py` is `lstmjax inspect`.
"""

from lstmjax.report.page import report

__all__ = ["report"]
