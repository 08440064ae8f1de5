"""The frameworks that we exchange weights with and compare with: a file or a folder for each, and a table of them.

A framework is a row (`Framework`): the layout of its arrays, their names in files, its kinds of files, how it is run
for `verify`, and its card. To add one, write its file and put its row here. The package of a framework is imported in
its file, where it is needed.
"""

from __future__ import annotations

from types import MappingProxyType

from lstmjax.frameworks import cudnn, equinox, flax, haiku, keras, neuralhydrology, onnx, oracle, ours, torch
from lstmjax.frameworks.base.framework import Framework, Peer
from lstmjax.frameworks.base.layouts import Layout

FRAMEWORKS: MappingProxyType[str, Framework] = MappingProxyType(
    {
        row.name: row
        for row in (
            ours.ROW,
            torch.ROW,
            neuralhydrology.ROW,
            keras.ROW,
            *flax.ROWS,
            haiku.ROW,
            equinox.ROW,
            cudnn.ROW,
            onnx.ROW,
            oracle.ROW,
        )
    }
)
"""All frameworks by name; ours is one of them."""

LAYOUTS: MappingProxyType[str, Layout] = MappingProxyType(
    {row.name: row.layout for row in FRAMEWORKS.values() if row.layout is not None}
)
"""All layouts by name, read from the frameworks' sources."""

FORMS = tuple(row.name for row in FRAMEWORKS.values() if row.form is not None)
"""The frameworks whose names of arrays are recognised in any kind of file."""

PEERS: MappingProxyType[str, Peer] = MappingProxyType(
    {row.peer.name: row.peer for row in FRAMEWORKS.values() if row.peer is not None}
)
"""All frameworks that run their LSTM on our weights, by name."""
