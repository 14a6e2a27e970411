"""What hidden layers tell of transfer: probes, similarity to the teacher and displacements, against accuracy."""

import itertools
import sys

import jax.numpy as jnp
import xarray as xr
from jaxtyping import Array, Float

from subsim import distillation, measures, protocol
from subsim.distillation import StudentConfig, Task
from subsim.engine.study import Table, Variable
from subsim.engine.summary import grid_table, mean_table, rank_correlation
from subsim.network import LAYER_GROUPS, Params, mixed, rotated
from subsim.protocol import FIGURE_10, Seen, Student
from subsim.training import TrainingConfig

STUDENTS = {**FIGURE_10, "turned by 45° (aux. only)": Student(lambda own, other: rotated(own, other, jnp.pi / 4))}
INPUTS, M = ("uniform", "images"), (3, 50)
OF_FEATURES = ["probe", "probe at start", "teacher's head", "CKA", "cosine"]
# The teacher's auxiliary head never moves, and the class head of a student of auxiliary logits alone does not either.
OF_DISPLACEMENTS = ["class_head", "hidden.0", "hidden.1", "all layers"]
# Of the probe, as a share of the mean variance of a unit: the scale of the features decides nothing.
PENALTY = 1e-2


def of_features(seen: Seen) -> list[Float[Array, ""]]:
    """Of the last hidden layer: test accuracy of a linear probe trained on the training images, at the end and at the
    network's own start, and of the teacher's class head; CKA and centred cosine to the teacher's on test images."""

    def features(params: Params, task: Task) -> Array:
        return distillation.forward(seen.network.features, params, task.images)

    def probed(params: Params) -> Array:
        train = features(params, seen.train)
        penalty = PENALTY * jnp.mean(jnp.var(train, axis=0))
        probe = measures.linear_probe(train, seen.train.labels, seen.n_class, penalty, tolerance=1e-4)
        return measures.accuracy(probe.logits(features(params, seen.test)), seen.test.labels)

    but_the_class_head = jnp.array([group != "class_head" for group in LAYER_GROUPS])
    borrowing = seen._replace(params=mixed(seen.params, seen.teacher, but_the_class_head))
    own, taught = features(seen.params, seen.test), features(seen.teacher, seen.test)
    cosine = measures.feature_cosine(measures.centred(own), measures.centred(taught))
    readouts = [probed(seen.params), probed(seen.start), protocol.accuracy(borrowing)]
    return [*readouts, measures.linear_cka(own, taught), cosine]


def of_displacements(seen: Seen) -> list[Float[Array, ""]]:
    """Cosines of the network's and its teacher's displacement, by layer and in all."""
    moved = measures.displacement(seen.params, seen.start), measures.displacement(seen.teacher, seen.reference)
    found = measures.by_layer(measures.alignment, *moved) | {"all layers": measures.alignment(*moved)}
    return [found[name] for name in OF_DISPLACEMENTS]


def compared(seen: Seen) -> Float[Array, " measure"]:
    """Every measure of one network."""
    return jnp.stack([*of_features(seen), *of_displacements(seen)])


def report(results: xr.Dataset) -> list[Table]:
    """Every measure in every setting; and its rank correlation with accuracy over the students that see no label, and
    over all of them: a class logit that is imitated is taught, whatever the hidden layers do."""
    tables = [mean_table(results.accuracy, "Accuracy")]
    for inputs, m in itertools.product(results["student.inputs"].values, results["student.n_imitated"].values):
        here = results.compared.sel({"student.inputs": inputs, "student.n_imitated": m})
        tables.append(grid_table(here, "measure", f"Hidden layers and displacements, inputs {inputs}, m = {m}"))
    names = [str(name) for name in results.student.values]
    for chosen, words in (([name for name in names if "aux" in name], "aux.-only students"), (names, "all students")):
        students = results.sel(condition=chosen)
        rho = [rank_correlation(students.accuracy, students.compared.sel(measure=name)) for name in results.measure]
        tables.append(mean_table(xr.concat(rho, results.measure), f"Rank correlation with accuracy, {words} of a seed"))
    return tables


study = protocol.study(
    "representations",
    __doc__,
    STUDENTS,
    measured={"compared": (compared, Variable("a measure of the hidden layers or weights", ("condition", "measure")))},
    coords={"measure": [*OF_FEATURES, *OF_DISPLACEMENTS]},
    config=protocol.Config(
        data="mnist5k", n_aux=max(M), teacher=TrainingConfig(steps=295), student=StudentConfig(steps=295)
    ),
    axes={"student.inputs": INPUTS, "student.n_imitated": M},
    report=report,
    seeds=8,
    paper={"seeds": 100, "config": protocol.Config(n_aux=max(M), student=StudentConfig(steps=295))},
    precisions=("float32", "float64"),
)

if __name__ == "__main__":
    from subsim.cli import main

    main(["run", __file__, *sys.argv[1:]])
