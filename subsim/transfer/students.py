"""Train a teacher on labels, and students side by side."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Key

from subsim.data import inputs
from subsim.networks import network as networks
from subsim.networks.network import Network, Params, linearised
from subsim.options import require_number
from subsim.training.loop import Trained, Training, train
from subsim.training.losses import IMITATION_LOSSES, task_cross_entropy
from subsim.training.optimisers import steps_of
from subsim.transfer.imitation import Imitation, Task
from subsim.transfer.rule import Rule
from subsim.transfer.targets import targets_of


def on_labels(
    key: Key[Array, ""],
    network: Network,
    start: Params,
    task: Task,
    n_class: int,
    rule: Rule,
    loss: Callable[[Array, Array], Array] = task_cross_entropy,
) -> Training:
    """Return the training on the labels of `task` with `loss(class_logits, label)`; other logits enter no loss."""

    def examples(index: Array, _step: Array) -> Any:
        return inputs.examples(task.images, index), task.labels[index]

    def losses(params: Params, examples: Any) -> Array:
        images, labels = examples

        def of_example(class_logits: Array, label: Array) -> Array:
            found = loss(class_logits, label)
            require_number("loss", found, "one example")
            return found

        return jax.vmap(of_example)(networks.logits(network, params, images)[:, :n_class], labels)

    n, optimiser = task.labels.shape[0], rule.optimiser(network, start)
    return Training(key, start, losses, examples, n, rule.config.batch, optimiser)


class Students(NamedTuple):
    """The arrays of several students, along a leading axis.

    These are the initial parameters, a mask of the imitated logits, a mask of the inputs (None: all), and the optimiser
    state to continue from (None: a new one).
    """

    start: Params
    imitated: Bool[Array, "student logits"]
    mask: Bool[Array, "student n"] | None = None
    state: Any = None


Around = Callable[[Students, optax.GradientTransformation], optax.GradientTransformation]


class Distillation(NamedTuple):
    """The data, options and network shared by students that are trained side by side.

    All students take the same batches of `data` in the same order, drawn from `key`, so that their first layers are one
    matrix product. `logits` are the indices of the imitated logits, if the user's loss or targets take these logits
    only. `subset` is the number of logits in each batch; None: all. A `linear` student is the linearisation of its
    network at its start. `around(student, optimiser)` returns a replacement for the optimiser. The students begin at
    the step `first_step` of the data.
    """

    key: Key[Array, ""]
    network: Network
    data: Imitation
    rule: Rule
    logits: tuple[int, ...] | None = None
    subset: int | None = None
    linear: bool = False
    around: Around | None = None
    first_step: int = 0

    def network_of(self, start: Params) -> Network:
        """Return the network of a student with the initial parameters `start`."""
        return linearised(self.network, start) if self.linear else self.network

    def example_loss(self, z: Array, y: Array, mask: Array, key: Array, batch_key: Array) -> Array:
        """Return the loss of one example from the student's logits z and the teacher's logits y.

        `mask` is the student's mask of logits. `key` draws the targets, and `batch_key` draws the subset of logits of
        the batch. The user's loss and targets take the imitated logits only.
        """
        config, hyper, own, _ = self.rule
        is_own = {"loss", "targets"} & own.keys()
        z, y = z / hyper.temperature, y / hyper.temperature
        if self.subset is not None:
            order = jnp.argsort(jnp.where(mask, jax.random.uniform(batch_key, mask.shape), 2.0))
            chosen = order[: self.subset]
            mask = jnp.zeros_like(mask).at[chosen].set(True)
            z, y = (z[chosen], y[chosen]) if is_own else (z, y)
        elif is_own:
            z, y = z[jnp.array(self.logits)], y[jnp.array(self.logits)]
        if is_own:
            mask = jnp.ones(z.shape, bool)
        y = self.targets(key, y, mask)
        value: Any = own.get("loss") or IMITATION_LOSSES[config.loss].value
        if "loss" not in own:
            return value(z, y, mask)
        found = value(z, y)
        require_number("loss", found, "one example")
        return found

    def targets(self, key: Array, y: Array, mask: Array) -> Array:
        """Return the targets of one example from the teacher's logits y; see `targets_of`."""
        config, own = self.rule.config, self.rule.own
        if "targets" in own:
            return own["targets"](key, y)
        return targets_of(config.targets, key, y, mask, samples=config.samples, k=config.k, bits=config.bits)

    def training_of(self, student: Students) -> Training:
        """Return the training of one of the students."""
        config, data, network = self.rule.config, self.data, self.network_of(student.start)
        draws = "targets" in self.rule.own or config.targets == "sampled"
        of_batch = jax.random.fold_in(data.key, 1)

        def examples(index: Array, step: Array) -> Any:
            fresh = jax.random.fold_in(data.key, step) if config.resampled else data.key
            keys = jax.vmap(jax.random.fold_in, (None, 0))(fresh, index) if draws else fresh
            return *data.at(index), keys, jax.random.fold_in(of_batch, step)

        def losses(params: Params, examples: Any) -> Array:
            x, y, keys, batch_key = examples
            z = networks.logits(network, params, x)
            each = jax.vmap(self.example_loss, (0, 0, None, 0 if draws else None, None))
            return each(z, y, student.imitated, keys, batch_key)

        around = functools.partial(self.around, student) if self.around else lambda optimiser: optimiser
        optimiser = self.rule.optimiser(self.network, student.start, around)
        return Training(
            self.key, student.start, losses, examples, data.n, config.batch, optimiser, data.endless,
            student.mask, student.state, self.first_step,
        )  # fmt: skip


def train_students(
    distillation: Distillation,
    students: Students,
    *,
    every: int | None = None,
    record: Callable[[Network, Params], Any] = lambda _network, params: params,
) -> Trained:
    """Train students side by side; the result has their leading axis.

    Every `every` steps, `record(network, params)` is recorded for each student and the student's network.
    """
    if students.state is None:
        # Each student has its own state from the first step on, as with a given state: both give the same bits.
        students = students._replace(state=jax.vmap(lambda one: distillation.training_of(one).first_state())(students))
    steps = steps_of(distillation.rule.config, distillation.data.n)

    def imitate(student: Students) -> Trained:
        network = distillation.network_of(student.start)
        return train(
            distillation.training_of(student), steps, every=every, record=lambda params: record(network, params)
        )

    return jax.vmap(imitate)(students)
