"""The one training loop; a teacher and a student are two uses of it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from subsim.networks.network import Params


class Training(NamedTuple):
    """A training: the loss, the initial parameters, the examples and their order, and the optimiser.

    `losses(params, examples)` gives the loss of each example of a batch, shape (batch,), of what `examples(index,
    step)` gives at an index of that shape; `make_index` says which of the `n_examples` a step takes, in an order drawn
    from `key`. `mask`, which may be traced, picks the examples that count, None all of them: the others keep their
    place in the order, and a step averages over those of its batch that count. Where none does, the loss is 0 and so is
    the gradient. A mask goes with examples that come again, not with `endless` ones, and so do `weights`, those of the
    examples in their batch's mean. A training goes on from another's optimiser `state` and, with `first_step`, at the
    place in the data where that ended.
    """

    key: Key[Array, ""]
    params: Params
    losses: Callable[[Params, Any], Float[Array, " batch"]]
    examples: Callable[[Int[Array, " batch"], Int[Array, ""]], Any]
    n_examples: int
    batch: int
    optimiser: optax.GradientTransformation
    endless: bool = False
    mask: Bool[Array, " n"] | None = None
    state: Any = None
    first_step: int = 0
    weights: Float[Array, " n"] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Steps that take every example once."""
        return -(-self.n_examples // self.batch)

    def first_state(self) -> Any:
        """Return the optimiser state before the first step."""
        return self.optimiser.init(self.params) if self.state is None else self.state

    def mean_loss(self, examples: Any, index: Array, counts: Array) -> Callable[[Params], Array]:
        """Return the mean loss of a batch over those that count, as a function of the parameters; 0 where none does."""
        counts = counts if self.mask is None else counts & self.mask[index]

        def mean(params: Params) -> Array:
            each = self.losses(params, examples)
            if self.weights is not None:
                weights = self.weights[index]
                return jnp.sum(weights * each, where=counts) / jnp.sum(weights, where=counts)
            return jnp.sum(each, where=counts) / jnp.maximum(jnp.sum(counts, dtype=each.dtype), 1)

        return mean


class Trained(NamedTuple):
    """Parameters after the last step, the mean loss of each step's batch, shape (steps,), before that step, the
    optimiser's last state, and what was recorded, with a leading axis of steps // every."""

    params: Params
    losses: Float[Array, " steps"]
    state: Any
    recorded: Any = None


def make_index(
    key: Key[Array, ""], n_examples: int, batch: int, endless: bool = False
) -> tuple[Callable[[Array], Array], Callable[[Array, Array], tuple[Array, Array]]]:
    """Return `order(epoch)` and `index(order, step)`: which examples are in the batch of a step.

    Each epoch takes the examples in an order of its own, drawn from `key` and the epoch's number. `index` gives them,
    shape (batch,), and which of them count: the last step of an epoch takes what is left. `endless`: no epoch takes an
    example again, and epoch e takes those from e * n_examples on.
    """
    steps_per_epoch = -(-n_examples // batch)
    unused = steps_per_epoch * batch - n_examples

    def order(epoch: Array) -> Array:
        drawn = jax.random.permutation(jax.random.fold_in(key, epoch), n_examples)
        return jnp.pad(drawn + epoch * n_examples if endless else drawn, (0, unused))

    def index(order: Array, step: Array) -> tuple[Array, Array]:
        first = step % steps_per_epoch * batch
        return jax.lax.dynamic_slice(order, (first,), (batch,)), first + jnp.arange(batch) < n_examples

    return order, index


def first_update(training: Training) -> tuple[Any, Params]:
    """Return the examples of a training's first step, and what that step adds to the parameters."""
    order, index_of = make_index(training.key, training.n_examples, training.batch, training.endless)
    step = jnp.asarray(training.first_step)
    index, counts = index_of(order(step // training.steps_per_epoch), step)
    examples = training.examples(index, step)
    gradient = jax.grad(training.mean_loss(examples, index, counts))(training.params)
    return examples, training.optimiser.update(gradient, training.first_state(), training.params)[0]


def train(
    training: Training,
    steps: int,
    *,
    every: int | None = None,
    record: Callable[[Params], Any] = lambda params: params,
    checkpointed: bool = False,
) -> Trained:
    """Make the steps of a training; after every `every` of them `record(params)` is kept.

    `checkpointed`: where the result is differentiated, the steps are made again in place of being remembered.
    """
    order_of, index_of = make_index(training.key, training.n_examples, training.batch, training.endless)
    steps_per_epoch, first_step = training.steps_per_epoch, training.first_step

    def step(carry: Any, number: Array) -> tuple[Any, Array]:
        params, state, order = carry
        order = jax.lax.cond(number % steps_per_epoch == 0, lambda: order_of(number // steps_per_epoch), lambda: order)
        index, counts = index_of(order, number)
        mean_loss = training.mean_loss(training.examples(index, number), index, counts)
        loss, gradient = jax.value_and_grad(mean_loss)(params)
        updates, state = training.optimiser.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state, order), loss

    if checkpointed:
        step = jax.checkpoint(step)
    if first_step % steps_per_epoch:
        order = order_of(jnp.asarray(first_step // steps_per_epoch))
    else:
        order = jnp.zeros(steps_per_epoch * training.batch, jnp.result_type(int))  # an epoch begins, and draws its own
    carry = training.params, training.first_state(), order
    numbers = first_step + jnp.arange(steps)
    if every is None:
        (params, state, _), history = jax.lax.scan(step, carry, numbers)
        return Trained(params, history, state)

    def stretch(carry: Any, numbers: Array) -> tuple[Any, tuple[Array, Any]]:
        carry, history = jax.lax.scan(step, carry, numbers)
        return carry, (history, record(carry[0]))

    recorded_steps = steps // every * every
    carry, (history, recorded) = jax.lax.scan(stretch, carry, numbers[:recorded_steps].reshape(-1, every))
    (params, state, _), rest = jax.lax.scan(step, carry, numbers[recorded_steps:])
    return Trained(params, jnp.concatenate([history.ravel(), rest]), state, recorded)
