"""The numbers of a report, read out of its page."""

import base64
import json
import re

import numpy as np


def data_of(text):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])


def unpacked(packed):
    """The numbers of a packed array, and how far they may be from what they were."""
    if "data" not in packed:
        return np.full(packed["shape"], packed["low"]), 0.0
    codes = np.frombuffer(base64.b64decode(packed["data"]), {8: "u1", 16: "<u2", 32: "<f4"}[packed["bits"]])
    if packed["bits"] == 32:
        return codes.reshape(packed["shape"]), 0.0
    step = (packed["high"] - packed["low"]) / (2 ** packed["bits"] - 1)
    return packed["low"] + codes.reshape(packed["shape"]) * step, 0.5001 * step
