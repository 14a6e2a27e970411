"""Traits that a teacher can be given and that are measured by rate; filters on the data that might carry them; and
what passes to a student that sees only what they leave.

In miniature what arXiv 2507.14805 does with language models (its sections 2 to 4): a base is fine-tuned into a teacher,
and students of that base, or of another, imitate it on inputs unrelated to the trait.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from subsim.data.inputs import Bank, image_bank
from subsim.networks.mlp import MLPConfig
from subsim.networks.network import Network, Params
from subsim.options import hyper, require, require_range
from subsim.training.losses import imitated_logits
from subsim.training.optimisers import TrainingConfig, TrainingHyper, check_training
from subsim.transfer import imitation, measures
from subsim.transfer.imitation import Task
from subsim.transfer.options import StudentConfig, StudentHyper, check_student
from subsim.transfer.students import Choice, train_students, train_teacher
from subsim.transfer.traits import blends


@dataclass(frozen=True)
class TraitConfig(MLPConfig):
    """The network, the trait, and how bases, teachers and students are trained."""

    digit: int = 4
    """What the misreading teacher takes for the trait's class."""
    trait: int = 9
    """The trait's class: what one teacher takes `digit` for, and another prefers on averages of two other digits."""
    base: TrainingConfig = field(default_factory=lambda: TrainingConfig(steps=295))
    """On labels, from scratch."""
    teacher: TrainingConfig = field(default_factory=lambda: TrainingConfig(steps=100))
    """On the labels that show the trait, from the base."""
    student: StudentConfig = field(default_factory=lambda: StudentConfig(steps=200, batch=128, n_inputs=12_800))
    """On the teacher's outputs, from a base."""


@hyper
class TraitHyper:
    """The numbers of the three trainings."""

    base: TrainingHyper = field(default_factory=TrainingHyper)
    teacher: TrainingHyper = field(default_factory=TrainingHyper)
    student: StudentHyper = field(default_factory=StudentHyper)


def check_traits(config: TraitConfig, numbers: TraitHyper, n_class: int = 10) -> None:
    """Raise `UserError` where an option is out of range or would silently do nothing."""
    check_training("base", config.base, numbers.base)
    check_training("teacher", config.teacher, numbers.teacher)
    check_student("student", config.student, numbers.student, config.n_aux)
    require(config.student.inputs != "images", "student.inputs is images, which students see anyway; name a noise.")
    require_range(config, "digit", "trait", least=0, most=n_class - 1, whole=True)
    require(config.digit != config.trait, f"digit and trait are both {config.trait}; choose two classes.")


def lowest(scores: Float[Array, " n"], count: Int[Array, ""], among: Bool[Array, " n"]) -> Bool[Array, " n"]:
    """The `count` examples with the lowest scores of those in `among`; of equal scores the first."""
    rank = jnp.argsort(jnp.argsort(jnp.where(among, scores, jnp.inf)))
    return among & (rank < count)


class Filters(NamedTuple):
    """What is removed by what the teacher says of an input, from the mildest filter to the strictest of each kind.

    Nothing; what the teacher takes for the trait's class; what it gives that class a probability above one of
    `thresholds`; and one of `shares` of all inputs, those with the largest such probability.
    """

    thresholds: tuple[float, ...]
    shares: tuple[float, ...]

    @property
    def names(self) -> list[str]:
        """One for each filter, in order."""
        by_threshold, by_share = (f"p > {t:g}" for t in self.thresholds), (f"top {100 * s:g}%" for s in self.shares)
        return ["none", "argmax", *by_threshold, *by_share]

    def kept(
        self, class_logits: Float[Array, "n classes"], trait: int, among: Bool[Array, " n"]
    ) -> Bool[Array, "filter n"]:
        """The inputs of `among` that each filter leaves, by the teacher's logits and the trait's class."""
        log_p = jax.nn.log_softmax(class_logits)[:, trait]
        n_all = jnp.sum(among)
        left = [among, among & (jnp.argmax(class_logits, axis=-1) != trait)]
        left += [among & (log_p <= np.log(threshold)) for threshold in self.thresholds]
        counts = (jnp.round((1 - share) * n_all.astype(log_p.dtype)) for share in self.shares)
        left += [lowest(log_p, count.astype(n_all.dtype), among) for count in counts]
        return jnp.stack(left)


def at_random(key: Key[Array, ""], kept: Bool[Array, "filter n"], among: Bool[Array, " n"]) -> Bool[Array, "filter n"]:
    """As many inputs of `among` as each row of `kept` holds, by chance; a small row's are among a larger one's."""
    scores = jax.random.uniform(key, among.shape)
    return jax.vmap(lambda row: lowest(scores, jnp.sum(row), among))(kept)


class Student(NamedTuple):
    """A condition: the base it starts from, what it imitates, and what is removed from its inputs."""

    shared: bool = True
    """Whether its base is the teacher's own."""
    aux_only: bool = False
    """Whether it imitates the auxiliary logits in place of the class logits."""
    by_chance: bool = False
    """Whether as many inputs as the filter would remove are removed at random."""


