"""How shared is shared: does one imitation step still follow the teacher's as the student's init turns away?"""

import functools
import itertools
import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float

from subsim import Study, Table, Variable
from subsim.analysis.summary import positive_rate
from subsim.data.inputs import labelled_clusters, pixels, uniform_noise
from subsim.engine.study import Run
from subsim.networks.initial import initial_variances
from subsim.networks.mlp import LAYER_GROUPS, make_mlp
from subsim.networks.network import Params
from subsim.networks.parameters import mixed, rotated
from subsim.options import require_range
from subsim.theory.problems import Data, ProblemConfig, trait_on
from subsim.theory.rates import conditional_sign_rate, sign_rate
from subsim.theory.sharedness import against_offset, small_angle_spread
from subsim.training.losses import IMITATION_LOSSES, imitated_logits

LOSSES = list(IMITATION_LOSSES)
# The groups of layers with a shared init: none, each, each pair, all.
SHARED = [group for size in range(4) for group in itertools.combinations(LAYER_GROUPS, size)]
NAMES = ["none", *(" + ".join(group.replace("_", " ") for group in groups) for groups in SHARED[1:-1]), "all"]
# The point of a sweep for the comparison of layer groups: independent inits and the smallest eps.
EDGE = {"angle": np.argmax, "eps": np.argmin}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Hyper:
    """Traced hyperparameters: they may differ within one compiled program."""

    angle: float | Array = float(np.pi / 2)
    """Angle phi between the student's and the teacher's init, in radians: 0 is shared, pi/2 independent."""
    eps: float | Array = 1e-3
    """The teacher's step size."""
    alpha: float | Array = 0.1
    """The student's step size."""


class Record(NamedTuple):
    """The fields of `Sharedness`, and the offset's predicted spread, for every loss and choice of shared layers."""

    inner_product: Float[Array, "loss shared"]
    offset: Float[Array, "loss shared"]
    slope: Float[Array, "loss shared"]
    signal: Float[Array, "loss shared"]
    trait_change: Float[Array, "loss shared"]
    spread: Float[Array, "loss shared"]


def run(config: ProblemConfig, key: Array, numbers: Hyper) -> Record:
    """Take a teacher's step, and steps of students whose layers are rotated by the angle or shared."""
    own, other, task, noise = jax.random.split(key, 4)
    network = make_mlp(config, config.n_pixels, config.n_class)
    bank = uniform_noise(noise, config.batch, config.n_pixels)
    labelled = labelled_clusters(task, config.batch, config.n_pixels, config.n_class, structure=0.0)
    data = Data(*labelled, pixels(bank, bank.values))
    trait_loss = trait_on(network, data, config.n_class)
    aux_only, _ = imitated_logits(config.n_class, config.n_aux)

    def step(loss: str, student: Params, variances: Params) -> dict[str, Array]:
        def value(z: Array, y: Array) -> Array:
            return IMITATION_LOSSES[loss].value(z, y, aux_only)

        setting = (network.apply, theta_0, trait_loss, value, data.inputs)
        parted = against_offset(*setting, student, eps=numbers.eps, alpha=numbers.alpha)
        spread = jnp.sin(numbers.angle) * small_angle_spread(*setting, variances)
        return {**parted._asdict(), "spread": spread}

    theta_0 = network.init(own)
    variances = initial_variances(config.init, theta_0)
    nowhere = jax.tree.map(jnp.zeros_like, variances)
    turned = rotated(theta_0, network.init(other), numbers.angle)
    pairs = [(mixed(network, theta_0, turned, groups), mixed(network, nowhere, variances, groups)) for groups in SHARED]
    students = jax.tree.map(lambda *each: jnp.stack(each), *pairs)
    steps = [jax.vmap(functools.partial(step, loss))(*students) for loss in LOSSES]
    return Record(**{name: jnp.stack([one[name] for one in steps]) for name in Record._fields})


