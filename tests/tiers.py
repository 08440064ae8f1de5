"""Which cases of a test belong to the second stage."""

import pytest


def tiered(values, first):
    """The values of a parametrised test; those that are not among `first` are marked thorough, CI's second stage."""
    values = list(values)
    assert set(first) <= set(values), set(first) - set(values)
    return [value if value in first else pytest.param(value, marks=pytest.mark.thorough) for value in values]
