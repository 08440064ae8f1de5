"""Our side against every installed framework on random networks: values and gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from lstmjax.arguments import check_positive, one_of
from lstmjax.frameworks import PEERS, oracle
from lstmjax.frameworks.base.framework import Peer
from lstmjax.frameworks.base.running import Outcome
from lstmjax.replica import bounds
from lstmjax.replica.cases import Case, Drawn, draw_cases
from lstmjax.replica.compare import compare
from lstmjax.replica.report import Failure, Report, Row, Skip
from lstmjax.stack import stacked

DTYPES = ("float64", "float32", "bfloat16", "float16")


def grid(
    against: Sequence[str] | None = None,
    *,
    cases: int | Sequence[Case] = 8,
    seed: int = 0,
    dtypes: Sequence[str] = DTYPES,
    tell: Callable[[str], Any] | None = None,
) -> Report:
    """Run random networks on our side and in every framework, and compare outputs and gradients.

    Both sides get the same weights, inputs and cotangents. `lstmjax.replica.bounds` states the bounds. What
    is not installed, or cannot do something, is listed as not checked.

    Args:
        against: names of `PEERS`; None: all.
        cases: how many networks, or the networks themselves. The first ones are `EXTREMES`.
        seed: of the random networks.
        dtypes: to compute in.
        tell: is called with a line before each network.

    Raises:
        ValueError: an unknown name or dtype, or fewer than one network.

    Example:
        >>> from lstmjax.replica import Case
        >>> report = grid(["oracle"], cases=[Case(3, 4, 5)], dtypes=["float64"])
        >>> report.passed, len(report.rows)
        (True, 5)
    """
    for name in against or ():
        one_of("against", name, tuple(PEERS))
    for dtype in dtypes:
        one_of("dtypes", dtype, DTYPES)
    if isinstance(cases, int):
        check_positive("cases", cases)
        networks = draw_cases(cases, seed)
    else:
        networks = list(cases)
    title = f"lstmjax on JAX {jax.__version__}, {jax.default_backend()}: {len(networks)} networks, seed {seed}"
    rows: list[Row] = []
    failures: list[Failure] = []
    skips: list[Skip] = []
    peers = []
    for name in PEERS if against is None else against:
        peer = PEERS[name]
        if peer.missing:
            skips.append(Skip(name, None, peer.missing))
        else:
            peers.append(peer)
    for n, case in enumerate(networks):
        if tell is not None:
            tell(f"network {n + 1} of {len(networks)}: {case}")
        drawn = case.draw()
        for dtype in dtypes:
            for entry in _compare_all(peers, case, dtype, drawn.rounded(dtype)):
                if isinstance(entry, Row):
                    rows.append(entry)
                elif isinstance(entry, Failure):
                    failures.append(entry)
                else:
                    skips.append(entry)
    return Report(title, tuple(rows), tuple(failures), tuple(skips))


def our_side(drawn: Drawn) -> Outcome:
    """Return our outputs and gradients, compiled, with matrix products in full precision."""

    @jax.jit
    def value_and_gradients(layers: Any, xs: Any, d_ys: Any) -> Any:
        ys, pull = jax.vjp(lambda layers, xs: stacked(layers, xs, lengths=drawn.lengths)[1], layers, xs)
        return ys, *pull(d_ys)

    with jax.default_matmul_precision("highest"):
        return Outcome(*jax.tree.map(np.asarray, value_and_gradients(drawn.layers, drawn.xs, drawn.d_ys)))


def _compare_all(peers: Sequence[Peer], case: Case, dtype: str, drawn: Drawn) -> list[Row | Failure | Skip]:
    """Return what came of a network in a dtype: its comparison with each framework, or why there is none."""
    reasons = {peer.name: _obstacle(peer, case, dtype) for peer in peers}
    entries: list[Row | Failure | Skip] = [skip for skip in reasons.values() if skip]
    able = [peer for peer in peers if not reasons[peer.name]]
    if not able:
        return entries
    with jax.enable_x64(dtype == "float64"):
        ours = our_side(drawn)
        reference = oracle.run(drawn.layers, drawn.xs, drawn.lengths, drawn.d_ys)
        for peer in able:
            try:
                if peer.run is oracle.run:
                    entries += _rows(peer.name, str(case), dtype, drawn, ours, reference, None)
                else:
                    theirs = peer.run(drawn.layers, drawn.xs, drawn.lengths, drawn.d_ys)
                    entries += _rows(peer.name, str(case), dtype, drawn, ours, theirs, reference)
            except ModuleNotFoundError as error:  # what a framework runs on may be missing
                entries.append(Skip(peer.name, dtype, f"{error.name} not installed"))
            except Exception as error:  # whatever a framework raises: it was not shown to agree, and others go on
                lines = str(error).strip().splitlines() or [""]
                entries.append(Failure(peer.name, dtype, str(case), f"{type(error).__name__}: {lines[0]}"))
    return entries


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
    arrays = {"outputs": np.where(valid, side.ys, 0)}
    if side.layers is None:
        return arrays
    gradients = {jax.tree_util.keystr(path): a for path, a in jax.tree.leaves_with_path(side.layers)}
    for path, _ in jax.tree.leaves_with_path(ours.layers):
        name = jax.tree_util.keystr(path)
        arrays[f"layers{name}"] = np.asarray(gradients[name])
    return arrays | {"xs": np.asarray(side.xs)}
