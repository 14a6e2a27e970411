"""How small is sufficiently small: where along the teacher's ray does Theorem 1 stop holding, and what predicts it?"""

import functools
import itertools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
import xarray as xr
from jaxtyping import Array, Bool, Float

from subsim import Study, Table, Variable
from subsim.analysis.tables import median_in_words
from subsim.data.inputs import labelled_clusters, pixels, uniform_noise
from subsim.engine.study import Run
from subsim.networks.initial import InitScheme
from subsim.networks.mlp import MLPConfig, make_mlp
from subsim.options import require, require_range
from subsim.theory.problems import Data, trait_on
from subsim.theory.smallness import Smallness, critical_eps
from subsim.training.losses import IMITATION_LOSSES, imitated_logits

LOSSES = ["kl", "mse", "kl, all logits"]
PREDICTORS = ["quadratic", "cubic", "pade", "linear teacher", "quadratic trait"]


@dataclass(frozen=True)
class Config:
    """The network, by default 16-32-32-(5+3), and the resolution of the scan along the ray."""

    width: int = 32
    """Units in each hidden layer."""
    depth: int = 2
    """Number of hidden layers."""
    n_aux: int = 3
    """Number of auxiliary logits; kl and mse imitate these only."""
    init: InitScheme = "lecun"
    """The distribution of the initial parameters, as in every study."""
    n_pixels: int = 16
    """Number of inputs of the network."""
    n_class: int = 5
    """Number of class logits; the trait depends on these only."""
    batch: int = 32
    """Number of samples in L_T (Gaussian inputs, random labels) and in L_S (uniform noise on [-1, 1])."""
    points: int = 31
    """Number of step sizes in the scan for the first crossing, evenly spaced on a log scale; default: five a decade."""

    @property
    def network(self) -> MLPConfig:
        """Return the network's options from width and depth."""
        return MLPConfig(widths=(self.width,) * self.depth, n_aux=self.n_aux, init=self.init)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Hyper:
    """Traced hyperparameters: they may differ within one compiled program."""

    alpha: float | Array = 1.0
    """The student's step size."""
    nearest: float | Array = 1e-3
    """The smallest eps of the scan."""
    farthest: float | Array = 1e3
    """The largest eps of the scan; a larger critical eps is recorded as this value."""


class Record(NamedTuple):
    """The critical eps and its predictions, capped at the largest eps of the scan, and the derivatives of phi at 0.

    `met` says whether both the critical eps and its prediction are below the cap.
    """

    measured: Float[Array, " loss"]
    predicted: Float[Array, "loss predictor"]
    met: Bool[Array, "loss predictor"]
    derivatives: Float[Array, "loss order"]


def run(config: Config, key: Array, numbers: Hyper) -> Record:
    """Return the critical eps of one reference and its teacher, for every imitation loss."""
    own, task, noise = jax.random.split(key, 3)
    network = make_mlp(config.network, config.n_pixels, config.n_class)
    theta_0 = network.init(own)
    bank = uniform_noise(noise, config.batch, config.n_pixels)
    labelled = labelled_clusters(task, config.batch, config.n_pixels, config.n_class, structure=0.0)
    data = Data(*labelled, pixels(bank, bank.values))
    trait_loss = trait_on(network, data, config.n_class)
    aux_only, all_logits = imitated_logits(config.n_class, config.n_aux)

    def search(loss: str, mask: Array) -> Smallness:
        def value(z: Array, y: Array) -> Array:
            return IMITATION_LOSSES[loss].value(z, y, mask)

        return critical_eps(
            network.apply, theta_0, trait_loss, value, data.inputs,
            alpha=numbers.alpha, nearest=numbers.nearest, farthest=numbers.farthest, points=config.points,
        )  # fmt: skip

    found = [search("kl", aux_only), search("mse", aux_only), search("kl", all_logits)]
    measured = jnp.stack([one.measured for one in found])
    predicted = jnp.stack([jnp.stack([*one.predicted, one.linear_teacher, one.quadratic_trait]) for one in found])
    return Record(
        # A critical eps that is not found lies beyond the scan; NaN, where nothing is promised, stays NaN.
        measured=jnp.minimum(measured, numbers.farthest),
        predicted=jnp.minimum(predicted, numbers.farthest),
        met=(measured < numbers.farthest)[:, None] & (predicted < numbers.farthest),
        derivatives=jnp.stack([one.derivatives for one in found]),
    )


