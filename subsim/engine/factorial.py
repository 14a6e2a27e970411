"""What each factor of a full factorial explains, seed by seed: main effects, interactions of two, and the rest."""

import itertools
from collections.abc import Mapping, Sequence

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


def variance_shares(values: xr.DataArray, factors: Sequence[str]) -> dict[tuple[str, ...], xr.Dataset]:
    """`mean_interval` over the seeds of the share of a seed's variance over the factorial that each factor explains,
    each pair of factors beyond its two, and, under `()`, all larger interactions together.

    The shares of a seed add up to 1 (the sums of squares of a balanced factorial are orthogonal).
    """
    total = values.var(factors, skipna=False)
    effect: dict[tuple[str, ...], xr.DataArray] = {(): values.mean(factors, skipna=False)}
    for group in [(factor,) for factor in factors] + list(itertools.combinations(factors, 2)):
        mean = values.mean([factor for factor in factors if factor not in group], skipna=False)
        effect[group] = mean - sum(part for inner, part in effect.items() if set(inner) < set(group))
    del effect[()]
    shares = {group: (part**2).mean(group, skipna=False) / total for group, part in effect.items()}
    rest: xr.DataArray = 1 - sum(shares.values())  # type: ignore[assignment]
    return {group: mean_interval(share) for group, share in {**shares, (): rest}.items()}


def effects_table(values: xr.DataArray, factors: Mapping[str, str], title: str) -> Table:
    """The main effects of `factors` (dimension -> name): a row for every level."""
    rows = []
    for factor, name in factors.items():
        effects = main_effects(values, factor)
        means = mean_interval(values.mean([dim for dim in values.dims if dim not in ("seed", factor)]))
        for place, level in enumerate(values[factor].values):
            effect, mean = effects.isel({factor: place}), float(means["mean"].isel({factor: place}))
            words = f"{float(effect['mean']):+.3f} [{float(effect.low):+.3f}, {float(effect.high):+.3f}]"
            rows.append((f"{name}: {level}", f"{mean:.3f}", words, str(int(effect.n))))
    return Table(title, ("level", "mean", "effect and 95% interval", "n"), tuple(rows))


def shares_table(values: xr.DataArray, factors: Mapping[str, str], title: str) -> Table:
    """The shares of variance of `factors` (dimension -> name), the largest first, and of what is left at the end."""
    shares = variance_shares(values, list(factors))
    ordered = sorted((group for group in shares if group), key=lambda group: -float(shares[group]["mean"]))
    rows = []
    for group in [*ordered, ()]:
        share = shares[group]
        words = " x ".join(factors[factor] for factor in group) or "larger interactions"
        cells = (float(share["mean"]), float(share.low), float(share.high))
        rows.append((words, "{:.3f} [{:.3f}, {:.3f}]".format(*cells), str(int(share.n))))
    return Table(title, ("explained by", "share and 95% interval", "n"), tuple(rows))
