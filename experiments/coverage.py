"""Does a student's first step tell how much it will learn? Over seeds of one setting, and over settings of one seed."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
import xarray as xr
from jaxtyping import Array, Float

from subsim import Config, Hyper, State, Student, StudentConfig, Table, TrainingConfig, Variable, distillation, sharing
from subsim.analysis.prediction import area_under_roc, over_labels, over_seeds
from subsim.analysis.tables import grid_tables, mean_tables
from subsim.networks import parameters
from subsim.theory.single_step import leading_coefficient
from subsim.transfer import imitation, measures
from subsim.transfer.roles import perturbed, rotated
from subsim.transfer.state import coverage, imitation_loss
from subsim.transfer.worlds import TINY, TINY_HYPER

PREDICTORS = (
    "coverage: cosine of first update and teacher",
    "cosine of first gradient and teacher",
    "the same to first order, A over lengths",
    "accuracy of the start's head on the teacher's features",
)
TRANSFERS = 0.2  # an accuracy, of which .1 is chance


def known_before(state: State) -> Float[Array, " predictor"]:
    """Return the predictors that are known of a student before its first step."""
    network, start, loss = state.network, state.start, state.loss
    assert loss is not None
    moved = parameters.displacement(state.teacher, state.teacher_start)
    batch = state.first_batch
    gradient = jax.grad(lambda params: imitation_loss(state, params, batch))(start)
    size = optax.tree.norm(gradient) * optax.tree.norm(moved)
    pull = leading_coefficient(network.apply, start, moved, loss, batch[0])
    bias, weight = sorted(parameters.layers(start)["class_head"], key=jnp.ndim)
    features = imitation.features(network, state.teacher, state.task.test.images)
    return jnp.stack(
        [
            coverage(state),
            -parameters.alignment(gradient, moved),
            pull / jnp.where(size == 0, 1.0, size),
            measures.accuracy(features @ weight.T + bias[None], state.task.test.labels),
        ]
    )


def imitating(m: int, n_class: int = 10) -> list[int]:
    """Return the indices of the first m auxiliary logits."""
    return list(range(n_class, n_class + m))


# Every setting differs from the first in one option.
SETTINGS: dict[str, dict[str, Any]] = {
    "usual": {},
    **{f"m = {m}": {"imitates": imitating(m)} for m in (1, 2, 3, 5)},
    "all logits": {"imitates": "all"},
    **{f"rotated by {angle}": {"start": rotated(angle)} for angle in (0.2, 0.4, 0.8)},
    "noise of half an init": {"start": perturbed(0.5)},
    "own hidden layers": {"start": sharing("class_head", "aux_head")},
    "own auxiliary head": {"start": sharing("hidden", "class_head")},
    "own class head": {"start": sharing("hidden", "aux_head")},
    "cross-model": {"start": "independent"},
    "cross-model, all logits": {"start": "independent", "imitates": "all"},
    "real images": {"inputs": "images"},
    "blurred noise": {"inputs": "blurred"},
    "pixels shifted by 1": {"input_shift": 1.0},
    "pixels times .1": {"input_scale": 0.1},
    "squared error": {"loss": "mse"},
    "one label each": {"targets": "sampled"},
    "largest logit alone": {"targets": "argmax"},
    "a fifth of the steps": {"steps": 32},
    "momentum": {"optimiser": "momentum", "learning_rate": 0.1},
}
SHORT = 59  # steps, a fifth of the paper's epoch


def students(short: int) -> dict[str, Student]:
    """Return a student for each setting; one makes `short` steps."""
    return {
        name: Student(**(options | {"steps": short} if "steps" in options else options))
        for name, options in SETTINGS.items()
    }


UNSEEN = ("cross-model, all logits", "own class head", "a fifth of the steps")
"""Settings that a first step cannot rank: class logits teach, no head reads the features, or training is shorter.
They were chosen after the results of all settings were known."""


def derived(results: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return the rank correlation of each predictor with accuracy, and its area under the ROC curve.

    Correlations are over seeds of each setting, and over settings within each seed. The ROC curve separates settings
    that transfer from all others. Settings are all, and all that a first step can rank.
    """
    accuracy = results.accuracy.sel(condition=results.student.values).rename(condition="student")
    seen = [name for name in map(str, results.student.values) if name not in UNSEEN]
    kinds = {"all settings": accuracy, "what a first step can tell": accuracy.sel(student=seen)}

    def over(measure: Callable[..., xr.DataArray], wanted: Mapping[str, xr.DataArray], words: str) -> xr.DataArray:
        found = [measure(results.known.sel(student=values.student), values, "student") for values in wanted.values()]
        joined = xr.concat(found, xr.Variable("settings", list(wanted)))
        return joined.transpose("seed", ...).assign_attrs(description=words)

    reached = {name: values > TRANSFERS for name, values in kinds.items()}
    return {
        "over_settings": over(over_labels, kinds, "rank correlation with accuracy over settings, in one seed"),
        "transfers": over(
            area_under_roc, reached, f"area under the ROC curve of an accuracy of {TRANSFERS}, in a seed"
        ),
        "within": over_seeds(results.known, accuracy).assign_attrs(
            description="rank correlation with accuracy over seeds of a setting"
        ),
    }


def report(results: xr.Dataset) -> list[Table]:
    """Tabulate the correlations over settings and over seeds."""
    over = [
        table
        for name in ("over_settings", "transfers")
        for table in grid_tables(results[name], "predictor", str(results[name].attrs["description"]), "settings")
    ]
    return [*over, *mean_tables(results.within.isel(predictor=0, drop=True))]


study = distillation(
    "coverage",
    title=__doc__,
    students=students(32),
    measures={"known": (known_before, Variable("what is known beforehand", ("student", "predictor"), "see predictor"))},
    coords={"predictor": list(PREDICTORS)},
    config=replace(TINY, student=replace(TINY.student, steps=160)),
    hyper=TINY_HYPER,
    derived=derived,
    report=report,
    seeds=1000,
    finding="Coverage ranks settings that a first step can tell apart, and hardly the seeds of one: .882 [.878, "
    ".885] of such settings in one seed, .587 [.583, .592] over all 24, and .187 [.125, .249] over the "
    "seeds of one setting (n = 1,000).",
    cost="4 minutes on 2 cores",
    precisions=("float32", "float64"),
    sizes={
        "mnist": {
            "students": students(SHORT),
            "config": Config(
                n_aux=10,
                teacher=TrainingConfig(steps=295),
                student=StudentConfig(steps=295, batch=128, n_inputs=7_552),
            ),
            "hyper": Hyper(),
            "seeds": 32,
        },
        "paper": {
            "students": students(SHORT),
            "config": Config(n_aux=10, student=StudentConfig(steps=295)),
            "hyper": Hyper(),
            "seeds": 1000,
        },
    },
)
