"""What breaks Lemma 1: how often the sign is wrong, for losses, steps and starts that the lemma does not cover."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import xarray as xr
from jaxtyping import Array, Float

from subsim import Study, Table, Variable, mean_interval
from subsim.analysis.summary import positive_rate
from subsim.claims.edges import EPS, REASONS, products
from subsim.engine.study import Run
from subsim.options import require_range

SETTINGS = ["KL", *REASONS]  # "KL" is the control, without a violation


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Hyper:
    """Traced hyperparameters: they may differ within one compiled program."""

    eps: float | Array = EPS
    """The teacher's step size; the setting `a large eps` has another one."""


class Record(NamedTuple):
    """d_S . d_T and its cosine in each setting."""

    inner_product: Float[Array, " setting"]
    cosine: Float[Array, " setting"]


def run(key: Array, numbers: Hyper) -> Record:
    """Compute the products of one seed's problem in every setting."""
    found = products(key, numbers.eps)
    return Record(*(jnp.stack([found[name][part] for name in SETTINGS]) for part in (0, 1)))


def make_run(_config: None, _data: None) -> Run:
    """Return the run, which has no config and needs no data."""
    return run


def check(_config: None, numbers: Hyper) -> None:
    """Raise `UserError` if an option is out of range."""
    require_range(numbers, "eps", above=0)


def derived(results: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return whether the sign is wrong, as a boolean whose mean is a rate."""
    wrong = results.inner_product < 0
    return {"wrong": wrong.assign_attrs(description="whether the sign is wrong: d_S . d_T < 0")}


def report(results: xr.Dataset) -> list[Table]:
    """Tabulate rates of violation with exact 95% intervals, and the mean cosine with its Student t interval."""
    rows = []
    for name in SETTINGS:
        here = results.sel(setting=name)
        wrong = positive_rate(-here.inner_product)
        mean = mean_interval(here.cosine)
        cosine = f"{float(mean['mean']):.3f} [{float(mean.low):.3f}, {float(mean.high):.3f}]"
        rows.append((name, str(wrong.n), wrong.in_words(4), cosine))
    return [Table("Lemma 1 outside its assumptions", ("setting", "n", "P(d_S.d_T < 0) and 95%", "cosine"), tuple(rows))]


study = Study(
    name="violations",
    title=__doc__,
    make_run=make_run,
    hyper=Hyper(),
    check=check,
    derived=derived,
    report=report,
    coords={"setting": SETTINGS},
    variables={
        "inner_product": Variable("d_S . d_T, or the step taken in place of d_S", ("setting",)),
        "cosine": Variable("cosine of d_S, or of the step in its place, and d_T", ("setting",)),
    },
    seeds=10_000,
    finding="Hard labels, smoothed ones, and a start of its own break the sign: in .683 [.674, .692], .308 [.299, "
    ".317] and .390 [.380, .399] of seeds (n = 10,000).",
    cost="15 seconds on 2 cores",
    precision="float64",
    precisions=("float64", "float32"),
)
