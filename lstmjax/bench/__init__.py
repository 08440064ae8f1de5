"""The benchmark: lstmjax beside every peer, with the same weights, in one run; `lstmjax bench` on the command line.

    from lstmjax.bench import find_competitors, find_points, lines, measure

    results = measure(find_points("A,E"), find_competitors(None))
    print(*lines(results), sep=chr(10))

`points.py` lists the networks and `competitors.py` who takes part; `builders.py` builds our programs, those of other
frameworks stand in their rows. `run.py` compares and times them, `standing.py` computes who is ahead, `growth.py` how
time grows. docs/benchmarks.md explains the tables.
"""

from lstmjax.bench.clock import take_turns
from lstmjax.bench.competitors import ALL, Competitor, find_competitors
from lstmjax.bench.points import POINTS, BenchError, Point, find_points
from lstmjax.bench.results import Comparison, Results, Row, read_json, write_json
from lstmjax.bench.run import measure
from lstmjax.bench.show import lines
from lstmjax.bench.standing import Standing, geometric_mean, judge, noise, ratio

__all__ = [
    "ALL",
    "POINTS",
    "BenchError",
    "Comparison",
    "Competitor",
    "Point",
    "Results",
    "Row",
    "Standing",
    "find_competitors",
    "find_points",
    "geometric_mean",
    "judge",
    "lines",
    "measure",
    "noise",
    "ratio",
    "read_json",
    "take_turns",
    "write_json",
]
