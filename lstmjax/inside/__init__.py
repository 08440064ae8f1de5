"""Look inside a network: gates, memory and gradients at every step, as pure functions of parameters and arrays."""

from lstmjax.inside.ablation import Ablation, ablation
from lstmjax.inside.activations import MAXIMA, Derivatives, Survival, derivatives, gradient_survival
from lstmjax.inside.fixed import FixedPoints, distinct_points, fixed_points
from lstmjax.inside.flow import gradient_flow, norms
from lstmjax.inside.interventions import Ablate, Fix, Intervention, Sample, Scale
from lstmjax.inside.jacobians import hessian_vector_product, lyapunov_spectrum, state_jacobian, step_jacobians
from lstmjax.inside.memory import half_life, retained, retention, time_scale
from lstmjax.inside.paths import GradientPaths, GradientSpans, gradient_paths, gradient_spans
from lstmjax.inside.products import singular_values
from lstmjax.inside.reduce import Reduce
from lstmjax.inside.statistics import Gates, GateStatistics, gate_statistics, saturation
from lstmjax.inside.trace import trace
from lstmjax.inside.units import Question, Separation, Unit, rank_units, separation, separation_over

__all__ = [
    "MAXIMA",
    "Ablate",
    "Ablation",
    "Derivatives",
    "Fix",
    "FixedPoints",
    "GateStatistics",
    "Gates",
    "GradientPaths",
    "GradientSpans",
    "Intervention",
    "Question",
    "Reduce",
    "Sample",
    "Scale",
    "Separation",
    "Survival",
    "Unit",
    "ablation",
    "derivatives",
    "distinct_points",
    "fixed_points",
    "gate_statistics",
    "gradient_flow",
    "gradient_paths",
    "gradient_spans",
    "gradient_survival",
    "half_life",
    "hessian_vector_product",
    "lyapunov_spectrum",
    "norms",
    "rank_units",
    "retained",
    "retention",
    "saturation",
    "separation",
    "separation_over",
    "singular_values",
    "state_jacobian",
    "step_jacobians",
    "time_scale",
    "trace",
]
