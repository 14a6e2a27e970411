"""How well a quantity known beforehand predicts another over seeds: rank correlations and fits."""

import numpy as np
import scipy.stats
import xarray as xr

_MOST_RANKS = 2**22  # in memory at a time


def over_seeds(known: xr.DataArray, wanted: xr.DataArray) -> xr.DataArray:
    """Return Spearman's rank correlation of `known` and `wanted`, shape (seed,), over seeds, as pseudo-values.

    There is one pseudo-value of the jackknife for each seed. Their mean is the correlation without its bias of order
    1/n, and their Student t interval is the interval of the correlation (Efron and Stein, Annals of Statistics 9 (1981)
    586-596). `known` may have more dimensions; each of their labels has a separate correlation. A seed with a value
    that is not finite has NaN. All seeds have NaN if `known` or `wanted` is constant or fewer than four seeds are left.
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
    without = [_without(*ranks, left_out) for left_out in np.array_split(np.arange(n), -(-n * n // _MOST_RANKS))]
    found[both] = n * whole - (n - 1) * np.concatenate(without)
    return found


def _without(x: np.ndarray, y: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    """Return the rank correlation without each of the seeds `left_out`, from the ranks of all seeds."""
    left = np.arange(len(x)) != left_out[:, None]
    # Ranks above the seed that is left out fall by one, and ranks tied with it fall by a half.
    a, b = (np.where(left, ranks - np.heaviside(ranks - ranks[left_out, None], 0.5), 0.0) for ranks in (x, y))
    a, b = (np.where(left, ranks - ranks.sum(1, keepdims=True) / (len(x) - 1), 0.0) for ranks in (a, b))
    with np.errstate(invalid="ignore"):  # all others are tied
        return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))


def over_labels(known: xr.DataArray, wanted: xr.DataArray, dim: str) -> xr.DataArray:
    """Return Spearman's rank correlation of `known` and `wanted` over the labels of `dim`, in each seed.

    It is NaN if one of the two is constant.
    """

    def of_one(x: np.ndarray, y: np.ndarray) -> float:
        constant = min(len(np.unique(x)), len(np.unique(y))) < 2
        return np.nan if constant else float(scipy.stats.spearmanr(x, y).statistic)

    return xr.apply_ufunc(of_one, known, wanted, input_core_dims=[[dim], [dim]], vectorize=True)


def area_under_roc(known: xr.DataArray, happened: xr.DataArray, dim: str) -> xr.DataArray:
    """Return the area under the ROC curve of `known` as a predictor of `happened`, over the labels of `dim` per seed.

    It is the probability that `known` is larger at a label where it `happened` than at a label where it did not; ties
    count half. It is NaN if it happened at all labels or at none.
    """

    def of_one(x: np.ndarray, yes: np.ndarray) -> float:
        pairs = int(yes.sum()) * int((~yes).sum())
        return float(scipy.stats.mannwhitneyu(x[yes], x[~yes]).statistic) / pairs if pairs else np.nan

    return xr.apply_ufunc(of_one, known, happened, input_core_dims=[[dim], [dim]], vectorize=True)


def area_over_seeds(present: xr.DataArray, absent: xr.DataArray) -> xr.DataArray:
    """Return the area under the ROC curve that tells `present` from `absent`, both of shape (seed,), as pseudo-values.

    It is the probability that a value of `present` is larger than one of `absent`, over all pairs of seeds; ties count
    half. The pseudo-values of the seeds have the area as their mean, and their Student t interval is that of DeLong,
    DeLong and Clarke-Pearson (Biometrics 44 (1988) 837-845). Both may have more dimensions; each of their labels has a
    separate area. A seed with a value that is not finite has NaN.
    """

    def pseudo_values(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        found, both = np.full(len(x), np.nan), np.isfinite(x) & np.isfinite(y)
        larger = np.heaviside(x[both, None] - y[None, both], 0.5)
        found[both] = larger.mean(axis=1) + larger.mean(axis=0) - larger.mean() if both.any() else np.nan
        return found

    return xr.apply_ufunc(
        pseudo_values, present, absent, input_core_dims=[["seed"], ["seed"]], output_core_dims=[["seed"]],
        vectorize=True,
    ).transpose("seed", ...)  # fmt: skip


def cross_fitted(known: xr.DataArray, wanted: xr.DataArray, dim: str) -> xr.DataArray:
    """Predict `wanted`, shape (seed,), by a linear fit on all labels of `dim`, with cross-fitting.

    The fit for even seeds uses odd seeds, and the other way round. A seed with a value that is not finite has NaN.
    """
    x, y = known.transpose("seed", dim).values, wanted.values
    good = np.isfinite(x).all(axis=1) & np.isfinite(y)
    design = np.column_stack([np.ones(len(x)), x])
    odd = known.seed.values % 2 == 1
    found = np.full(len(y), np.nan)
    for half in (odd, ~odd):
        training = good & ~half
        if training.any():
            weights, *_ = np.linalg.lstsq(design[training], y[training])
            found[good & half] = design[good & half] @ weights
    return wanted.copy(data=found)
