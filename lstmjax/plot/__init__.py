"""Pictures of what happens inside: each function takes arrays and returns a Matplotlib figure, without global state.

    import jax
    from lstmjax import lstm, plot

    step = lstm(params, xs, emit="step")[1]
    plot.gates(step, example=0).savefig("gates.png")

A notebook shows the figure on its own; pyplot is never imported.
"""

from lstmjax.plot.curves import curves
from lstmjax.plot.diagram import cell_diagram, step_diagram
from lstmjax.plot.forecasts import fan_charts
from lstmjax.plot.functions import activations, gradient_survival
from lstmjax.plot.gradients import gradient_flow, gradient_paths
from lstmjax.plot.names import summary
from lstmjax.plot.notebook import rich, show
from lstmjax.plot.points import fixed_points
from lstmjax.plot.population import learning, saturation
from lstmjax.plot.sheet import Picture
from lstmjax.plot.spectra import spectrum
from lstmjax.plot.tracks import gates, unit

__all__ = [
    "Picture",
    "activations",
    "cell_diagram",
    "curves",
    "fan_charts",
    "fixed_points",
    "gates",
    "gradient_flow",
    "gradient_paths",
    "gradient_survival",
    "learning",
    "rich",
    "saturation",
    "show",
    "spectrum",
    "step_diagram",
    "summary",
    "unit",
]
