"""What each factor of a full factorial explains, seed by seed: main effects, interactions of two, and the rest.

The factors are the dimensions of the values beside the seed.
"""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr


def factors_of(values: xr.DataArray) -> list[str]:
    """The dimensions of `values` beside the seed."""
    return [str(dim) for dim in values.dims if dim != "seed"]


def named(factors: Sequence[str]) -> str:
    """Factors by what their option is called last: `student.learning_rate` is learning rate; of none the rest."""
    names = [factor.rpartition(".")[2].replace("_", " ") for factor in factors]
    return " x ".join(names) or "larger interactions"


def main_effects(values: xr.DataArray) -> xr.DataArray:
    """For each level of each factor the level's mean less the mean of all its levels, in each seed: (seed, level)."""
    factors, effects, names = factors_of(values), [], []
    for factor in factors:
        by_level = values.mean([other for other in factors if other != factor], skipna=False)
        effects.append((by_level - by_level.mean(factor, skipna=False)).transpose("seed", factor).values)
        names += [f"{named([factor])}: {level}" for level in values[factor].values]
    coords = {"seed": values.seed, "level": names}
    about = {"description": "mean over the factorial at a level less that over all levels of its factor"}
    return xr.DataArray(np.concatenate(effects, axis=1), coords, ("seed", "level"), attrs=about)


def variance_shares(values: xr.DataArray) -> xr.DataArray:
    """The share of a seed's variance over the factorial that each factor explains, each pair of factors beyond its two,
    and last all larger interactions together: (seed, explained_by), the largest in the mean first.

    The shares of a seed add up to 1 (the sums of squares of a balanced factorial are orthogonal).
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
    """Take the labels of `dim` that name a cell of a factorial, one level of each factor, with commas between them, and
    give every factor a dimension of its own, in the place of `dim`."""
    cells = [", ".join(cell) for cell in itertools.product(*levels.values())]
    at = values.dims.index(dim)
    found = values.sel({dim: cells}).values
    sizes = map(len, levels.values())
    dims = (*values.dims[:at], *levels, *values.dims[at + 1 :])
    coords = {name: coord for name, coord in values.coords.items() if coord.dims != (dim,)} | dict(levels)
    shape = (*found.shape[:at], *sizes, *found.shape[at + 1 :])
    return xr.DataArray(found.reshape(shape), coords, dims, attrs=values.attrs)
