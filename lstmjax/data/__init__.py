"""Data: the digits in the package, the temporal-order task, the user's files, and batches of them."""

from lstmjax.data.batches import batch, batch_rows, steps_per_epoch
from lstmjax.data.digits import digits
from lstmjax.data.fables import fables
from lstmjax.data.files import read
from lstmjax.data.load import labelled, load
from lstmjax.data.order import markers, order
from lstmjax.data.sequences import About, DataError, Parts, Sequences

__all__ = [
    "About",
    "DataError",
    "Parts",
    "Sequences",
    "batch",
    "batch_rows",
    "digits",
    "fables",
    "labelled",
    "load",
    "markers",
    "order",
    "read",
    "steps_per_epoch",
]
