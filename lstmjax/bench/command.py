"""The function behind `lstmjax bench`: it yields lines of text."""

from __future__ import annotations

import dataclasses
import inspect
import math
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lstmjax.bench import ensembles, show, steps
from lstmjax.bench import growth as curves
from lstmjax.bench.competitors import AUTO, OURS, Competitor, find_competitors
from lstmjax.bench.points import ENSEMBLE, MODES, POINTS, STREAMED, STREAMING, BenchError, Differs, Point, find_points
from lstmjax.bench.results import Results, read_json, write_json
from lstmjax.bench.run import measure
from lstmjax.writing import draft

OUT = {"json": (".json",), "plot": (".png", ".svg", ".pdf")}


def bench(
    points: str | None = None,
    sizes: tuple[str, ...] | None = None,
    *,
    modes: str = ",".join(MODES),
    competitors: str | None = None,
    dtype: str = "float32",
    rounds: int | None = None,
    seconds: float = 5.0,
    seed: int = 0,
    growth: str | None = None,
    quick: bool = False,
    streaming: bool = False,
    networks: int | None = None,
    json: Path | None = None,
    plot: Path | None = None,
    read: Sequence[Path] = (),
) -> Iterator[str]:
    """Yield the tables of a benchmark, measured or read from files, and write the files that are named.

    Args:
        points: names of points, separated by commas; None: all of them, or the sizes.
        sizes: each B,T,I,H.
        modes: "forward", "training" or both, separated by commas.
        competitors: names, separated by commas; None: all, or those of a curve.
        dtype: "float32" or "bfloat16".
        rounds, seconds, seed: see `measure`.
        growth: "T", "H" or "B": measure the curve over it, instead of points.
        quick: only a few small points of the curve.
        streaming: one step after the other, instead of sequences; the points are sizes, B = 1 of several H by default.
        networks: N, how many networks of a size are run, each with its weights and inputs; B16 T100 of H32 and H64 by
            default.
        json: file to write everything to, raw times included.
        plot: file to write the picture to, PNG, SVG or PDF.
        read: files of earlier runs; nothing is measured then.

    Raises:
        BenchError: an unknown name, or options that do not fit each other.
        Differs: one of our backends was not timed because it computes something else; raised after the last line.
    """
    for name, path in (("json", json), ("plot", plot)):
        _check_out(name, path)
    if len(read) > 1 and (json or plot):
        raise BenchError(f"--json and --plot take one run, but --read names {len(read)} files; name one of them")
    if read:
        runs = [read_json(path) for path in read]
    else:
        chosen = [STREAMING] if streaming else [mode.strip() for mode in modes.split(",")]
        unknown = [mode for mode in chosen if mode not in (*MODES, *[STREAMING] * streaming)]
        if unknown:
            raise BenchError(f"there is no mode {unknown[0]!r}; expected forward, training or both")
        if (rounds is not None and rounds < 1) or not 0 <= seconds < math.inf:
            raise BenchError(f"--rounds is {rounds} and --seconds {seconds}; expected 1 or more, and 0 or more")
        if not 0 <= seed < 2**32:
            raise BenchError(f"--seed is {seed}; expected a whole number from 0 to {2**32 - 1}")
        results = measure(
            *_points_and_competitors(points, sizes, competitors, growth, quick, streaming, networks),
            modes=chosen,
            dtype=dtype,
            seconds=seconds,
            rounds=rounds,
            seed=seed,
            growth=growth,
            tell=_tell,
        )
        options: dict[str, Any] = {
            "points": points,
            "sizes": sizes,
            "modes": modes,
            "competitors": competitors,
            "dtype": dtype,
        }
        options |= {"rounds": rounds, "seconds": seconds, "seed": seed, "growth": growth, "quick": quick}
        options |= {"streaming": streaming, "networks": networks}
        runs = [dataclasses.replace(results, command=_command(options))]
    for results in runs:
        if results.growth:
            yield from curves.lines(results)
        elif results.comparisons[0].mode == STREAMING:
            yield from steps.lines(results)
        else:
            yield from show.lines(results)
        yield ""
    if len(runs) > 1:
        yield from show.compared(runs, [path.name for path in read])
    yield from _write(runs[0], json, plot)
    rows = (row for results in runs for comparison in results.comparisons for row in comparison.rows)
    wrong = sorted({row.name for row in rows if row.kind == OURS and row.wrong})
    if wrong:
        raise Differs(f"{', '.join(wrong)} computes something else than lax.scan, see DIFFERS above; please report it")


