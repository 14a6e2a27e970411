"""Means and rates, always with their interval and n."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.special
import scipy.stats
import xarray as xr


def mean_interval(values: xr.DataArray, dim: str = "seed", level: float = 0.95) -> xr.Dataset:
    """Return the mean over `dim` with its Student t interval: variables `mean`, `low`, `high`, `n` and `dropped`.

    Values that are not finite (diverged networks) are left out and counted in `dropped`. If fewer than two are left,
    the interval is NaN. The mean of booleans is a rate with an exact interval: `rate_interval`.
    """
    if values.dtype == bool:
        return _rates(values, dim, level)
    finite = values.where(np.isfinite(values))
    n = finite.count(dim)
    mean = finite.mean(dim)
    # Not `finite.std`: some versions of xarray warn if fewer than two values are left.
    spread = np.sqrt(((finite - mean) ** 2).sum(dim) / (n - 1).where(n > 1)) / np.sqrt(n.where(n > 0))
    quantile = scipy.special.stdtrit(np.maximum(n - 1, 1), (1 + level) / 2)
    return xr.Dataset(
        {
            "mean": mean,
            "low": mean - quantile * spread,
            "high": mean + quantile * spread,
            "n": n,
            "dropped": values.sizes[dim] - n,
        }
    )


def _rates(truths: xr.DataArray, dim: str, level: float) -> xr.Dataset:
    """Return the `mean_interval` of booleans."""
    trials, yes = truths.sizes[dim], truths.sum(dim)

    def exact(successes: Any) -> tuple[float, float]:
        return rate_interval(int(successes), trials, level)

    low, high = xr.apply_ufunc(exact, yes, vectorize=True, output_core_dims=[[], []])
    counts = {"n": xr.full_like(yes, trials), "dropped": xr.zeros_like(yes)}
    return xr.Dataset({"mean": yes / trials, "low": low, "high": high, **counts})


def paired_contrast(a: xr.DataArray, b: xr.DataArray, dim: str = "seed", level: float = 0.95) -> xr.Dataset:
    """Return the `mean_interval` of the paired difference a - b: conditions of one seed share its randomness."""
    return mean_interval(a.reset_coords(drop=True) - b.reset_coords(drop=True), dim, level)


def minimum_detectable_effect(summary: xr.Dataset, power: float = 0.8, level: float = 0.95) -> xr.DataArray:
    """Return the smallest difference that a test at `level` finds with probability `power`.

    It is the standard error, from a `summary` of `mean_interval`, times the sum of two quantiles of Student's t. This
    is accurate from ten seeds on.
    """
    degrees = np.maximum(summary.n - 1, 1)
    quantile = scipy.special.stdtrit(degrees, (1 + level) / 2)
    error = (summary.high - summary.low) / 2 / quantile
    return error * (quantile + scipy.special.stdtrit(degrees, power))


def contrasts(
    values: xr.DataArray, pairs: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]], what: str
) -> xr.DataArray:
    """Return the paired differences of `values` between the two selections of each named pair: (seed, contrast).

    A selection maps dimensions to labels. A pair with a label that the data lacks is left out. `what` describes the
    differences.
    """
    found = {}
    for name, (a, b) in pairs.items():
        if all(label in values[dim].values for selection in (a, b) for dim, label in selection.items()):
            found[name] = (values.sel(a).reset_coords(drop=True) - values.sel(b).reset_coords(drop=True)).values
    stacked = np.stack(list(found.values()), axis=1) if found else np.empty((values.sizes["seed"], 0), values.dtype)
    coords = {"seed": values.seed, "contrast": list(found)}
    return xr.DataArray(stacked, coords, ("seed", "contrast"), attrs={"description": what})


def matched(values: xr.DataArray, along: xr.DataArray, dim: str, level: xr.DataArray) -> xr.DataArray:
    """Return `values` at the point of `dim` where `along` first falls to `level`, with linear interpolation.

    The result is NaN if `along` never falls to `level`, or is at or below it at the first point. `level` may have any
    of the other dimensions.
    """
    first = values.isel({dim: 0}, drop=True)
    y, x = (array.transpose(*first.dims, dim).values for array in (values, along))
    level_at = level.broadcast_like(first).transpose(*first.dims).values
    below = x <= level_at[..., None]
    after = below.argmax(-1)
    crosses = below.any(-1) & (after > 0)
    right = np.maximum(after, 1)[..., None]

    def at(array: np.ndarray, index: np.ndarray) -> np.ndarray:
        return np.take_along_axis(array, index, -1)[..., 0]

    x0, x1, y0, y1 = at(x, right - 1), at(x, right), at(y, right - 1), at(y, right)
    with np.errstate(divide="ignore", invalid="ignore"):
        part = (x0 - level_at) / (x0 - x1)
    found = np.where(crosses, y0 + part * (y1 - y0), np.nan)
    return first.copy(data=found.astype(values.dtype))


def lowest_common(along: xr.DataArray, dim: str, alike: xr.DataArray) -> xr.DataArray:
    """Return the lowest level that all curves of a seed with equal `alike` reach along `dim`.

    `alike` has one other dimension of `along`; the result has this dimension and the seed. One level for all seeds
    would be set by the worst seed, and most curves would be below it at their first point.
    """
    reached = along.min(dim)
    reached = reached.max([other for other in reached.dims if other not in (*alike.dims, "seed")])
    levels = [reached.where(alike == each).max(alike.dims) for each in alike]
    return xr.concat(levels, alike[alike.dims[0]]).transpose("seed", ...)


def median_interval(values: xr.DataArray, dim: str = "seed", level: float = 0.95) -> xr.Dataset:
    """Return the median over `dim` with a distribution-free interval: `median`, `low`, `high`, `n` and `dropped`.

    The interval lies between two order statistics and covers the median of any distribution with probability at least
    `level`; it is infinite if there are too few values. NaN is left out and counted in `dropped`; infinities count.
    """
    last = np.moveaxis(values.values, values.get_axis_num(dim), -1)
    # NaN is sorted last; one extra NaN stands for missing values.
    ordered = np.sort(np.concatenate([last, np.full((*last.shape[:-1], 1), np.nan)], axis=-1), axis=-1)
    n = np.asarray(np.sum(~np.isnan(ordered), axis=-1))
    # The largest k such that P(Binomial(n, 1/2) < k) is at most (1 - level) / 2.
    counts = np.arange(ordered.shape[-1] + 1)
    below = scipy.special.bdtr(counts, n[..., None], 0.5) <= (1 - level) / 2
    k = np.asarray(np.sum(below & (counts < n[..., None]), axis=-1))

    def at(index: Any) -> np.ndarray:
        return np.take_along_axis(ordered, np.clip(index, 0, ordered.shape[-1] - 1)[..., None], -1)[..., 0]

    middle = np.where(n % 2, at(n // 2), (at(n // 2 - 1) + at(n // 2)) / 2)
    parts = {
        "median": np.where(n > 0, middle, np.nan),
        "low": np.where(k > 0, at(k - 1), -np.inf),
        "high": np.where(k > 0, at(n - k), np.inf),
        "n": n,
        "dropped": values.sizes[dim] - n,
    }
    dims = [name for name in values.dims if name != dim]
    coords = {name: values[name] for name in dims if name in values.coords}
    return xr.Dataset({name: (dims, part) for name, part in parts.items()}, coords)


def rate_interval(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a rate of `successes` in `n` trials.

    Clopper and Pearson, Biometrika 26 (1934) 404-413.
    """
    tail = (1 - level) / 2
    if n == 0:
        return 0.0, 1.0
    low = 0.0 if successes == 0 else float(scipy.special.betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes == n else float(scipy.special.betaincinv(successes + 1, n - successes, 1 - tail))
    return low, high


class Rate(NamedTuple):
    """A rate in `n` trials with its exact 95% interval; without trials, NaN in [0, 1]."""

    rate: float
    low: float
    high: float
    n: int

    def in_words(self, decimals: int = 3) -> str:
        """Return the rate and its interval as text."""
        rate, low, high = (f"{part:.{decimals}f}" for part in self[:3])
        return f"{rate} [{low}, {high}]"

    @property
    def bars(self) -> list[list[float]]:
        """The interval as matplotlib's error bars."""
        return [[self.rate - self.low], [self.high - self.rate]]


def positive_rate(values: xr.DataArray) -> Rate:
    """Return the rate of positive `values`; values that are not finite are left out."""
    finite = values.values[np.isfinite(values.values)]
    positive, n = int((finite > 0).sum()), len(finite)
    return Rate(positive / n if n else np.nan, *rate_interval(positive, n), n)


def rank_correlation(
    a: xr.DataArray, b: xr.DataArray, over: str = "condition", within: Sequence[str] = ()
) -> xr.DataArray:
    """Return Spearman's rank correlation of `a` and `b` over the dimension `over`, averaged over `within`.

    The result has all other dimensions of `a` and `b`. Pairs with a value that is not finite are left out, and ties
    share their mean rank. The result is NaN if `a` or `b` is constant or fewer than two pairs are left.
    """

    def spearman(x: np.ndarray, y: np.ndarray) -> float:
        both = np.isfinite(x) & np.isfinite(y)
        if min(len(np.unique(each[both])) for each in (x, y)) < 2:
            return np.nan
        return float(scipy.stats.spearmanr(x[both], y[both]).statistic)

    found = xr.apply_ufunc(spearman, a, b, input_core_dims=[[over], [over]], vectorize=True)
    return found.mean(list(within), skipna=False)
