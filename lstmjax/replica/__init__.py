"""Exact replicas of other LSTMs: what they are, and the proof that two compute the same.

`CARDS` say what the LSTM of a framework or a paper is, and how to make it here. `verify` is for your own
network, `grid` for random ones against every framework. `lstmjax.frameworks` runs the others; `bounds.py`
states what must hold; `causes.py` says why two sides differ, by running our side with the cause in it.
"""

from lstmjax.frameworks import PEERS
from lstmjax.frameworks.base.card import Card, Drop, Note
from lstmjax.frameworks.base.framework import Peer
from lstmjax.replica.against import grid
from lstmjax.replica.cards import CARDS, cards_as_markdown
from lstmjax.replica.cases import Case
from lstmjax.replica.causes import CAUSES
from lstmjax.replica.compare import Difference, compare
from lstmjax.replica.report import Report
from lstmjax.replica.verdict import Verdict, verify

__all__ = [
    "CARDS",
    "CAUSES",
    "PEERS",
    "Card",
    "Case",
    "Difference",
    "Drop",
    "Note",
    "Peer",
    "Report",
    "Verdict",
    "cards_as_markdown",
    "compare",
    "grid",
    "verify",
]
