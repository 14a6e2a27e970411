"""Does a student's first step tell how much it will learn? Over seeds of one setting, and over settings of one seed."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
import xarray as xr
from jaxtyping import Array, Float

from subsim import Config, Hyper, State, Student, StudentConfig, Table, TrainingConfig, Variable, distillation, sharing
from subsim.analysis.prediction import area_under_roc, over_labels, over_means, over_seeds
from subsim.analysis.tables import mean_tables
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
    """Return what can be known of a student before its first step."""
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
    """Return the places of the first m auxiliary logits."""
    return list(range(n_class, n_class + m))


# Every setting differs in one thing from the first.
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


def derived(results: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return the rank correlation of each predictor with accuracy: over seeds of each setting; over settings, within
    each seed and of means over seeds; and how well it tells settings that transfer at all from others."""
    accuracy = results.accuracy.sel(condition=results.student.values).rename(condition="student")
    return {
        "within": over_seeds(results.known, accuracy).assign_attrs(
            description="rank correlation with accuracy over seeds of a setting"
        ),
        "over_settings": over_labels(results.known, accuracy, "student").assign_attrs(
            description="rank correlation with accuracy over settings, in one seed"
        ),
        "of_means": over_means(results.known, accuracy, "student").assign_attrs(
            description="rank correlation with accuracy over settings, of means over seeds"
        ),
        "transfers": area_under_roc(results.known, accuracy > TRANSFERS, "student").assign_attrs(
            description=f"area under the ROC curve: which settings reach {TRANSFERS}, in one seed"
        ),
    }


def report(results: xr.Dataset) -> list[Table]:
    """Tabulate the correlations over settings, and those over seeds."""
    every = ("of_means", "over_settings", "transfers", "within")
    return [table for name in every for table in mean_tables(results[name])]


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
