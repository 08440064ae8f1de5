"""Which cases of a test belong to the second stage."""

import pytest


def tiered(cases, first):
    """The cases of a parametrised test; those that are not among `first` are marked thorough, CI's second stage.

    A case is one value, or a tuple of values for several parameters.
    """
    cases = list(cases)
    assert all(case in cases for case in first)
    return [case if case in first else later(case) for case in cases]


def later(case):
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.thorough)
