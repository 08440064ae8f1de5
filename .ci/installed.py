"""Look at an installed lstmjax: `python .ci/installed.py kernel` or `... pure`, from a folder that is not the checkout.

Either way a layer runs. With "kernel" the native library was built, is registered and, with LSTMJAX_INSTRUCTION_SET
unset, uses the processor's widest instruction set; with "pure" there is no library, and the reason says how to get it.
"""

import sys
from pathlib import Path

if sys.path[0] == str(Path(__file__).parent):
    del sys.path[0]

import jax
import numpy as np

import lstmjax
from lstmjax import oracle
from lstmjax.backends import native_library

[expected] = sys.argv[1:]
assert expected in ("kernel", "pure"), expected
where = Path(lstmjax.__file__).parent
assert not (where.parent / "pyproject.toml").exists(), f"{where} is the checkout; this looks at an installed package"

params = lstmjax.init_params(jax.random.key(0), 3, 5)
xs = jax.random.normal(jax.random.key(1), (2, 7, 3))
ys = lstmjax.lstm(params, xs)[1]
for n, x in enumerate(np.asarray(xs, np.float64)):
    expected_ys = oracle.lstm(jax.tree.map(lambda a: np.asarray(a, np.float64), params), x)[0][1].h
    np.testing.assert_allclose(ys[n], expected_ys, atol=2e-6)

library = native_library.load()
print(f"lstmjax {lstmjax.__version__}, jax {jax.__version__}, {where}: {library.reason or library.instruction_set}")
if expected == "kernel":
    assert library.reason is None, library.reason
else:
    assert library.path is None, library.path
    assert "pip install ." in library.reason, library.reason
