"""Data: the digits in the package, the temporal-order task, the user's files, and batches of them."""

from lstmjax.config import Columns
from lstmjax.data.about import About
from lstmjax.data.ahead import Ahead
from lstmjax.data.batches import batch, batch_rows, bucketed_batch, filled, steps_per_epoch
from lstmjax.data.buckets import Bucket, Buckets, choose_edges, make_buckets, padding
from lstmjax.data.digits import digits
from lstmjax.data.fables import fable, fables
from lstmjax.data.files import read
from lstmjax.data.form import Form
from lstmjax.data.load import labelled, load, unlabelled
from lstmjax.data.order import markers, order
from lstmjax.data.ragged import Ragged
from lstmjax.data.sequences import DataError, Parts, Sequences
from lstmjax.data.tables import sequences_from
from lstmjax.data.texts import text_of
from lstmjax.data.tokens import Tokens, Vocabulary

__all__ = [
    "About",
    "Ahead",
    "Bucket",
    "Buckets",
    "Columns",
    "DataError",
    "Form",
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
    "sequences_from",
    "steps_per_epoch",
    "text_of",
    "unlabelled",
]
