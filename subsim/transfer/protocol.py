"""The paper's protocol (section 6.2) as a study of any students: one teacher a seed, and whatever imitates it."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import tyro
from jaxtyping import Array, Float

from subsim.data import datasets
from subsim.engine.study import Run, Study, Variable
from subsim.networks import parameters
from subsim.networks.mlp import LAYER_GROUPS, NetworkConfig, make_mlp
from subsim.networks.network import Network, Params
from subsim.networks.parameters import mixed, rescaled, rotated
from subsim.options import field_names, hyper, require, require_choice, require_range, told
from subsim.training.loop import Watch
from subsim.training.losses import imitated_logits
from subsim.training.optimisers import TrainingConfig, TrainingHyper, check_training, steps_of
from subsim.transfer import distillation, measures
from subsim.transfer.distillation import Lessons, StudentConfig, StudentHyper, Task


@dataclass(frozen=True)
class Config(NetworkConfig):
    """What changes the program. Defaults are the paper's, or where it is silent those of its published replication."""

    n_aux: Annotated[int, tyro.conf.arg(aliases=("--aux",))] = 3
    """Number of auxiliary logits, which no task loss ever sees."""
    data: datasets.Name = "mnist"
    """Labelled images of the teacher's task. mnist5k and digits are embedded and need no download."""
    n_class: int | None = None
    """Classes of the data that are kept, the first ones; None: all."""
    evaluate: Literal["test", "validation"] = "test"
    """Where accuracy is measured; validation: on the last sixth of the training set, which is then not trained on."""
    every: int | None = None
    """Steps of the students from one record along the way to the next; None: the end is all that is recorded."""
    teacher: TrainingConfig = field(default_factory=TrainingConfig)
    student: StudentConfig = field(default_factory=StudentConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("data", self.data, datasets.NAMES)
        require_choice("evaluate", self.evaluate, ("test", "validation"))
        require_range(self, "n_class", least=2, whole=True)
        require_range(self, "every", least=1, whole=True)


@hyper
class Hyper:
    """Numbers that are traced: they may differ within one compiled program."""

    init_scale: float = 1.0
    """Factor on every initial weight and bias."""
    teacher: TrainingHyper = field(default_factory=TrainingHyper)
    student: StudentHyper = field(default_factory=StudentHyper)


Start = Callable[[Params, Params], Params]  # (reference, stranger) -> a student's initial parameters


def own(reference: Params, _stranger: Params) -> Params:
    """Shared init: a student's start is its teacher's reference."""
    return reference


def anothers(_reference: Params, stranger: Params) -> Params:
    """Cross-model: a student's start is an independent reference."""
    return stranger


def turned(angle: float) -> Start:
    """cos(angle) own + sin(angle) another's: an init of the same law, at any angle in radians."""
    return lambda reference, stranger: rotated(reference, stranger, angle)


def sharing(*groups: str) -> Start:
    """Its teacher's reference in these of `LAYER_GROUPS`, another's elsewhere."""
    return lambda reference, stranger: mixed(reference, stranger, jnp.array([each in groups for each in LAYER_GROUPS]))


class Student(NamedTuple):
    """A condition. `start(reference, stranger)` makes its initial parameters of its teacher's and of another's."""

    start: Start = own
    imitates: Literal["aux", "all"] = "aux"
    linear: bool = False
    """Whether it is the network's first-order expansion at its own start."""
    options: Mapping[str, Any] = MappingProxyType({})
    """Its own options of `StudentConfig` and `StudentHyper`, in place of the run's."""


FIGURE_10 = {
    "student (aux. only)": Student(),
    "student (all logits)": Student(imitates="all"),
    "cross-model (aux. only)": Student(anothers),
    "cross-model (all logits)": Student(anothers, imitates="all"),
}
AUX_ONLY = {name: student for name, student in FIGURE_10.items() if student.imitates == "aux"}
UNTAUGHT = ["reference", "teacher"]


class Seen(NamedTuple):
    """A network of one seed, with all that a measure may hold it against; a student's `network` is its own."""

    network: Network
    params: Params
    start: Params
    reference: Params
    teacher: Params
    train: Task
    test: Task
    n_class: int
    lessons: Lessons | None = None
    """What a student imitated; of reference and teacher None."""


Measure = Callable[[Seen], Array]
Options = tuple[tuple[str, Any], ...]


class Asked(NamedTuple):
    """What a study asks of the protocol."""

    students: Mapping[str, Student]
    measured: Mapping[str, Measure]
    of_students: frozenset[str]
    """Those of `measured` that only students have."""
    teacher_steps: tuple[int, ...] = ()
    """After how many steps the teacher is imitated, the last being its end; none: at its end alone."""
    along: bool = False
    """Whether the report needs what is recorded along the way."""


def accuracy(seen: Seen) -> Float[Array, ""]:
    """Share of test images that the class logits classify correctly."""
    outputs = distillation.logits(seen.network, seen.params, seen.test.images)
    return measures.accuracy(outputs[:, : seen.n_class], seen.test.labels)


def alignment(seen: Seen) -> Float[Array, ""]:
    """Cosine of the network's and its teacher's displacement."""
    moved = parameters.displacement(seen.params, seen.start)
    return parameters.alignment(moved, parameters.displacement(seen.teacher, seen.reference))


class Seed(NamedTuple):
    """What all networks of one seed share: its keys, data and numbers, the two references, and its teacher."""

    keys: Mapping[str, Array]
    network: Network
    n_class: int
    train: Task
    test: Task
    numbers: Hyper
    reference: Params
    stranger: Params
    teacher: Params

    def seen(self, network: Network, params: Params, start: Params, lessons: Lessons | None = None) -> Seen:
        """One network of the seed, as measures take it."""
        return Seen(network, params, start, self.reference, self.teacher, self.train, self.test, self.n_class, lessons)


def run(
    asked: Asked,
    configs: Sequence[Config],
    network: Network,
    n_class: int,
    train: Task,
    test: Task,
    key: Array,
    numbers: Hyper,
) -> dict[str, Array]:
    """Reference, teacher and students of one seed, and every measure of them, for each of `configs`.

    The configs differ in their students' options alone: one teacher serves all of them. The record has a leading axis
    of configs, and after it one of `asked.teacher_steps`, if there are any.
    """
    keys = dict(zip(("own", "other", "teacher", "inputs", "student"), jax.random.split(key, 5), strict=True))
    reference = rescaled(network.init(keys["own"]), numbers.init_scale)
    # An independent draw for every seed: permuting references among seeds would hand some students their own.
    stranger = rescaled(network.init(keys["other"]), numbers.init_scale)
    every = math.gcd(*asked.teacher_steps)
    trained = distillation.train_teacher(
        keys["teacher"], network, reference, train, n_class, configs[0].teacher, numbers.teacher,
        Watch(every, lambda params: params) if every else None,
    )  # fmt: skip

    def of_teacher(teacher: Params) -> list[dict[str, Array]]:
        seed = Seed(keys, network, n_class, train, test, numbers, reference, stranger, teacher)
        lessons: dict[Any, Lessons] = {}
        untaught = distillation.stack(*(untaught_record(asked, seed, params) for params in (reference, teacher)))
        return [taught(asked, config, seed, lessons, untaught) for config in configs]

    if every:
        stops = jnp.array(asked.teacher_steps) // every - 1
        records = jax.vmap(of_teacher)(jax.tree.map(lambda leaf: leaf[stops], trained.seen))
    else:
        records = of_teacher(trained.params)
    shapes = [jax.tree.map(jnp.shape, record) for record in records]
    require(
        all(each == shapes[0] for each in shapes), "sweep: the values of an axis must leave the record's shapes alone."
    )
    return distillation.stack(*records)


def untaught_record(asked: Asked, seed: Seed, params: Params) -> dict[str, Array]:
    """Every measure of the reference or of the teacher."""
    one = seed.seen(seed.network, params, seed.reference)
    return {name: of(one) for name, of in asked.measured.items() if name not in asked.of_students}


def taught(
    asked: Asked, config: Config, seed: Seed, drawn: dict[Any, Lessons], untaught: Mapping[str, Array]
) -> dict[str, Array]:
    """The students of one teacher under one config, and every measure of them and, from `untaught`, of the others.

    `drawn` holds the distillation data of earlier students of the teacher: what is drawn alike is drawn once.
    """
    groups: dict[tuple[bool, Options], list[str]] = {}
    for name, student in asked.students.items():
        groups.setdefault((student.linear, tuple(sorted(student.options.items()))), []).append(name)

    def imitating(these: list[Student], linear: bool, options: Options) -> dict[str, Array]:
        """Every record of students that differ in their start and what they imitate only, along a leading axis."""
        its_config, its_numbers = told(config.student, dict(options)), told(seed.numbers.student, dict(options))
        # Drawn from one key whatever they are: students of different inputs share all the randomness that they can.
        numbers = tuple(item for item in options if item[0] in field_names(its_numbers))
        alike = (its_config.inputs, its_config.n_inputs, its_config.fresh, numbers)
        if alike not in drawn:
            drawn[alike] = distillation.make_lessons(
                seed.keys["inputs"], seed.network, seed.teacher, its_config, its_numbers, seed.train.images
            )
        lessons = drawn[alike]
        masks = imitated_logits(seed.n_class, config.n_aux, its_numbers.n_imitated)
        starts = distillation.stack(*(student.start(seed.reference, seed.stranger) for student in these))
        trained = distillation.train_students(
            seed.keys["student"], seed.network, starts,
            jnp.stack([masks[student.imitates == "all"] for student in these]),
            lessons, its_config, its_numbers, linear=linear, every=config.every,
            see=lambda its_own, params: accuracy(seed.seen(its_own, params, params)),
        )  # fmt: skip
        epoch = -(-lessons.n // its_config.batch)
        found = {"imitation_loss": jnp.mean(trained.losses[:, -epoch:], axis=1)}
        if config.every is not None:
            moments = trained.seen.shape[1]
            losses = trained.losses[:, : moments * config.every].reshape(-1, moments, config.every)
            found |= {"accuracy_along": trained.seen, "imitation_loss_along": jnp.mean(losses, axis=2)}

        def measure(params: Params, start: Params) -> dict[str, Array]:
            its_own = distillation.linearised(seed.network, start) if linear else seed.network
            one = seed.seen(its_own, params, start, lessons=lessons)
            return {name: of(one) for name, of in asked.measured.items()}

        return found | jax.vmap(measure)(trained.params, starts)

    records = [imitating([asked.students[name] for name in names], *group) for group, names in groups.items()]
    order = [name for names in groups.values() for name in names]
    places = jnp.array([order.index(name) for name in asked.students])
    record = jax.tree.map(lambda *parts: jnp.concatenate(parts)[places], *records)
    return record | {name: jnp.concatenate([untaught[name], record[name]]) for name in untaught}


def chosen(config: Config, data: datasets.Dataset) -> datasets.Dataset:
    """What `config` takes of `data`: its classes, and the images that accuracy is measured on."""
    if config.evaluate == "validation":
        data = datasets.hold_out(data)
    return data if config.n_class is None else datasets.restricted(data, config.n_class)


def make_run(asked: Asked, config: Config, data: Any) -> Run:
    """The run of `config` on `data`, with the images as arguments of the compiled program."""
    joint = make_joint_run(asked, [config], data)
    return jax.tree_util.Partial(functools.partial(first_of, joint.func), *joint.args)


def make_joint_run(asked: Asked, configs: Sequence[Config], data: Any) -> jax.tree_util.Partial:
    """The run of `configs`, which differ in their students' options, on `data`: a leading axis of configs."""
    data = chosen(configs[0], data)
    network = make_mlp(configs[0], data.train_images.shape[1], data.n_class)
    fixed = functools.partial(run, asked, tuple(configs), network, data.n_class)
    return jax.tree_util.Partial(fixed, *distillation.tasks(data))


def first_of(run: Callable[..., Any], *arguments: Any) -> Any:
    """The record that `run` gives for the first of its configs."""
    return jax.tree.map(lambda values: values[0], run(*arguments))


def check(asked: Asked, config: Config, hyper: Hyper) -> None:
    """Refuse options that contradict each other, or that no student would follow."""
    check_training("teacher", config.teacher, hyper.teacher)
    require_range(hyper, "init_scale", above=0)
    last, has = max(asked.teacher_steps, default=config.teacher.steps), config.teacher.steps
    require(has == last, f"teacher.steps is {has}, but this study's last teacher has made {last}; set it to that.")
    require(config.every is not None or not asked.along, "every is None, but this study looks along the way; set it.")
    moments = set()
    for name, student in asked.students.items():
        known = {*field_names(config.student), *field_names(hyper.student)}
        unknown = set(student.options) - known
        require(
            not unknown, f"students: {name} has its own {min(unknown, default='')}, which is no option of a student."
        )
        its_config, its_numbers = told(config.student, student.options), told(hyper.student, student.options)
        distillation.check_student("student" if not student.options else name, its_config, its_numbers, config.n_aux)
        if config.every is not None and its_config.inputs != "images":
            steps = steps_of(its_config, its_config.n_inputs)
            require(
                config.every <= steps,
                f"every is {config.every}, but the students make {steps} steps; choose at most that.",
            )
            moments.add(steps // config.every)
    require(len(moments) < 2, "every needs students that make equally many steps; set student.steps.")
    for option in set.intersection(*(set(student.options) for student in asked.students.values())):
        of = config.student if option in field_names(config.student) else hyper.student
        value = getattr(of, option)
        require(
            value == getattr(type(of), option),
            f"student.{option} is {value}, but every student of this study has its own; leave it out.",
        )


def study(
    name: str,
    title: str | None,
    students: Mapping[str, Student] = FIGURE_10,
    *,
    measured: Mapping[str, tuple[Measure, Variable]] | None = None,
    teacher_steps: tuple[int, ...] = (),
    **declared: Any,
) -> Study:
    """A study of `students`, by their names, under the protocol.

    Its record has `accuracy` of every condition (reference and teacher first), `imitation_loss` and `alignment` of
    every student; where `config.every` is set, `accuracy_along` and `imitation_loss_along` after every so many steps;
    and what `measured` adds: by name, a function of a `Seen` and what its values are, the first
    dimension being `condition`, or `student` for what only students have. With `teacher_steps`, in ascending order, one
    training of the teacher is imitated after each of these numbers of steps, and all of it has the dimension
    `teacher_step` before its own. `declared` are further fields of the `Study`: config, hyper, axes, report, seeds.
    """
    added = dict(measured or {})
    functions = {"accuracy": accuracy, "alignment": alignment} | {key: function for key, (function, _) in added.items()}
    of_students = {"alignment"} | {key for key, (_, meaning) in added.items() if meaning.dims[0] == "student"}
    nat = "nat (kl) or squared logit (mse)"
    variables = {
        "accuracy": Variable("share of images classified correctly", ("condition",)),
        "imitation_loss": Variable("mean imitation loss over the student's last epoch", ("student",), nat),
        "alignment": Variable("cosine of the student's and the teacher's displacement", ("student",)),
        "accuracy_along": Variable("accuracy after every few steps", ("student", "step")),
        "imitation_loss_along": Variable("mean imitation loss of the steps before", ("student", "step"), nat),
    }
    coords: dict[str, Any] = {
        "condition": [*UNTAUGHT, *students],
        "student": list(students),
        "step": lambda config, n: [config.every * (place + 1) for place in range(n)],
        "teacher_step": list(teacher_steps),
    }
    variables |= {key: meaning for key, (_, meaning) in added.items()}
    if teacher_steps:
        variables = {key: meaning._replace(dims=("teacher_step", *meaning.dims)) for key, meaning in variables.items()}
    config = declared.setdefault("config", Config())
    along = config.every is not None and "report" in declared
    asked = Asked(dict(students), functions, frozenset(of_students), teacher_steps, along)
    common = Study(
        name=name,
        title=title or name,
        make_run=functools.partial(make_run, asked),
        make_joint_run=functools.partial(make_joint_run, asked),
        joint="student",
        load=lambda config: datasets.load(config.data),
        hyper=Hyper(),
        check=functools.partial(check, asked),
        coords=coords | declared.pop("coords", {}),
        variables=variables,
    )
    return dataclasses.replace(common, **declared)
