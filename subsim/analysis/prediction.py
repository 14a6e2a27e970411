"""How well something known beforehand tells one seed from another: rank correlations and fits over seeds."""

import numpy as np
import scipy.stats
import xarray as xr

_PLACES = 2**22  # of ranks held at a time


def over_seeds(known: xr.DataArray, wanted: xr.DataArray) -> xr.DataArray:
    """Spearman's rank correlation of `known` and `wanted`, of shape (seed,), over seeds, as one value a seed: the
    jackknife's pseudo-values, whose mean is the correlation without its bias of order 1/n and whose Student t interval
    is the correlation's (Efron and Stein, Annals of Statistics 9 (1981) 586-596).

    `known` may have more dimensions, each label of which is correlated alone. Seeds of which one of the two is not
    finite have NaN; so have all where one of the two is constant or fewer than four seeds are left.
    """
    return xr.apply_ufunc(
        _pseudo_values, known, wanted, input_core_dims=[["seed"], ["seed"]], output_core_dims=[["seed"]], vectorize=True
    ).transpose("seed", ...)


def _pseudo_values(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    found = np.full(len(x), np.nan)
    both = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    x, y, n = x[both], y[both], len(both)
    if n < 4 or min(len(np.unique(x)), len(np.unique(y))) < 2:
        return found
    whole = scipy.stats.spearmanr(x, y).statistic
    ranks = scipy.stats.rankdata(x), scipy.stats.rankdata(y)
    without = [_without(*ranks, places) for places in np.array_split(np.arange(n), -(-n * n // _PLACES))]
    found[both] = n * whole - (n - 1) * np.concatenate(without)
    return found


def _without(x: np.ndarray, y: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The rank correlation of the others, by the ranks of all, where each of `places` is left out."""
    left = np.arange(len(x)) != places[:, None]
    # Who lies above one that is left out moves down by a rank, who is tied with it by half of one.
    a, b = (np.where(left, ranks - np.heaviside(ranks - ranks[places, None], 0.5), 0.0) for ranks in (x, y))
    a, b = (np.where(left, ranks - ranks.sum(1, keepdims=True) / (len(x) - 1), 0.0) for ranks in (a, b))
    with np.errstate(invalid="ignore"):  # all others are tied
        return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))


def over_labels(known: xr.DataArray, wanted: xr.DataArray, dim: str) -> xr.DataArray:
    """Spearman's rank correlation of `known` and `wanted` over the labels of `dim`, within each seed; NaN where one of
    the two is constant."""

    def of_one(x: np.ndarray, y: np.ndarray) -> float:
        constant = min(len(np.unique(x)), len(np.unique(y))) < 2
        return np.nan if constant else float(scipy.stats.spearmanr(x, y).statistic)

    return xr.apply_ufunc(of_one, known, wanted, input_core_dims=[[dim], [dim]], vectorize=True)


def area_under_roc(known: xr.DataArray, happened: xr.DataArray, dim: str) -> xr.DataArray:
    """The probability, within each seed, that of two labels of `dim` the one where it `happened` has more of what is
    `known`, ties counted half; NaN where it happened at all labels or at none."""

    def of_one(x: np.ndarray, yes: np.ndarray) -> float:
        pairs = int(yes.sum()) * int((~yes).sum())
        return float(scipy.stats.mannwhitneyu(x[yes], x[~yes]).statistic) / pairs if pairs else np.nan

    return xr.apply_ufunc(of_one, known, happened, input_core_dims=[[dim], [dim]], vectorize=True)


def cross_fitted(known: xr.DataArray, wanted: xr.DataArray, dim: str) -> xr.DataArray:
    """For every seed what a linear fit of `wanted`, shape (seed,), on all labels of `dim` says, made of the seeds of
    the other parity: no seed is predicted by a fit that has seen it. NaN where one of them is not finite."""
    x, y = known.transpose("seed", dim).values, wanted.values
    good = np.isfinite(x).all(axis=1) & np.isfinite(y)
    design = np.column_stack([np.ones(len(x)), x])
    odd = known.seed.values % 2 == 1
    found = np.full(len(y), np.nan)
    for half in (odd, ~odd):
        seen = good & ~half
        if seen.any():
            weights, *_ = np.linalg.lstsq(design[seen], y[seen])
            found[good & half] = design[good & half] @ weights
    return wanted.copy(data=found)
