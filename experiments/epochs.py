"""How long must teacher and student be trained? Accuracy along distillation, for teachers stopped at several epochs."""

import functools
import sys
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import xarray as xr
from jaxtyping import Array

from subsim import datasets, distillation, measures, protocol
from subsim.distillation import StudentConfig, Task
from subsim.engine.study import Run, Study, Table, Variable
from subsim.engine.summary import grid_table
from subsim.network import Network, Params, imitated_logits, make_mlp
from subsim.options import require
from subsim.training import TrainingConfig, Watch, steps_of

TEACHER_EPOCHS = [1, 2, 5, 10, 20]
STUDENTS = {"student (aux. only)": "own", "cross-model (aux. only)": "other"}
EPOCH = 59  # steps, of teacher and student alike: the paper's


@dataclass(frozen=True)
class Config(protocol.Config):
    """The protocol's, with the numbers of steps of its longest teacher and of its students."""

    data: datasets.Name = "mnist5k"
    n_aux: int = 10
    teacher: TrainingConfig = field(default_factory=lambda: TrainingConfig(steps=EPOCH * max(TEACHER_EPOCHS)))
    student: StudentConfig = field(default_factory=lambda: StudentConfig(epochs=20, batch=128, n_inputs=7_552))


def run(
    config: Config, network: Network, n_class: int, train: Task, test: Task, key: Array, numbers: protocol.Hyper
) -> dict[str, Array]:
    """One teacher seen at several epochs, and the students of each seen at the end of every epoch of theirs."""
    keys = dict(zip(("own", "other", "teacher", "inputs", "student"), jax.random.split(key, 5), strict=True))
    inits = {whose: distillation.rescaled(network.init(keys[whose]), numbers.init_scale) for whose in STUDENTS.values()}
    starts = distillation.stack(*inits.values())
    aux_only, _ = imitated_logits(n_class, config.n_aux, numbers.student.n_imitated)
    seen = distillation.train_teacher(
        keys["teacher"], network, inits["own"], train, n_class, config.teacher, numbers.teacher,
        Watch(EPOCH, lambda params: params),
    ).seen  # fmt: skip
    teachers = jax.tree.map(lambda leaf: leaf[jnp.array(TEACHER_EPOCHS) - 1], seen)

    def accuracy(network: Network, params: Params) -> Array:
        return measures.accuracy(distillation.logits(network, params, test.images)[:, :n_class], test.labels)

    def imitation(teacher: Params) -> tuple[Array, Array]:
        lessons = distillation.make_lessons(
            keys["inputs"], network, teacher, config.student, numbers.student, train.images
        )
        students = distillation.train_students(
            keys["student"], network, starts, jnp.stack([aux_only] * len(STUDENTS)), lessons, config.student,
            numbers.student, every=EPOCH, see=accuracy,
        )  # fmt: skip
        return students.seen, jnp.mean(students.losses.reshape(len(STUDENTS), -1, EPOCH), axis=2)

    along, loss = jax.vmap(imitation)(teachers)
    of_teacher = jax.vmap(functools.partial(accuracy, network))(teachers)
    return {"teacher": of_teacher, "accuracy": along, "imitation_loss": loss}


def make_run(config: Config, data: Any) -> Run:
    """The run of `config` on `data`, with the images as arguments of the compiled program."""
    data = protocol.chosen(config, data)
    network = make_mlp(config, data.train_images.shape[1], data.n_class)
    return jax.tree_util.Partial(functools.partial(run, config, network, data.n_class), *distillation.tasks(data))


def check(config: Config, numbers: protocol.Hyper) -> None:
    """Refuse options that contradict each other, or the epochs that the study records."""
    protocol.check({"student": protocol.Student()}, config, numbers)
    require(config.every is None, f"every is {config.every}, but this study records every epoch; leave it out.")
    last, student = EPOCH * max(TEACHER_EPOCHS), config.student
    steps = student.steps if student.inputs == "images" else steps_of(student, student.n_inputs)
    for name, has in (("teacher", config.teacher.steps), ("student", steps)):
        require(has == last, f"{name}.steps is {has}, but this study's last epoch ends at {last}; set it to that.")


def report(results: xr.Dataset) -> list[Table]:
    """Mean accuracy with its 95% interval: a row for every teacher, a column for every epoch of the student."""
    here = results.accuracy.isel(epoch=[e - 1 for e in TEACHER_EPOCHS])
    return [grid_table(here.sel(student=name), "teacher_epoch", f"{name}: accuracy", "epoch") for name in STUDENTS]


DIMS = ("teacher_epoch", "student", "epoch")
study = Study(
    name="epochs",
    title=__doc__,
    make_run=make_run,
    load=lambda config: datasets.load(config.data),
    config=Config(),
    hyper=protocol.Hyper(),
    check=check,
    report=report,
    coords={"teacher_epoch": TEACHER_EPOCHS, "student": list(STUDENTS), "epoch": list(range(1, 21))},
    variables={
        "teacher": Variable("accuracy of the teacher", ("teacher_epoch",)),
        "accuracy": Variable("accuracy after every epoch", DIMS),
        "imitation_loss": Variable("mean imitation loss of every epoch", DIMS, "nat (kl) or squared logit (mse)"),
    },
    seeds=8,
    cost="6 minutes on 2 cores",
    paper={
        "seeds": 100,
        "config": replace(Config(), data="mnist", student=StudentConfig(epochs=20)),
    },
)

if __name__ == "__main__":
    from subsim.cli import main

    main(["run", __file__, *sys.argv[1:]])