def make_run(config: ProblemConfig, _data: None) -> Run:
    """Return the run of `config`, which needs no data."""
    return functools.partial(run, config)


def check(_config: ProblemConfig, hyper: Hyper) -> None:
    """Raise `UserError` if an option is out of range."""
    require_range(hyper, "eps", "alpha", above=0)
    require_range(hyper, "angle", least=0, most=math.pi)


def derived(results: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return whether the student's step follows the teacher's, as a boolean whose mean is a rate."""
    follows = results.inner_product > 0
    return {
        "follows": follows.assign_attrs(description="whether the student's step follows the teacher's: d_S . d_T > 0")
    }


def report(results: xr.Dataset) -> list[Table]:
    """Tabulate P(d_S . d_T > 0) over the sweep, and by shared layers at the largest angle and smallest eps."""
    axes = [str(dim) for dim in results.signal.dims if dim not in ("seed", "loss", "shared")]
    edge = {axis: results[axis].values[pick(results[axis].values)] for axis, pick in EDGE.items() if axis in axes}
    rates, groups = [], []
    for loss, place in itertools.product(LOSSES, np.ndindex(*(results.sizes[axis] for axis in axes))):
        here = results.sel(loss=loss).isel(dict(zip(axes, place, strict=True)))
        labels = (loss, *(f"{here[axis].item():.4g}" if axis in EDGE else str(here[axis].item()) for axis in axes))
        turned = here.sel(shared="none")
        measured = positive_rate(turned.inner_product)
        n = measured.n
        expected = sign_rate(turned.signal.values, turned.offset.values)
        given_seeds = conditional_sign_rate(turned.signal.values, turned.spread.values)
        predictions = f"{given_seeds:.3f}", f"{expected.predicted:.3f}"
        rates.append((*labels, measured.in_words(), *predictions, str(n), str(here.sizes["seed"] - n)))
        if all(here[axis].item() == value for axis, value in edge.items()):
            for name in NAMES:
                each = here.inner_product.sel(shared=name), -here.trait_change.sel(shared=name)
                groups.append((*labels, name, *(positive_rate(values).in_words() for values in each), str(n)))
    columns = ("loss", *axes)
    return [
        Table("P(d_S.d_T > 0) with every layer turned, exact 95% intervals",
              (*columns, "measured", "small angles", "normal offsets", "n", "dropped"), tuple(rates)),
        Table("By the layers that stay shared, exact 95% intervals",
              (*columns, "shared", "P(d_S.d_T > 0)", "P(L_T falls)", "n"), tuple(groups)),
    ]  # fmt: skip


study = Study(
    name="sharedness",
    title=__doc__,
    make_run=make_run,
    config=ProblemConfig(),
    hyper=Hyper(),
    check=check,
    derived=derived,
    report=report,
    axes={"angle": (0.0, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 0.8, math.pi / 2), "eps": (1e-3, 0.01, 0.1, 1.0)},
    coords={"loss": LOSSES, "shared": NAMES},
    variables={
        "inner_product": Variable("d_S . d_T", ("loss", "shared")),
        "offset": Variable("d_S . d_T at eps = 0: imitation of the untrained teacher", ("loss", "shared")),
        "slope": Variable("derivative of d_S . d_T in eps at 0; A for a shared init", ("loss", "shared")),
        "signal": Variable("eps A of the shared init", ("loss", "shared")),
        "spread": Variable("sin(phi) times the offset's small-angle spread over theta'", ("loss", "shared")),
        "trait_change": Variable("L_T(theta_S) - L_T(theta_S0)", ("loss", "shared"), "nat"),
    },
    seeds=1000,
    finding="An init is shared only where its angle is well below eps: at phi = eps .711 [.682, .739] follow, "
    ".712 predicted (n = 1,000).",
    cost="1 minute on 2 cores",
    precision="float64",
    precisions=("float64", "float32"),  # bfloat16 cannot resolve signs at small eps
)