def _command(options: Mapping[str, Any]) -> str:
    """Return the command that measures with these options of `bench`; those that have their default are left out."""
    defaults = inspect.signature(bench).parameters
    words = ["lstmjax", "bench"]
    for name, value in options.items():
        if value == defaults[name].default:
            continue
        words.append(f"--{name}")
        if value is not True:
            words += value if isinstance(value, tuple) else [f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join(words)


def _points_and_competitors(
    points: str | None,
    sizes: Sequence[str] | None,
    competitors: str | None,
    growth: str | None,
    quick: bool,
    streaming: bool,
    networks: int | None,
) -> tuple[list[Point], list[Competitor]]:
    """Return the points to measure at, and the competitors."""
    if streaming or networks is not None:
        return _sizes_and_competitors(points, sizes, competitors, growth, streaming, networks)
    if growth is None:
        if quick:
            raise BenchError("--quick is for a curve; give --growth T with it, or --points E --seconds 1 for a look")
        if points is None:
            points = ",".join(POINTS) if sizes is None else ""
        selected = find_points(points, tuple(sizes or ()))
        if not selected:
            raise BenchError("no point is named; give --points A,C or --sizes 32,100,5,256")
        return selected, find_competitors(competitors)
    if points is not None or sizes is not None:
        raise BenchError(f"--growth {growth} has sizes of its own; give it without --points and --sizes")
    rows = find_competitors(curves.COMPETITORS if competitors is None else competitors)
    if not any(row.name == AUTO for row in rows):
        raise BenchError(f"--growth {growth} is the curve of lstmjax auto; name it among --competitors")
    return curves.points(growth, quick), rows


def _sizes_and_competitors(
    points: str | None,
    sizes: Sequence[str] | None,
    competitors: str | None,
    growth: str | None,
    streaming: bool,
    networks: int | None,
) -> tuple[list[Point], list[Competitor]]:
    """Return what `_points_and_competitors` does for steps, or for several networks."""
    option = "--streaming" if streaming else "--networks"
    if growth is not None or (streaming and networks is not None):
        raise BenchError(
            f"{option} goes without {'--growth' if growth is not None else '--networks'}; give one of them"
        )
    if networks is not None and networks < 2:
        raise BenchError(f"--networks is {networks}; expected 2 or more")
    if points is not None or sizes is not None:
        selected = find_points(points or "", tuple(sizes or ()))
    else:
        selected = [*(STREAMED if streaming else ENSEMBLE)]
    if any(point.directions > 1 or point.layers > 1 for point in selected):
        raise BenchError(f"{option} is for one layer in one direction; give --sizes B,T,I,H")
    if networks is None:
        return selected, find_competitors(competitors, steps.ROWS)
    return [dataclasses.replace(p, networks=networks) for p in selected], find_competitors(competitors, ensembles.ROWS)


def _write(results: Results, json: Path | None, plot: Path | None) -> Iterator[str]:
    if json is not None:
        write_json(results, json)
        yield f"everything written to {json}"
    if plot is not None:
        from lstmjax.bench.picture import picture

        with draft(plot) as place:
            picture(results).savefig(place, format=plot.suffix[1:].lower())
        yield f"picture written to {plot}"


def _check_out(name: str, path: Path | None) -> None:
    """Refuse a file that cannot be written, before minutes are spent."""
    if path is None:
        return
    if path.suffix.lower() not in OUT[name]:
        raise BenchError(f"--{name} is {path}; expected a name that ends in {' or '.join(OUT[name])}")
    if not path.parent.is_dir():
        raise BenchError(f"{path}: there is no folder {path.parent}")
    existed = path.exists()
    try:
        path.open("ab").close()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise BenchError(f"--{name} is {path}: {reason}; name a file that can be written") from None
    if not existed:
        path.unlink()


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
