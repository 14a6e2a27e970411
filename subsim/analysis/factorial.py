"""Explain the variance of a full factorial in each seed: main effects, interactions of two factors, and the rest.

The factors are all dimensions of the values except the seed.
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr


def factors_of(values: xr.DataArray) -> list[str]:
    """Return the dimensions of `values` except the seed."""
    return [str(dim) for dim in values.dims if dim != "seed"]


def named(factors: Sequence[str]) -> str:
    """Return a name for a group of factors: `student.learning_rate` is learning rate; an empty group is the rest."""
    names = [factor.rpartition(".")[2].replace("_", " ") for factor in factors]
    return " x ".join(names) or "larger interactions"


def main_effects(values: xr.DataArray) -> xr.DataArray:
    """Return each level's mean minus the mean over all levels of its factor, in each seed: (seed, level)."""
    factors, effects, names = factors_of(values), [], []
    for factor in factors:
        by_level = values.mean([other for other in factors if other != factor], skipna=False)
        effects.append((by_level - by_level.mean(factor, skipna=False)).transpose("seed", factor).values)
        names += [f"{named([factor])}: {level}" for level in values[factor].values]
    coords = {"seed": values.seed, "level": names}
    about = {"description": "mean over the factorial at a level less that over all levels of its factor"}
    return xr.DataArray(np.concatenate(effects, axis=1), coords, ("seed", "level"), attrs=about)


def variance_shares(values: xr.DataArray) -> xr.DataArray:
    """Return the shares of a seed's variance over the factorial, by what explains them: (seed, explained_by).

    There is a share for each factor, for the interaction of each pair of factors, and last for all larger interactions
    together; the largest mean comes first. The shares of a seed add up to 1 (the sums of squares of a balanced
    factorial are orthogonal).
    """
    factors = factors_of(values)
    total = values.var(factors, skipna=False)
    effect: dict[tuple[str, ...], xr.DataArray] = {(): values.mean(factors, skipna=False)}
    for group in [(factor,) for factor in factors] + list(itertools.combinations(factors, 2)):
        mean = values.mean([factor for factor in factors if factor not in group], skipna=False)
        effect[group] = mean - sum(part for inner, part in effect.items() if set(inner) < set(group))
    del effect[()]
    shares = {group: ((part**2).mean(group, skipna=False) / total).values for group, part in effect.items()}
    shares = dict(sorted(shares.items(), key=lambda item: -float(np.nanmean(item[1]))))
    shares[()] = 1 - np.sum(list(shares.values()), axis=0)
    coords = {"seed": values.seed, "explained_by": list(map(named, shares))}
    about = {"description": "share of a seed's variance over the factorial"}
    return xr.DataArray(np.stack(list(shares.values()), axis=1), coords, ("seed", "explained_by"), attrs=about)


def split(values: xr.DataArray, dim: str, levels: Mapping[str, Sequence[str]]) -> xr.DataArray:
    """Replace the dimension `dim` by one dimension for each factor.

    A label of `dim` is a cell of the factorial: one level of each factor, separated by commas.
    """
    cells = [", ".join(cell) for cell in itertools.product(*levels.values())]
    at = values.dims.index(dim)
    found = values.sel({dim: cells}).values
    sizes = map(len, levels.values())
    dims = (*values.dims[:at], *levels, *values.dims[at + 1 :])
    coords = {name: coord for name, coord in values.coords.items() if coord.dims != (dim,)} | dict(levels)
    shape = (*found.shape[:at], *sizes, *found.shape[at + 1 :])
    return xr.DataArray(found.reshape(shape), coords, dims, attrs=values.attrs)
