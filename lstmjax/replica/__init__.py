"""Exact replicas of other LSTMs: the cards say what the one of a framework or a paper is, and how to make it here.

from lstmjax.replica import CARDS

print(CARDS["torch"])
"""

from lstmjax.replica.cards import CARDS, Card, Drop, Note, cards_as_markdown

__all__ = ["CARDS", "Card", "Drop", "Note", "cards_as_markdown"]
