"""The examples in the docstrings of the package that is imported: the installed one, or the editable one."""

import doctest
import importlib
import pkgutil

import pytest

import lstmjax

# The native kernel is a shared library, which is no module although its name is like one.
NAMES = [module.name for module in pkgutil.walk_packages(lstmjax.__path__, "lstmjax.")]
MODULES = ["lstmjax", *(name for name in NAMES if not name.endswith(".native_kernel"))]
WITH_EXAMPLES = {"lstmjax.cell", "lstmjax.init", "lstmjax.layer"}


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_show_what_they_give(name):
    module = importlib.import_module(name)
    failed, tried = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert not failed
    assert tried or name not in WITH_EXAMPLES, f"no example was found in {name}"
