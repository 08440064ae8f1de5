"""The networks that are timed: their sizes by name, and the arrays of one run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from types import MappingProxyType

import jax

from lstmjax.errors import UserError
from lstmjax.frameworks.base.timing import Job
from lstmjax.init import init_params
from lstmjax.types import Bidirectional, LSTMParams

MODES = ("forward", "training")
"""forward: the outputs. training: a loss on all outputs, with gradients of all parameters and of the inputs."""
STREAMING = "streaming"
"""A mode by itself: the outputs, one step after the other, each by a call from Python on arrays of NumPy."""


class BenchError(UserError):
    """A benchmark that cannot be run: unknown names, or options that do not fit."""


class Differs(UserError):
    """A backend of lstmjax that computes something else than the definition."""

    code = 1


@dataclass(frozen=True)
class Point:
    """One row: the sizes of a network and of its inputs."""

    name: str
    batch: int
    steps: int
    inputs: int
    hidden: int
    layers: int = 1
    directions: int = 1
    networks: int = 1

    def __str__(self) -> str:
        layers = f" x {self.layers} layers" if self.layers > 1 else ""
        directions = " x 2 directions" if self.directions > 1 else ""
        networks = f"{self.networks} networks of " if self.networks > 1 else ""
        return f"{networks}B{self.batch} T{self.steps} I{self.inputs} H{self.hidden}{layers}{directions}"

    def operations(self, mode: str) -> int:
        """Return the number of floating-point operations in the matrix products.

        2·B·T·(I + H)·4H forward, for each direction of each layer of each network, where I is the width of its input.
        Training has three times as many: it adds the gradients of both factors of each product.
        """
        widths = [self.inputs, *[self.directions * self.hidden] * (self.layers - 1)]
        rows = self.networks * self.directions * self.batch * self.steps
        forward = sum(2 * rows * (width + self.hidden) * 4 * self.hidden for width in widths)
        return forward * (3 if mode == "training" else 1)


GRID = MappingProxyType(
    {
        row.name: row
        for row in (
            Point("A", 32, 100, 5, 256),
            Point("B", 16, 1000, 8, 64),
            Point("C", 64, 128, 128, 512),
            Point("D", 1, 100, 5, 256),
            Point("E", 32, 10, 64, 32),
            Point("F", 1, 1000, 8, 128),
            Point("G", 128, 50, 64, 1024),
        )
    }
)
NETWORKS = MappingProxyType(
    {row.name: row for row in (Point("L3", 32, 100, 8, 128, layers=3), Point("Bi", 32, 100, 8, 128, directions=2))}
)
POINTS = MappingProxyType(GRID | NETWORKS)
"""One layer of seven sizes, and two networks."""


STREAMED = tuple(Point(f"H{hidden}", 1, 200, 8, hidden) for hidden in (32, 128, 256, 512))
"""What runs one step at a time by default."""
ENSEMBLE = tuple(Point(f"H{hidden}", 16, 100, 8, hidden) for hidden in (32, 64))
"""What runs several times at once, with different weights, by default."""


def find_points(names: str, sizes: tuple[str, ...] = ()) -> list[Point]:
    """Return the points of these names, separated by commas, and a point for each of the sizes.

    Args:
        names: such as "A,C,L3".
        sizes: each B,T,I,H.

    Raises:
        BenchError: an unknown name, or sizes that are not four whole numbers from 1.
    """
    points = [_named(name.strip()) for name in names.split(",") if name.strip()]
    return points + [_sized(words) for words in sizes]


def _named(name: str) -> Point:
    if name not in POINTS:
        raise BenchError(f"there is no point {name!r}; expected some of {', '.join(POINTS)}, or --sizes B,T,I,H")
    return POINTS[name]


def _sized(words: str) -> Point:
    numbers = [word.strip() for word in words.split(",")]
    if len(numbers) != 4 or not all(word.isdecimal() and int(word) for word in numbers):
        raise BenchError(f"--sizes is {words!r}; expected B,T,I,H: four whole numbers from 1, such as 32,100,5,256")
    return Point(words.replace(" ", ""), *map(int, numbers))


def make_job(point: Point, mode: str, dtype: str, seed: int = 0) -> Job:
    """Draw layers, inputs and weights of the loss."""
    if point.networks > 1:
        member = dataclasses.replace(point, networks=1)
        jobs = [make_job(member, mode, dtype, seed + n) for n in range(point.networks)]
        each = jax.tree.map(lambda *a: jax.numpy.stack(a), *((job.layers, job.xs, job.weights) for job in jobs))
        return Job(each[0], each[1], each[2], mode)
    keys = iter(jax.random.split(jax.random.key(seed), 2 + 4 * point.layers))

    def layer(width: int) -> LSTMParams:
        params = init_params(next(keys), width, point.hidden)
        noise = 0.1 * jax.random.normal(
            next(keys), (4, point.hidden)
        )  # biases of zeros would hide errors in their order
        return params._replace(b=noise if params.b is None else params.b + noise)

    layers: list = []
    for n in range(point.layers):
        pair = [layer(point.directions * point.hidden if n else point.inputs) for _ in range(point.directions)]
        layers.append(pair[0] if point.directions == 1 else Bidirectional(*pair))
    xs = jax.random.normal(next(keys), (point.batch, point.steps, point.inputs))
    weights = jax.random.normal(next(keys), (point.batch, point.steps, point.directions * point.hidden))
    stack, xs, weights = jax.tree.map(lambda a: a.astype(dtype), (tuple(layers), xs, weights))
    return Job(stack, xs, weights, mode)
