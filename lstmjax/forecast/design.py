"""The design of a forecaster: what it reads, what it is made of, what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from lstmjax.arguments import check_counts, check_real, described
from lstmjax.forecast.arguments import as_flag
from lstmjax.forecast.likelihoods import LIKELIHOODS, Likelihood
from lstmjax.forecast.scaling import SCALINGS, Scaling
from lstmjax.published import find_cell

FORMS = ("autoregressive", "handoff")
BASES = ("none", "last", "seasonal", "both")


@dataclass(frozen=True, kw_only=True)
class Design:
    """What is fixed about a forecaster; hashable, so that programs are compiled for it.

    There are two forms. "autoregressive" (DeepAR; Salinas et al. 2020) predicts one step from the targets before it,
    and feeds its samples back in the future. "handoff" reads the context with one stack of layers and hands its
    (h, c) to a second one, which sees what is known of the future only and returns the whole horizon at once.
    """

    horizon: int
    """H, steps to forecast."""
    context: int
    """C, steps before the origin that the network reads and the scale is computed from."""
    season: int = 1
    """m, steps in a season; 1: none."""
    form: str = "autoregressive"
    """"autoregressive" or "handoff"."""
    hidden_size: int = 40
    """Units of each layer."""
    layers: int = 1
    """Layers on top of each other."""
    cell: str = "vanilla"
    """A name in `lstmjax.CELLS`."""
    dropout: float = 0.0
    """Rate of dropout between layers and before the head."""
    likelihood: str = "student_t"
    """A name in `LIKELIHOODS`: what the head's outputs mean."""
    scaling: str = "mean"
    """A name in `SCALINGS`: how the targets of a window are scaled."""
    lags: tuple[int, ...] = (1,)
    """Steps back of the targets that the network sees at each step, 1 among them."""
    base: str = "none"
    """What is added to the location of the distribution: "none", "last" (y of the step before), "seasonal" (y a season
    before), or "both" (last + what followed a season ago: y(t−1) + y(t−m) − y(t−m−1))."""
    seasonal_adjustment: bool = False
    """Subtract the seasonal pattern of the steps before the origin (classical decomposition) and add it to the
    forecasts; the network sees what is left, and the pattern beside it."""
    volatility: bool = False
    """Whether the network sees how much the targets before the origin change from step to step, recently and in the
    context, so that it can tell calm series from wild ones."""
    embedding: int = 8
    """Numbers in which each static category is embedded."""

    def __post_init__(self) -> None:
        check_counts(self, "horizon", "context", "season", "hidden_size", "layers", "embedding")
        for name, known in (
            ("form", FORMS), ("base", BASES), ("likelihood", tuple(LIKELIHOODS)), ("scaling", tuple(SCALINGS)),
        ):  # fmt: skip
            value = getattr(self, name)
            if not isinstance(value, str) or value not in known:
                near = get_close_matches(str(value), known, 1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"{name} is {described(value)}, expected one of {', '.join(map(repr, known))}.{hint}")
        check_real("dropout", self.dropout, lambda rate: 0.0 <= rate < 1.0, "a rate from 0 to below 1")
        # arrays would not be hashable
        object.__setattr__(self, "dropout", float(self.dropout))
        for name in ("seasonal_adjustment", "volatility"):
            object.__setattr__(self, name, as_flag(name, getattr(self, name)))
        lags = tuple(self.lags) if isinstance(self.lags, list | tuple) else ()
        if any(not isinstance(lag, int) or isinstance(lag, bool) for lag in lags):
            lags = ()
        if not lags or min(lags) < 1 or 1 not in lags or len(set(lags)) < len(lags):
            raise ValueError(f"lags is {self.lags!r}, expected different whole numbers from 1 up, 1 among them.")
        object.__setattr__(self, "lags", lags)  # a list would not be hashable
        find_cell(self.cell)
        self._check_support()
        if self.seasonal_adjustment and (self.season == 1 or self.reach + self.context < 2 * self.season):
            raise ValueError(
                "seasonal_adjustment needs a season, and two seasons before the origin, but season is "
                f"{self.season} and {self.reach + self.context} steps are read. Pass season, and a larger context."
            )
        if self.base in ("seasonal", "both") and self.season == 1:
            raise ValueError(
                f"base is {self.base!r}, but season is 1: there is no season. Pass season, or base='last'."
            )

    def _check_support(self) -> None:
        row, scaling = LIKELIHOODS[self.likelihood], SCALINGS[self.scaling]
        if row.support != "real" and scaling.name not in ("mean", "none"):
            raise ValueError(
                f"scaling is {scaling.name!r}, which makes targets negative, but likelihood {row.name!r} is for "
                f"{row.support} targets. Pass scaling='mean'."
            )
        if self.seasonal_adjustment and row.support != "real":
            raise ValueError(
                f"seasonal_adjustment makes targets negative, but likelihood {row.name!r} is for {row.support} "
                "targets. Leave it out, or pass likelihood='student_t'."
            )
        if not row.location and self.base != "none":
            raise ValueError(
                f"base is {self.base!r}, but likelihood {row.name!r} has no location to add it to. Pass base='none', "
                "or another likelihood."
            )

    @property
    def head(self) -> Likelihood:
        """The row of `LIKELIHOODS`."""
        return LIKELIHOODS[self.likelihood]

    @property
    def scale(self) -> Scaling:
        """The row of `SCALINGS`."""
        return SCALINGS[self.scaling]

    @property
    def has_mean(self) -> bool:
        """Whether forecasts have a mean: Student's t of logarithms has none."""
        return self.head.exponential_has_mean or not self.scale.logarithmic

    @property
    def reach(self) -> int:
        """Steps before the context that a window holds, for its lags."""
        needed = {"none": 0, "last": 1, "seasonal": self.season, "both": self.season + 1}[self.base]
        return max(*self.lags, needed)
