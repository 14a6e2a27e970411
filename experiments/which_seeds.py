"""Which seeds transfer? What is known of reference and teacher before the student is trained, against its accuracy."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import optax
import xarray as xr
from jaxtyping import Array, Float

from subsim import AUX_ONLY, Config, Hyper, State, Table, Variable, distillation
from subsim.analysis.prediction import cross_fitted, over_seeds
from subsim.analysis.tables import mean_table, mean_tables
from subsim.data.factorisations import inverse
from subsim.networks import network as networks
from subsim.networks import parameters
from subsim.theory import linearised
from subsim.theory.single_step import leading_coefficient
from subsim.transfer import imitation, measures
from subsim.transfer.state import accuracy, coverage, imitation_loss
from subsim.transfer.worlds import TINY, TINY_HYPER

PREDICTORS = (
    "coverage: cosine of first update and teacher",
    "cosine of first gradient and teacher",
    "A, the pull of the lemma",
    "share of the teacher that the kernel recovers",
    "accuracy with features projected on the auxiliary head",
    "accuracy of the reference's head on the teacher's features",
    "share of the class head in the auxiliary head's rows",
    "norm of the class head",
    "norm of the auxiliary head",
    "accuracy of the reference",
    "accuracy of the teacher",
    "teacher's displacement",
)
KERNEL_INPUTS = 64  # inputs of the first batch


def known_before(state: State) -> Float[Array, " predictor"]:
    """Return the predictors that are known of a student of auxiliary logits before its first step."""
    network, start, n_class = state.network, state.start, state.task.n_class
    moved = parameters.displacement(state.teacher, state.teacher_start)
    x, y = state.first_batch
    loss = state.loss
    assert loss is not None

    def imitated(params: networks.Params, one: Array) -> Array:
        return network.apply(params, one)[n_class:]

    gradient = jax.grad(lambda params: imitation_loss(state, params, (x, y)))(start)
    recovered = linearised.project(imitated, start, x[:KERNEL_INPUTS], moved)

    test = state.task.test
    before, after = (imitation.features(network, params, test.images) for params in (start, state.teacher))
    heads = {name: parameters.layers(start)[f"{name}_head"] for name in ("class", "aux")}
    (class_bias, class_weight), (_, aux_weight) = (sorted(heads[name], key=jnp.ndim) for name in ("class", "aux"))
    gram = aux_weight @ aux_weight.T
    onto = aux_weight.T @ inverse(gram + 1e-6 * jnp.trace(gram) * jnp.eye(len(gram), dtype=gram.dtype)) @ aux_weight

    def read(features: Array) -> Array:
        return measures.accuracy(features @ class_weight.T + class_bias[None], test.labels)

    return jnp.stack(
        [
            coverage(state),
            -parameters.alignment(gradient, moved),
            leading_coefficient(network.apply, start, moved, loss, x),
            linearised.recovered_fraction(recovered, moved),
            read(before + (after - before) @ onto),
            read(after),
            jnp.sum(jnp.square(class_weight @ onto)) / jnp.sum(jnp.square(class_weight)),
            jnp.linalg.norm(class_weight),
            jnp.linalg.norm(aux_weight),
            accuracy(state._replace(parameters=start)),
            accuracy(state._replace(parameters=state.teacher)),
            optax.tree.norm(moved),
        ]
    )


STUDENT = "student (aux. only)"


def derived(results: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return the cross-fitted linear prediction from all predictors, and rank correlations with accuracy over seeds.

    The fit for each half of the seeds uses the other half. The correlations are of each predictor and of the fit.
    """
    reached = results.accuracy.sel(condition=STUDENT, drop=True)
    known = results.known.sel(student=STUDENT, drop=True)
    fit = cross_fitted(known, reached, "predictor")
    together = fit.expand_dims(predictor=["all of them, on seeds not fitted"])
    every = xr.concat([known, together], "predictor").rename(predictor="what")
    return {
        "fit": fit.assign_attrs(description="accuracy that a fit on the other half of the seeds predicts"),
        "correlation": over_seeds(every, reached).assign_attrs(
            description="Spearman's rank correlation with accuracy over seeds"
        ),
    }


def report(results: xr.Dataset) -> list[Table]:
    """Tabulate the accuracy of every condition, and the correlation of each predictor with the student's accuracy."""
    return [
        mean_table(results.accuracy, "Accuracy"),
        *mean_tables(results.correlation, "Rank correlation with accuracy"),
    ]


study = distillation(
    "which_seeds",
    title=__doc__,
    students=AUX_ONLY,
    measures={"known": (known_before, Variable("what is known beforehand", ("student", "predictor"), "see predictor"))},
    coords={"predictor": list(PREDICTORS)},
    config=TINY,
    hyper=TINY_HYPER,
    derived=derived,
    report=report,
    seeds=2000,
    finding="What the reference's class head reads from the teacher's features ranks seeds, coverage hardly: .856 "
    "[.841, .871] and .205 [.162, .248], rank correlations (n = 2,000).",
    cost="6 minutes on 2 cores",
    precisions=("float32", "float64"),
    sizes={
        "mnist": {"config": replace(Config(), n_aux=10), "hyper": Hyper(), "seeds": 64},
        "paper": {"config": replace(Config(), n_aux=10), "hyper": Hyper(), "seeds": 2000},
    },
)
