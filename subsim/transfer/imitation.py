"""The distillation data of students: inputs, and the teacher's logits on them."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from subsim.data import inputs
from subsim.data.inputs import Bank
from subsim.networks import network as networks
from subsim.networks.network import Network, Params
from subsim.options import require
from subsim.training.losses import task_cross_entropy
from subsim.transfer.options import StudentConfig, StudentHyper

# A forward pass takes this many examples at a time: activations stay in cache, and memory does not grow.
FORWARD_BATCH = 1024


class Task(NamedTuple):
    """A labelled data set on the device: inputs of shape (n, pixels), labels of shape (n,), integers."""

    images: Bank
    labels: Int[Array, " n"]


def tasks(data: Any) -> tuple[Task, Task]:
    """Put the training set and the test set of `data`, a `Dataset`, on the device."""
    splits = (data.train_images, data.train_labels), (data.test_images, data.test_labels)
    train, test = (Task(inputs.image_bank(images, data.brightest), jnp.asarray(labels)) for images, labels in splits)
    return train, test


def outputs(function: Callable[[Array], Array], bank: Bank) -> Float[Array, "n out"]:
    """Return `function`, which takes examples of shape (batch, pixels), of every input of `bank`."""
    n = bank.values.shape[0]
    # Blocks have equal size, and the last one is padded: only the few padding inputs are computed twice.
    blocks = -(-n // FORWARD_BATCH)
    size = -(-n // blocks)
    index = jnp.minimum(jnp.arange(blocks * size), n - 1).reshape(blocks, size)
    found = jax.lax.map(lambda block: function(inputs.examples(bank, block)), index)
    return found.reshape(blocks * size, -1)[:n]


def logits(network: Network, params: Params, bank: Bank) -> Float[Array, "n logits"]:
    """Return the network's logits on every input of `bank`."""
    return outputs(lambda x: networks.logits(network, params, x), bank)


TaskLoss = Callable[[Array, Array], Array]
"""loss(class_logits, label) of one example."""


def task_loss(
    network: Network, params: Params, task: Task, n_class: int, images: int = 512, loss: TaskLoss = task_cross_entropy
) -> Float[Array, ""]:
    """Return the mean loss of the class logits, by default their cross-entropy, on the first `images` of `task`."""
    n = min(images, task.labels.shape[0])
    z = networks.logits(network, params, inputs.examples(task.images, jnp.arange(n)))[:, :n_class]
    return jnp.mean(jax.vmap(loss)(z, task.labels[:n]))


def features(network: Network, params: Params, bank: Bank) -> Float[Array, "n width"]:
    """Return the units of the network's last hidden layer on every input of `bank`."""
    return outputs(lambda x: networks.features(network, params, x), bank)


class Imitation(NamedTuple):
    """The distillation data of students.

    `at(index)`, for an index of shape (batch,), returns inputs of shape (batch, pixels) and the teacher's logits on
    them, shape (batch, logits). An epoch has `n` inputs; if `endless`, each epoch has new inputs, and the index counts
    on. `logits` are the teacher's logits on all inputs, shape (n, logits), if the inputs are fixed. `key` draws random
    targets.
    """

    at: Callable[[Int[Array, " batch"]], tuple[Float[Array, "batch pixels"], Float[Array, "batch logits"]]]
    n: int
    key: Key[Array, ""]
    endless: bool = False
    logits: Float[Array, "n logits"] | None = None


def make_draw(
    key: Key[Array, ""],
    config: StudentConfig,
    hyper: StudentHyper,
    images: Bank,
    own: Callable[..., Array] | None = None,
) -> Callable[[Key[Array, ""], int], Bank]:
    """Return `draw(key, n)`, which draws n inputs for the students of one seed; `key` draws what the inputs share.

    `own(key, n, shape, images)` is the user's function for drawing inputs, if there is one.
    """
    if own is None:
        draw = inputs.make_draw(
            key, config.inputs, images, blur_sigma=hyper.blur, rank=hyper.rank, real_share=hyper.real_share
        )
    else:

        def draw(key: Key[Array, ""], n: int) -> Bank:
            shape = images.values.shape[1:]
            drawn = jnp.asarray(own(key, n, shape, inputs.pixels(images, images.values)))
            wanted = (n, *shape)
            require(
                drawn.size == math.prod(wanted),
                f"inputs: the function must give n inputs, of shape {wanted} in all, and gives shape {drawn.shape}.",
            )
            return Bank(jnp.reshape(drawn, wanted), 1.0, 0.0)

    def changed(key: Key[Array, ""], n: int) -> Bank:
        return as_seen(draw(key, n), config, hyper, jax.random.fold_in(key_of_order, 0))

    key_of_order = jax.random.fold_in(key, 5)
    return changed


