"""What the tests of the replica cards share: how a recipe is followed, and how a note finds its test."""

import dataclasses

import jax
import jax.numpy as jnp

import lstmjax
from lstmjax import convert

B, T, I, H, P = 3, 5, 2, 4, 3


def cook(card, module=None, **sizes):
    """Runs a card's recipe as it stands; gives all names."""
    sizes = {"B": B, "I": I, "H": H, "P": P} | sizes
    names = {name: getattr(lstmjax, name) for name in lstmjax.__all__}
    names |= {name: getattr(convert, name) for name in convert.__all__}
    names |= {"jax": jax, "jnp": jnp, "replace": dataclasses.replace, "module": module}
    names |= {"key": jax.random.key(0), "noise": jax.random.key(1)}
    names |= sizes | {"xs": jax.random.normal(jax.random.key(2), (B, T, sizes["I"]))}
    exec("\n".join(card.recipe), names)
    return names


def all_notes(cards):
    return {(card.name, note.name) for card in cards for note in card.notes}


def note_of(table, card, name):
    """Puts a test of a card's note into a table."""

    def keep(test):
        assert (card, name) not in table
        table[card, name] = test
        return test

    return keep
