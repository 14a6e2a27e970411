"""What each factor of a full factorial explains, seed by seed: main effects, interactions of two, and the rest."""

import itertools
from collections.abc import Sequence

import xarray as xr

from subsim.engine.study import Table
from subsim.engine.summary import mean_interval


def main_effects(values: xr.DataArray, factor: str) -> xr.Dataset:
    """`mean_interval`, for each level of `factor`, of the level's mean less the mean of all levels, in each seed.

    `values` has the dimension `seed` and one for every factor, of which the others are averaged over.
    """
    others = [dim for dim in values.dims if dim not in ("seed", factor)]
    by_level = values.mean(others, skipna=False)
    return mean_interval(by_level - by_level.mean(factor, skipna=False))


def factors_of(values: xr.DataArray) -> list[str]:
    """The dimensions of `values` beside the seed."""
    return [str(dim) for dim in values.dims if dim != "seed"]


def variance_shares(values: xr.DataArray) -> dict[tuple[str, ...], xr.Dataset]:
    """`mean_interval` over the seeds of the share of a seed's variance over the factorial that each factor explains,
    each pair of factors beyond its two, and, under `()`, all larger interactions together.

    The factors are the dimensions of `values` beside the seed. The largest share comes first, that of `()` last.
    The shares of a seed add up to 1 (the sums of squares of a balanced factorial are orthogonal).
    """
    factors = factors_of(values)
    total = values.var(factors, skipna=False)
    effect: dict[tuple[str, ...], xr.DataArray] = {(): values.mean(factors, skipna=False)}
    for group in [(factor,) for factor in factors] + list(itertools.combinations(factors, 2)):
        mean = values.mean([factor for factor in factors if factor not in group], skipna=False)
        effect[group] = mean - sum(part for inner, part in effect.items() if set(inner) < set(group))
    del effect[()]
    shares = {group: (part**2).mean(group, skipna=False) / total for group, part in effect.items()}
    rest: xr.DataArray = 1 - sum(shares.values())  # type: ignore[assignment]
    found = {group: mean_interval(share) for group, share in shares.items()}
    return dict(sorted(found.items(), key=lambda item: -float(item[1]["mean"]))) | {(): mean_interval(rest)}


def named(factors: Sequence[str]) -> str:
    """Factors by what their option is called last: `student.learning_rate` is learning rate; of none the rest."""
    names = [factor.rpartition(".")[2].replace("_", " ") for factor in factors]
    return " x ".join(names) or "larger interactions"


def effects_table(values: xr.DataArray, title: str) -> Table:
    """The main effects of the factors, the dimensions of `values` beside the seed: a row for every level."""
    factors, rows = factors_of(values), []
    for factor in factors:
        effects = main_effects(values, factor)
        means = mean_interval(values.mean([dim for dim in factors if dim != factor]))
        for place, level in enumerate(values[factor].values):
            effect, mean = effects.isel({factor: place}), float(means["mean"].isel({factor: place}))
            words = f"{float(effect['mean']):+.3f} [{float(effect.low):+.3f}, {float(effect.high):+.3f}]"
            rows.append((f"{named([factor])}: {level}", f"{mean:.3f}", words, str(int(effect.n))))
    return Table(title, ("level", "mean", "effect and 95% interval", "n"), tuple(rows))


def shares_table(values: xr.DataArray, title: str) -> Table:
    """The shares of variance of the factors, the largest first, and of what is left at the end."""
    rows = []
    for group, share in variance_shares(values).items():
        cells = (float(share["mean"]), float(share.low), float(share.high))
        rows.append((named(group), "{:.3f} [{:.3f}, {:.3f}]".format(*cells), str(int(share.n))))
    return Table(title, ("explained by", "share and 95% interval", "n"), tuple(rows))
