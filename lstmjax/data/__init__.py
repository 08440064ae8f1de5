"""Data: the digits in the package, the temporal-order task, the user's files, and batches of them."""

from lstmjax.data.batches import batch, batch_rows, bucketed_batch, filled, steps_per_epoch
from lstmjax.data.buckets import Bucket, Buckets, choose_edges, make_buckets, padding
from lstmjax.data.digits import digits
from lstmjax.data.fables import fable, fables
from lstmjax.data.files import read
from lstmjax.data.load import labelled, load
from lstmjax.data.order import markers, order
from lstmjax.data.ragged import Ragged
from lstmjax.data.sequences import About, DataError, Parts, Sequences
from lstmjax.data.texts import text_of
from lstmjax.data.tokens import Tokens, Vocabulary

__all__ = [
    "About",
    "Bucket",
    "Buckets",
    "DataError",
    "Parts",
    "Ragged",
    "Sequences",
    "Tokens",
    "Vocabulary",
    "batch",
    "batch_rows",
    "bucketed_batch",
    "choose_edges",
    "digits",
    "fable",
    "fables",
    "filled",
    "labelled",
    "load",
    "make_buckets",
    "markers",
    "order",
    "padding",
    "read",
    "steps_per_epoch",
    "text_of",
]
