"""The handwritten digits that come with the package; DIGITS.md names their source."""

from __future__ import annotations

from importlib.resources import files
from itertools import pairwise

import numpy as np

from lstmjax.data.sequences import Parts, Sequences

TRAIN, VALIDATION, TEST = 1149, 288, 360
INK = 16.0  # the largest value of a pixel


def digits() -> Parts:
    """Return the 1,797 images of 8 × 8 pixels, with rows as time steps: T = 8, I = 8, ten classes.

    The first 1,149 are for training, the next 288 for validation, the last 360 for testing. Pixels
    are whole numbers from 0 to 16.

    >>> parts = digits()
    >>> parts.train.x.shape, parts.validation.x.shape, parts.test.x.shape
    ((1149, 8, 8), (288, 8, 8), (360, 8, 8))
    >>> "".join(" .+#"[int(pixel) // 5] for pixel in parts.train.x[0, 0])
    '  .+.   '
    """
    with files("lstmjax.data").joinpath("digits.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        images = Sequences(arrays["x"].astype(np.float32), arrays["y"].astype(np.int64))
    bounds = np.cumsum([0, TRAIN, VALIDATION, TEST])
    train, validation, test = (images.take(slice(start, end)) for start, end in pairwise(bounds))
    return Parts(train, validation, test)
