"""The results of a grid of comparisons, and the report of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from lstmjax.replica.compare import Difference


class Row(NamedTuple):
    """One array of one network, compared with one framework in one dtype."""

    peer: str
    dtype: str
    case: str
    what: str  # "outputs", "xs" (gradient of the inputs), or the path of a parameter
    difference: Difference
    bound: float
    errors: tuple[float, float]  # of ours and of theirs against the oracle, relative

    @property
    def passed(self) -> bool:
        """Whether the difference is within the bound; NaN is not."""
        return self.difference.relative <= self.bound

    @property
    def kind(self) -> str:
        """Kind of the bound: "outputs" or "gradients"."""
        return "outputs" if self.what == "outputs" else "gradients"

    def __str__(self) -> str:
        what = self.what if self.what == "outputs" else f"gradient of {self.what}"
        absolute, relative = self.difference[:2]
        return (
            f"FAIL {self.peer} {self.dtype}, {self.case}: {what}: {absolute:.1e} (relative {relative:.1e}) at "
            f"{self.difference.where}; bound {self.bound:.1e}; from the oracle ours is {self.errors[0]:.1e} away, "
            f"theirs {self.errors[1]:.1e}"
        )


class Skip(NamedTuple):
    """A framework, a dtype or gradients that were not checked, and why."""

    peer: str
    dtype: str | None  # None: all
    reason: str
    what: str = ""  # "gradients" if it is only those
    raised: bool = False  # the framework raised an error; else it is known that it cannot do this


@dataclass(frozen=True)
class Report:
    """All comparisons, and all that was not checked; `str` of it is the table."""

    title: str
    rows: tuple[Row, ...]
    skips: tuple[Skip, ...]

    @property
    def passed(self) -> bool:
        """Whether something was compared, and all of it is within its bound."""
        return bool(self.rows) and all(row.passed for row in self.rows)

    def __str__(self) -> str:
        lines = [self.title, "", *self._table(), ""] if self.rows else [self.title, ""]
        lines += [*(str(row) for row in self.rows if not row.passed), *self._not_checked()]
        return "\n".join([*lines, "", self._verdict()])

    def _verdict(self) -> str:
        """Return the last line: whether numbers differ, and how many runs prove nothing."""
        if not self.rows:
            return "nothing was compared, which proves nothing"
        if not self.passed:
            return "FAILED"
        errors = sum(skip.raised for skip in self.skips)
        if errors:
            plural = "s" if errors > 1 else ""
            return f"what was compared is within its bounds; {errors} run{plural} ended in an error, see above"
        return "all within their bounds"

    def _table(self) -> Iterator[str]:
        columns = ("arrays", 6), ("absolute", 9), ("relative", 9), ("of bound", 9)
        yield f"{'framework':12} {'dtype':9} {'':10} " + " ".join(name.rjust(width) for name, width in columns)
        groups: dict[tuple[str, str, str], list[Row]] = {}
        for row in self.rows:
            groups.setdefault((row.peer, row.dtype, row.kind), []).append(row)
        for (peer, dtype, kind), rows in groups.items():
            worst = " ".join(f"{max(row.difference[n] for row in rows):9.1e}" for n in range(2))
            share = max(row.difference.relative / row.bound for row in rows)
            good = all(row.passed for row in rows)
            yield f"{peer:12} {dtype:9} {kind:10} {len(rows):6} {worst} {share:9.0%} {'pass' if good else 'FAIL'}"

    def _not_checked(self) -> Iterator[str]:
        runs: dict[tuple[str, str, str], list[str]] = {}  # the dtype of each run that was skipped
        for skip in self.skips:
            dtypes = runs.setdefault((skip.peer, skip.what, skip.reason), [])
            if skip.dtype:
                dtypes.append(skip.dtype)
        for (peer, what, reason), dtypes in runs.items():
            line = f"not checked: {peer}"
            if what:
                line += f", {what}"
            if not dtypes:
                yield f"{line}: {reason}"
                continue
            plural = "s" if len(dtypes) > 1 else ""
            yield f"{line} in {', '.join(dict.fromkeys(dtypes))}: {reason} ({len(dtypes)} run{plural})"