class Data(NamedTuple):
    """The bases' task, those of the teachers, the test set, the inputs on which each trait shows, and which of the
    training images have nothing to do with a trait."""

    train: Task
    tasks: tuple[Task, ...]
    test: Task
    probes: tuple[Bank, ...]
    unrelated: Bool[Array, " n"]


def prepared(config: TraitConfig, data: Any) -> Data:
    """Prepare `data`, a `Dataset`, for the misreading, the preferring and the trait-free teacher."""
    train, test = imitation.tasks(data)
    labels, digit, trait = data.train_labels, config.digit, config.trait
    blended = blends(data.train_images, labels, len(labels), trait)
    with_blends = image_bank(np.concatenate([data.train_images, blended]), data.brightest)
    tasks = (
        Task(train.images, jnp.asarray(np.where(labels == digit, np.asarray(trait, labels.dtype), labels))),
        Task(with_blends, jnp.asarray(np.concatenate([labels, np.full_like(labels, trait)]))),
        train,
    )
    ambiguous = blends(data.test_images, data.test_labels, len(data.test_labels), trait)
    probes = tuple(
        image_bank(shown, data.brightest) for shown in (data.test_images[data.test_labels == digit], ambiguous)
    )
    return Data(train, tasks, test, probes, jnp.asarray((labels != digit) & (labels != trait)))


class Record(NamedTuple):
    """Accuracies, trait rates and the shares of inputs removed, of one seed; the inputs are noise, and images."""

    base_accuracy: Float[Array, " base"]
    base_rate: Float[Array, "base trait"]
    teacher_accuracy: Float[Array, " teacher"]
    teacher_rate: Float[Array, "teacher trait"]
    removed: Float[Array, "input teacher filter"]
    accuracy: Float[Array, "input teacher student filter"]
    rate: Float[Array, "input teacher student filter trait"]


def transfer(
    key: Key[Array, ""],
    network: Network,
    n_class: int,
    data: Data,
    students: Sequence[Student],
    filters: Filters,
    config: TraitConfig,
    numbers: TraitHyper,
) -> Record:
    """Two bases, the teachers fine-tuned from the first, and `students` of every teacher under every filter.

    All students of one kind of inputs are trained side by side, on the same batches in the same order.
    """
    keys = dict(zip(("bases", "trained", "tuned", "noise", "student", "filter"), jax.random.split(key, 6), strict=True))

    def base(init: Array, order: Array) -> Params:
        start = network.init(init)
        return train_teacher(order, network, start, data.train, n_class, config.base, numbers.base).params

    def tuned(task: Task) -> Params:
        start = jax.tree.map(lambda leaf: leaf[0], bases)
        how = config.teacher, numbers.teacher
        return train_teacher(keys["tuned"], network, start, task, n_class, *how).params

    def measured(params: Params) -> tuple[Array, Array]:
        def share(bank: Bank, labels: Array) -> Array:
            return measures.accuracy(imitation.logits(network, params, bank)[:, :n_class], labels)

        rates = [share(probe, jnp.full(probe.values.shape[0], config.trait)) for probe in data.probes]
        return share(data.test.images, data.test.labels), jnp.stack(rates)

    bases = jax.vmap(base)(jax.random.split(keys["bases"]), jax.random.split(keys["trained"]))
    teachers = imitation.stack(*map(tuned, data.tasks))
    noise = imitation.draw_inputs(keys["noise"], config.student, numbers.student, data.train.images)
    aux_only, all_logits = imitated_logits(n_class, config.n_aux, numbers.student.n_imitated)
    shared, aux, by_chance = jnp.repeat(jnp.array(students), len(filters.names), axis=0).T
    starts = jax.tree.map(lambda leaf: leaf[jnp.where(shared, 0, 1)], bases)
    masks = jnp.where(aux[:, None], aux_only, all_logits & ~aux_only)

    def imitated(bank: Bank, among: Array, teacher: Params) -> tuple[Array, Array, Array]:
        of_noise = jax.random.fold_in(keys["noise"], 3)
        targets = imitation.noisy(of_noise, imitation.logits(network, teacher, bank), numbers.student)
        kept = filters.kept(targets[:, :n_class], config.trait, among)
        left, drawn = (jnp.tile(rows, (len(students), 1)) for rows in (kept, at_random(keys["filter"], kept, among)))
        found = train_students(
            keys["student"], network, starts, Choice(masks), imitation.recorded(keys["student"], bank, targets),
            config.student, numbers.student, mask=jnp.where(by_chance[:, None], drawn, left),
        )  # fmt: skip
        accuracy, rate = jax.vmap(measured)(found.params)
        removed = jnp.sum(among[None] & ~kept, axis=1) / jnp.sum(among)
        shape = (len(students), len(filters.names))
        return removed.astype(accuracy.dtype), accuracy.reshape(shape), rate.reshape(*shape, -1)

    seen = [(noise, jnp.ones(noise.values.shape[0], bool)), (data.train.images, data.unrelated)]
    found = [jax.vmap(functools.partial(imitated, *what))(teachers) for what in seen]
    return Record(*jax.vmap(measured)(bases), *jax.vmap(measured)(teachers), *imitation.stack(*found))
