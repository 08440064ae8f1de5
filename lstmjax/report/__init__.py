"""The report: one HTML page that shows what happens inside a network, and opens offline.

`shown.py` has the options of one network, `collect.py` computes its numbers, `tree.py` arranges them, `pack.py` makes
the arrays small, `page.py` puts them into the page of `page/`, and `inspect_run.py` is `lstmjax inspect`.
"""

from lstmjax.report.page import Page, report

__all__ = ["Page", "report"]
