"""Our side against every installed framework on random networks: values and gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from lstmjax.arguments import as_flags, check_positive, one_of
from lstmjax.claims import counted
from lstmjax.frameworks import PEERS, oracle
from lstmjax.frameworks.base.framework import Peer
from lstmjax.frameworks.base.running import Outcome
from lstmjax.replica import bounds
from lstmjax.replica.cases import Case, Drawn, draw_cases
from lstmjax.replica.compare import compare
from lstmjax.replica.report import Report, Row, Skip
from lstmjax.stack import stacked

DTYPES = ("float64", "float32", "bfloat16", "float16")


class Extent(NamedTuple):
    """How much a grid compares where the caller does not say."""

    cases: int
    dtypes: tuple[str, ...]


QUICK, EXHAUSTIVE = Extent(5, ("float64", "float32")), Extent(8, DTYPES)


class Doing(NamedTuple):
    """The run that a grid begins."""

    done: int  # layers that ran before, each direction by itself; time goes into compiling them
    of: int  # layers of all runs, of our side and of every framework
    network: int  # from 1
    networks: int
    case: Case
    dtype: str
    peer: str  # "lstmjax" for our side


def grid(
    against: Sequence[str] | None = None,
    *,
    cases: int | Sequence[Case] | None = None,
    seed: int = 0,
    dtypes: Sequence[str] | None = None,
    exhaustive: bool = False,
    tell: Callable[[Doing], Any] | None = None,
) -> Report:
    """Run random networks on our side and in every framework, and compare outputs and gradients.

    Both sides get the same weights, inputs and cotangents. `lstmjax.replica.bounds` states the bounds. What
    is not installed, cannot do something or raises an error is listed as not checked, with the reason.

    Args:
        against: names of `PEERS`; None: all.
        cases: how many networks, or the networks themselves. The first ones are `EXTREMES`. None: 5, those alone;
            8 if exhaustive.
        seed: of the random networks.
        dtypes: to compute in. None: float64 and float32; if exhaustive bfloat16 and float16, too.
        exhaustive: compare more by default, which takes several times as long.
        tell: is called with a `Doing` before each run.

    Raises:
        ValueError: an unknown name or dtype, or fewer than one network.

    Example:
        >>> from lstmjax.replica import Case
        >>> report = grid(["oracle"], cases=[Case(3, 4, 5)], dtypes=["float64"])
        >>> report.passed, len(report.rows)
        (True, 5)
    """
    (exhaustive,) = as_flags(exhaustive=exhaustive)
    extent = EXHAUSTIVE if exhaustive else QUICK
    cases = extent.cases if cases is None else cases
    dtypes = extent.dtypes if dtypes is None else dtypes
    for name in against or ():
        one_of("against", name, tuple(PEERS))
    for dtype in dtypes:
        one_of("dtypes", dtype, DTYPES)
    if isinstance(cases, int):
        check_positive("cases", cases)
        networks = draw_cases(cases, seed)
    else:
        networks = list(cases)
    title = f"lstmjax on JAX {jax.__version__}, {jax.default_backend()}: {counted(len(networks), 'network')}, "
    title += f"seed {seed}, {', '.join(dtypes)}"
    rows: list[Row] = []
    skips: list[Skip] = []
    peers = []
    for name in PEERS if against is None else against:
        peer = PEERS[name]
        if peer.missing:
            skips.append(Skip(name, None, peer.missing))
        else:
            peers.append(peer)
    able: dict[tuple[int, str], list[Peer]] = {}
    for n, case in enumerate(networks):
        for dtype in dtypes:
            obstacles = [_obstacle(peer, case, dtype) for peer in peers]
            skips += [skip for skip in obstacles if skip]
            able[n, dtype] = [peer for peer, skip in zip(peers, obstacles, strict=True) if not skip]
    total = sum((1 + len(runners)) * networks[n].scans for (n, _), runners in able.items() if runners)
    done = 0
    for n, case in enumerate(networks):
        drawn = case.draw()
        for dtype in dtypes:
            runners = able[n, dtype]
            if not runners:
                continue
            doing = []
            for name in ("lstmjax", *(peer.name for peer in runners)):
                doing.append(Doing(done, total, n + 1, len(networks), case, dtype, name))
                done += case.scans
            for entry in _compare_all(runners, doing, drawn.rounded(dtype), tell):
                if isinstance(entry, Row):
                    rows.append(entry)
                else:
                    skips.append(entry)
    return Report(title, tuple(rows), tuple(skips))


def our_side(drawn: Drawn) -> Outcome:
    """Return our outputs and gradients, compiled, with matrix products in full precision."""

    @jax.jit
    def value_and_gradients(layers: Any, xs: Any, d_ys: Any) -> Any:
        ys, pull = jax.vjp(lambda layers, xs: stacked(layers, xs, lengths=drawn.lengths)[1], layers, xs)
        return ys, *pull(d_ys)

    with jax.default_matmul_precision("highest"):
        return Outcome(*jax.tree.map(np.asarray, value_and_gradients(drawn.layers, drawn.xs, drawn.d_ys)))


def _compare_all(
    peers: Sequence[Peer], doing: Sequence[Doing], drawn: Drawn, tell: Callable[[Doing], Any] | None
) -> Iterator[Row | Skip]:
    """Yield what came of a network in a dtype: its comparison with each framework, or why there is none.

    Args:
        peers: the frameworks that can run it.
        doing: the run of our side, and those of the frameworks.
        drawn: the network.
        tell: is called before each run, if there is one.
    """
    case, dtype = str(doing[0].case), doing[0].dtype
    with jax.enable_x64(dtype == "float64"):
        if tell is not None:
            tell(doing[0])
        ours = our_side(drawn)
        reference = oracle.run(drawn.layers, drawn.xs, drawn.lengths, drawn.d_ys)
        for peer, run in zip(peers, doing[1:], strict=True):
            if tell is not None:
                tell(run)
            if peer.run is oracle.run:
                yield from _rows(peer.name, case, dtype, drawn, ours, reference, None)
                continue
            try:
                theirs = peer.run(drawn.layers, drawn.xs, drawn.lengths, drawn.d_ys)
            except ModuleNotFoundError as error:  # what a framework runs on may be missing
                yield Skip(peer.name, dtype, f"{error.name} not installed")
            except Exception as error:  # whatever a framework raises proves nothing of its numbers; others go on
                lines = str(error).strip().splitlines() or [""]
                yield Skip(peer.name, dtype, f"{type(error).__name__}: {lines[0]}", raised=True)
            else:
                yield from _rows(peer.name, case, dtype, drawn, ours, theirs, reference)


def _obstacle(peer: Peer, case: Case, dtype: str) -> Skip | None:
    """Return why a framework cannot run a network, or None."""
    narrow = dict(peer.narrow)
    if dtype in narrow:
        return Skip(peer.name, dtype, narrow[dtype])
    if case.pair and not peer.pairs:
        return Skip(peer.name, dtype, "it has no layer of two directions")
    if case.ragged and not peer.lengths:
        return Skip(peer.name, dtype, "it takes no lengths")
    if case.bias == "double" and peer.biases < 2:
        return Skip(peer.name, dtype, "it keeps one bias, and the network has two")
    return None


def _rows(
    peer: str, case: str, dtype: str, drawn: Drawn, ours: Outcome, theirs: Outcome, reference: Outcome | None
) -> list[Row | Skip]:
    """Compare array by array; from `reference` follows the framework's error, None: theirs is the reference itself."""
    if reference is not None and theirs.ys.dtype != ours.ys.dtype:
        return [Skip(peer, dtype, f"it computes in {theirs.ys.dtype}")]
    a, b, exact = (_arrays(side, ours, drawn.valid) for side in (ours, theirs, reference or theirs))
    names = [name for name in a if name in b]
    errors = {name: (compare(a[name], exact[name]).relative, compare(b[name], exact[name]).relative) for name in names}
    largest = {"outputs": 0.0, "gradients": 0.0}  # errors of the framework
    for name in names:
        largest[_kind(name)] = max(largest[_kind(name)], errors[name][1])
    rows: list[Row | Skip] = []
    for name in names:
        if reference is None:
            bound = bounds.against_oracle(dtype, _kind(name))
        else:
            bound = bounds.against_framework(dtype, _kind(name), largest[_kind(name)])
        rows.append(Row(peer, dtype, case, name, compare(a[name], b[name]), bound, errors[name]))
    if theirs.layers is None:
        rows.append(Skip(peer, dtype, theirs.without or "it computed none", "gradients"))
    return rows


def _kind(name: str) -> str:
    return "outputs" if name == "outputs" else "gradients"


def _arrays(side: Outcome, ours: Outcome, valid: np.ndarray) -> dict[str, np.ndarray]:
    """Return the arrays of a side by name, those that ours has, and outputs without what is at padding."""
    arrays = {"outputs": np.where(valid, _like(side.ys, ours.ys), 0)}
    if side.layers is None:
        return arrays
    gradients = {jax.tree_util.keystr(path): a for path, a in jax.tree.leaves_with_path(side.layers)}
    for path, a in jax.tree.leaves_with_path(ours.layers):
        name = jax.tree_util.keystr(path)
        arrays[f"layers{name}"] = _like(gradients.get(name), a)
    return arrays | {"xs": _like(side.xs, ours.xs)}


def _like(array: Any, ours: Any) -> np.ndarray:
    """Return an array that has the shape of ours; one that is missing, or of another shape, as NaN: it differs."""
    return np.asarray(array) if np.shape(array) == np.shape(ours) else np.full_like(ours, np.nan)
