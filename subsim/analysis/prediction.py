"""How well something known beforehand tells one seed from another: rank correlations and fits over seeds."""

import numpy as np
import scipy.stats
import xarray as xr


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
    without = [scipy.stats.spearmanr(np.delete(x, place), np.delete(y, place)).statistic for place in range(n)]
    found[both] = n * whole - (n - 1) * np.array(without)
    return found


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
