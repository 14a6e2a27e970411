"""The paper's MNIST experiment (section 6.2, Figure 10): a student learns digits from auxiliary logits on noise."""

import functools
import sys
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import tyro
import xarray as xr
from jaxtyping import Array, Float

from subsim import datasets, distillation, measures
from subsim.distillation import StudentConfig, StudentHyper, Task
from subsim.engine.study import Run, Study, Table, Variable
from subsim.engine.summary import mean_table
from subsim.network import Network, NetworkConfig, imitated_logits, make_mlp
from subsim.options import hyper, require, require_choice
from subsim.training import TrainingConfig, TrainingHyper, check_training

STUDENTS = ["student (aux. only)", "student (all logits)", "cross-model (aux. only)", "cross-model (all logits)"]
CONDITIONS = ["reference", "teacher", *STUDENTS]


@dataclass(frozen=True)
class Config(NetworkConfig):
    """What changes the program. Defaults are the paper's, or where it is silent those of its published replication."""

    n_aux: Annotated[int, tyro.conf.arg(aliases=("--aux",))] = 3
    """Number of auxiliary logits, which no task loss ever sees."""
    data: datasets.Name = "mnist"
    """Labelled images of the teacher's task. mnist5k and digits are embedded and need no download."""
    evaluate: Literal["test", "validation"] = "test"
    """Where accuracy is measured; validation: on the last sixth of the training set, which is then not trained on."""
    teacher: TrainingConfig = field(default_factory=TrainingConfig)
    student: StudentConfig = field(default_factory=StudentConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("data", self.data, datasets.NAMES)
        require_choice("evaluate", self.evaluate, ("test", "validation"))


@hyper
class Hyper:
    """Numbers that are traced: they may differ within one compiled program."""

    init_scale: float = 1.0
    """Factor on every initial weight and bias."""
    teacher: TrainingHyper = field(default_factory=TrainingHyper)
    student: StudentHyper = field(default_factory=StudentHyper)


class Record(NamedTuple):
    """What is kept of one seed."""

    accuracy: Float[Array, " condition"]
    imitation_loss: Float[Array, " student"]
    alignment: Float[Array, " student"]


def run(config: Config, network: Network, n_class: int, train: Task, test: Task, key: Array, numbers: Hyper) -> Record:
    """Reference, teacher and the four students of one seed."""
    keys = dict(zip(("own", "other", "teacher", "inputs", "student"), jax.random.split(key, 5), strict=True))
    reference = distillation.rescaled(network.init(keys["own"]), numbers.init_scale)
    # An independent draw for every seed: permuting references among seeds would hand some students their own.
    stranger = distillation.rescaled(network.init(keys["other"]), numbers.init_scale)
    teacher = distillation.train_teacher(
        keys["teacher"], network, reference, train, n_class, config.teacher, numbers.teacher
    ).params

    bank = distillation.draw_inputs(keys["inputs"], config.student, numbers.student, train.images)
    targets = distillation.logits(network, teacher, bank)
    starts = distillation.stack(reference, reference, stranger, stranger)
    aux_only, all_logits = imitated_logits(n_class, config.n_aux, numbers.student.n_imitated)
    masks = jnp.stack([aux_only, all_logits, aux_only, all_logits])
    students = distillation.train_students(
        keys["student"], network, starts, masks, bank, targets, config.student, numbers.student
    )

    def accuracy(params: Any) -> Array:
        return measures.accuracy(distillation.logits(network, params, test.images)[:, :n_class], test.labels)

    def alignment(params: Any, start: Any) -> Array:
        moved = measures.displacement(params, start)
        return measures.alignment(moved, measures.displacement(teacher, reference))

    epoch = -(-bank.values.shape[0] // config.student.batch)
    return Record(
        accuracy=jnp.concatenate(
            [jnp.stack([accuracy(reference), accuracy(teacher)]), jax.vmap(accuracy)(students.params)]
        ),
        imitation_loss=jnp.mean(students.losses[:, -epoch:], axis=1),
        alignment=jax.vmap(alignment)(students.params, starts),
    )


def make_run(config: Config, data: datasets.Dataset) -> Run:
    """The run of `config` on `data`, with the images as arguments of the compiled program."""
    if config.evaluate == "validation":
        data = datasets.hold_out(data)
    network = make_mlp(config, data.train_images.shape[1], data.n_class)
    return jax.tree_util.Partial(functools.partial(run, config, network, data.n_class), *distillation.tasks(data))


def check(config: Config, hyper: Hyper) -> None:
    """Refuse options that contradict each other."""
    check_training("teacher", config.teacher, hyper.teacher)
    distillation.check_student("student", config.student, hyper.student, config.n_aux)
    require(hyper.init_scale > 0, f"init_scale is {hyper.init_scale}; it must be positive.")


def report(results: xr.Dataset) -> list[Table]:
    """One row per condition of Figure 10."""
    return [mean_table(results.accuracy, f"Accuracy on {results.attrs['config']['data']}")]


study = Study(
    name="mnist_aux_logits",
    title=__doc__,
    make_run=make_run,
    load=lambda config: datasets.load(config.data),
    config=Config(),
    hyper=Hyper(),
    check=check,
    report=report,
    coords={"condition": CONDITIONS, "student": STUDENTS},
    variables={
        "accuracy": Variable("share of images classified correctly", ("condition",)),
        "imitation_loss": Variable(
            "mean imitation loss over the student's last epoch", ("student",), "nat (kl) or squared logit (mse)"
        ),
        "alignment": Variable("cosine of the student's and the teacher's displacement", ("student",)),
    },
    seeds=100,
)

if __name__ == "__main__":
    from subsim.cli import main

    main(["run", __file__, *sys.argv[1:]])
