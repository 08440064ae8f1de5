"""How a scan over time is run. A backend is a row of the table; `scan` is the definition."""

from lstmjax.backends.request import Backend as Backend
from lstmjax.backends.request import Chooser as Chooser
from lstmjax.backends.request import Request as Request
from lstmjax.backends.request import explicitly_sharded as explicitly_sharded
from lstmjax.backends.table import BACKENDS as BACKENDS
from lstmjax.backends.table import choose as choose
