"""Our side against every framework that is there, on random networks: values and gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from lstmjax.arguments import check_positive, one_of
from lstmjax.replica import bounds
from lstmjax.replica.cases import Case, Drawn, draw_cases
from lstmjax.replica.compare import compare
from lstmjax.replica.peers import PEERS, Outcome, Peer, oracle
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
    """Gives a report on random networks run by us and by every framework: outputs and gradients.

    Both sides get the same weights, inputs and cotangents. `lstmjax.replica.bounds` states the bounds. What
    is not installed, or cannot do something, is named as not checked.

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
    for name, asked, known in (("against", against or (), tuple(PEERS)), ("dtypes", dtypes, DTYPES)):
        for one in asked:
            one_of(name, one, known)
    if isinstance(cases, int):
        check_positive("cases", cases)
    networks = draw_cases(cases, seed) if isinstance(cases, int) else list(cases)
    title = f"lstmjax on JAX {jax.__version__}, {jax.default_backend()}: {len(networks)} networks, seed {seed}"
    asked = [PEERS[name] for name in (PEERS if against is None else against)]
    peers = [peer for peer in asked if not peer.missing]
    found: list[Row | Failure | Skip] = [Skip(peer.name, None, peer.missing) for peer in asked if peer.missing]
    for n, case in enumerate(networks):
        if tell is not None:
            tell(f"network {n + 1} of {len(networks)}: {case}")
        drawn = case.draw()
        for dtype in dtypes:
            found += _one_dtype(peers, case, dtype, drawn.rounded(dtype))
    return Report(
        title,
        tuple(one for one in found if isinstance(one, Row)),
        tuple(one for one in found if isinstance(one, Failure)),
        tuple(one for one in found if isinstance(one, Skip)),
    )


def our_side(drawn: Drawn) -> Outcome:
    """Gives our outputs and gradients, compiled, with matrix products in full precision."""

    @jax.jit
    def both(layers: Any, xs: Any, d_ys: Any) -> Any:
        ys, pull = jax.vjp(lambda layers, xs: stacked(layers, xs, lengths=drawn.lengths)[1], layers, xs)
        return ys, *pull(d_ys)

    with jax.default_matmul_precision("highest"):
        return Outcome(*jax.tree.map(np.asarray, both(drawn.layers, drawn.xs, drawn.d_ys)))


def _one_dtype(peers: Sequence[Peer], case: Case, dtype: str, drawn: Drawn) -> list[Row | Failure | Skip]:
    reasons = {peer.name: _cannot(peer, case, dtype) for peer in peers}
    found: list[Row | Failure | Skip] = [skip for skip in reasons.values() if skip]
    able = [peer for peer in peers if not reasons[peer.name]]
    if not able:
        return found
    with jax.enable_x64(dtype == "float64"):
        ours = our_side(drawn)
        reference = oracle.run(drawn.layers, drawn.xs, drawn.lengths, drawn.d_ys)
        for peer in able:
            try:
                same = peer.run is oracle.run
                theirs = reference if same else peer.run(drawn.layers, drawn.xs, drawn.lengths, drawn.d_ys)
                found += list(_rows(peer.name, str(case), dtype, drawn, ours, theirs, None if same else reference))
            except ModuleNotFoundError as error:  # what a framework runs on may be missing
                found.append(Skip(peer.name, dtype, f"{error.name} not installed"))
            except Exception as error:  # whatever a framework raises: it was not shown to agree, and others go on
                words = str(error).strip().splitlines() or [""]
                found.append(Failure(peer.name, dtype, str(case), f"{type(error).__name__}: {words[0]}"))
    return found


def _cannot(peer: Peer, case: Case, dtype: str) -> Skip | None:
    """Gives why a framework cannot run a network, or None."""
    narrow = dict(peer.narrow)
    if dtype in narrow:
        return Skip(peer.name, dtype, narrow[dtype])
    if case.pair and not peer.pairs:
        return Skip(peer.name, dtype, "it has no layer of two directions")
    if case.ragged and not peer.lengths:
        return Skip(peer.name, dtype, "it knows no lengths")
    if case.bias == "double" and peer.biases < 2:
        return Skip(peer.name, dtype, "it keeps one bias, and the network has two")
    return None


def _rows(
    peer: str, case: str, dtype: str, drawn: Drawn, ours: Outcome, theirs: Outcome, reference: Outcome | None
) -> list[Row | Skip]:
    """Compares array by array; `reference` tells the framework's own error, None: it is the reference itself."""
    if reference is not None and theirs.ys.dtype != ours.ys.dtype:
        return [Skip(peer, dtype, f"it computes in {theirs.ys.dtype}")]
    sides = [_arrays(side, ours, drawn.valid) for side in (ours, theirs, reference or theirs)]
    both = [what for what in sides[0] if what in sides[1]]
    errors = {what: [compare(side[what], sides[2][what]).relative for side in sides[:2]] for what in both}
    own = {kind: max((errors[what][1] for what in both if _kind(what) == kind), default=0.0) for kind in bounds.FLOAT64}
    rows: list[Row | Skip] = []
    for what in both:
        kind = _kind(what)
        if reference is None:
            bound = bounds.against_oracle(dtype, kind)
        else:
            bound = bounds.against_framework(dtype, kind, own[kind])
        difference = compare(sides[0][what], sides[1][what])
        rows.append(Row(peer, dtype, case, what, difference, bound, (errors[what][0], errors[what][1])))
    if theirs.layers is None:
        rows.append(Skip(peer, dtype, theirs.without or "it gave none", "gradients"))
    return rows


def _kind(what: str) -> str:
    return "outputs" if what == "outputs" else "gradients"


def _arrays(side: Outcome, ours: Outcome, valid: np.ndarray) -> dict[str, np.ndarray]:
    """Gives all arrays of a side by name, those that ours has; outputs at padding are left out."""
    found = {"outputs": np.where(valid, side.ys, 0)}
    if side.layers is None:
        return found
    theirs = {jax.tree_util.keystr(path): a for path, a in jax.tree.leaves_with_path(side.layers)}
    for path, _ in jax.tree.leaves_with_path(ours.layers):
        name = jax.tree_util.keystr(path)
        found[f"layers{name}"] = np.asarray(theirs[name])
    return found | {"xs": np.asarray(side.xs)}