def make_run(config: Config, _data: None) -> Run:
    """Return the run of `config`, which needs no data."""
    return functools.partial(run, config)


def check(config: Config, hyper: Hyper) -> None:
    """Raise `UserError` if an option is out of range."""
    require_range(config, "width", "depth", "n_aux", "n_pixels", "batch", least=1, whole=True)
    require_range(config, "n_class", "points", least=2, whole=True)
    require_range(hyper, "alpha", "nearest", "farthest", above=0)
    require(hyper.farthest > hyper.nearest, f"farthest is {hyper.farthest}; it must be above nearest, {hyper.nearest}.")


def report(results: xr.Dataset) -> list[Table]:
    """Tabulate the critical eps and the accuracy of each prediction, by network and loss."""
    axes = [str(dim) for dim in results.measured.dims if dim not in ("seed", "loss")]
    rows, errors = [], []
    for loss, place in itertools.product(LOSSES, np.ndindex(*(results.sizes[axis] for axis in axes))):
        here = results.sel(loss=loss).isel(dict(zip(axes, place, strict=True)))
        labels = (loss, *(str(here[axis].item()) for axis in axes))
        n = int(np.isfinite(here.predicted).all("predictor").sum())
        every = [here.measured, *(here.predicted.sel(predictor=name) for name in ("quadratic", "cubic", "pade"))]
        rows.append((*labels, *map(median_in_words, every), str(n), str(here.sizes["seed"] - n)))
        for name in PREDICTORS:
            met = here.isel(seed=here.met.sel(predictor=name).values)
            predicted = met.predicted.sel(predictor=name)
            rank = float(scipy.stats.spearmanr(met.measured, predicted)[0]) if met.sizes["seed"] > 2 else np.nan
            ratio = median_in_words(met.measured / predicted) if met.sizes["seed"] else "-"
            errors.append((*labels, name, ratio, f"{rank:.2f}", f"{met.sizes['seed']} of {here.sizes['seed']}"))
    return [
        Table("Critical eps: medians with 95% intervals", ("loss", *axes, "measured", "quadratic", "cubic", "pade", "n",
              "dropped"), tuple(rows)),
        Table("Where both lie on the scan: ratio of medians with 95% intervals", ("loss", *axes, "predictor",
              "measured / predicted", "rank correlation", "n"), tuple(errors)),
    ]  # fmt: skip


study = Study(
    name="smallness",
    title=__doc__,
    make_run=make_run,
    config=Config(),
    hyper=Hyper(),
    check=check,
    report=report,
    axes={"width": (8, 16, 32, 64), "depth": (1, 2, 3)},
    coords={"loss": LOSSES, "predictor": PREDICTORS, "order": [1, 2, 3]},
    variables={
        "measured": Variable("the first eps at which L_T(theta_S) > L_T(theta_0); at most the farthest", ("loss",)),
        "predicted": Variable(
            "the critical eps by extrapolation from eps = 0, or of a simpler ray; at most the farthest",
            ("loss", "predictor"),
        ),
        "met": Variable("whether measured and predicted both lie below the farthest eps", ("loss", "predictor")),
        "derivatives": Variable("derivatives of L_T(theta_S) in eps at 0", ("loss", "order"), "nat"),
    },
    seeds=1000,
    finding="How small a teacher must be depends on width and depth: with one hidden layer the critical eps rises "
    "with width, with three it falls (squared error, 21.1 [19.1, 23.0] at 8, 8.3 [7.9, 8.7] at 64, n = "
    "1,000); second order does not rank seeds.",
    cost="2 minutes on 2 cores",
    precision="float64",
    precisions=("float64", "float32"),  # bfloat16 cannot resolve signs at small eps
    sizes={"mnist": {"axes": {"width": (16, 64, 256, 1024), "depth": (1, 2, 3, 4)}, "seeds": 64}},
)