def as_seen(bank: Bank, config: StudentConfig, hyper: StudentHyper, key: Key[Array, ""]) -> Bank:
    """Return inputs scaled, shifted and with permuted pixels, as the options say."""
    bank = inputs.shifted(inputs.scaled(bank, hyper.input_scale), hyper.input_shift)
    return inputs.permuted(key, bank) if config.permuted else bank


def draw_inputs(
    key: Key[Array, ""],
    config: StudentConfig,
    hyper: StudentHyper,
    images: Bank,
    own: Callable[..., Array] | None = None,
) -> Bank:
    """Return the inputs of one seed's students: noise drawn for this seed, or `images`, the same for all seeds."""
    of_shared = jax.random.fold_in(key, 1)
    if config.inputs == "images" and own is None:
        return as_seen(images, config, hyper, jax.random.fold_in(jax.random.fold_in(of_shared, 5), 0))
    return make_draw(of_shared, config, hyper, images, own)(key, config.n_inputs)


def noisy(key: Key[Array, ""], y: Float[Array, "*n logits"], hyper: StudentHyper) -> Float[Array, "*n logits"]:
    """Return a teacher's logits with noise of standard deviation `hyper.logit_noise`."""
    return y + hyper.logit_noise * jax.random.normal(key, y.shape, y.dtype)


def recorded(key: Key[Array, ""], bank: Bank, y: Float[Array, "n logits"]) -> Imitation:
    """Return distillation data from the inputs of `bank` and the teacher's logits `y`, the same in every epoch."""
    return Imitation(lambda index: (inputs.examples(bank, index), y[index]), bank.values.shape[0], key, logits=y)


def make_imitation(
    key: Key[Array, ""],
    network: Network,
    teacher: Params,
    config: StudentConfig,
    hyper: StudentHyper,
    images: Bank,
    own: Callable[..., Array] | None = None,
    depth: int = 0,
) -> Imitation:
    """Return the distillation data of one seed's students: inputs, and the teacher's logits on them.

    Both are computed once; if `config.fresh`, they are computed batch by batch without being stored. Students at
    different depths of a chain have the same inputs, but `depth` sets the noise on the logits and the drawn labels.
    """
    of_noise, of_targets = jax.random.fold_in(key, 3), jax.random.fold_in(key, 4)
    if depth:  # otherwise the same noise would add up over the generations
        of_noise, of_targets = (jax.random.fold_in(each, depth) for each in (of_noise, of_targets))
    if not config.fresh:
        bank = draw_inputs(key, config, hyper, images, own)
        return recorded(of_targets, bank, noisy(of_noise, logits(network, teacher, bank), hyper))
    draw = make_draw(jax.random.fold_in(key, 1), config, hyper, images, own)
    of_each = jax.random.fold_in(key, 2)

    def at(index: Array) -> tuple[Array, Array]:
        def one(number: Array) -> Array:
            return inputs.examples(draw(jax.random.fold_in(of_each, number), 1), jnp.zeros(1, number.dtype))[0]

        def with_noise(number: Array, y: Array) -> Array:
            return noisy(jax.random.fold_in(of_noise, number), y, hyper)

        x = jax.vmap(one)(index)
        return x, jax.vmap(with_noise)(index, networks.logits(network, teacher, x))

    return Imitation(at, config.n_inputs, of_targets, endless=True)


def stack(*trees: Any) -> Any:
    """Stack pytrees of one structure along a new leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
