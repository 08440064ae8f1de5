"""What goes on inside: gates, memory and gradients at every step, as pure functions of parameters and arrays."""

from lstmjax.inside.reduce import Reduce
from lstmjax.inside.trace import trace

__all__ = ["Reduce", "trace"]
