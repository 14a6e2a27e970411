"""The training loop for teachers and students."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from subsim.networks.network import Params


class Training(NamedTuple):
    """A training: the loss, the initial parameters, the examples and their order, and the optimiser.

    `examples(index, step)` returns the batch at `index`, shape (batch,), and `losses(params, examples)` returns the
    loss of each example, shape (batch,). `make_index` draws the order of the `n_examples` from `key`.

    `mask`, which may be traced, picks the examples that count; None picks all. The other examples stay in the order,
    and a step averages over the examples of its batch that count. If none counts, the loss and the gradient are 0.
    `weights` weigh the examples in the mean of their batch. `mask` and `weights` need examples that repeat in every
    epoch; `endless` examples do not. A training can continue an earlier one: from its optimiser `state`, at
    `first_step`, the step of the data at which the earlier training ended.
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
        """The number of steps that take every example once."""
        return -(-self.n_examples // self.batch)

    def first_state(self) -> Any:
        """Return the optimiser state before the first step."""
        return self.optimiser.init(self.params) if self.state is None else self.state

    def mean_loss(self, examples: Any, index: Array, counts: Array) -> Callable[[Params], Array]:
        """Return the mean loss over the examples that count, as a function of the parameters; 0 if none counts."""
        counts = counts if self.mask is None else counts & self.mask[index]

        def mean(params: Params) -> Array:
            each = self.losses(params, examples)
            if self.weights is not None:
                weights = self.weights[index]
                return jnp.sum(weights * each, where=counts) / jnp.sum(weights, where=counts)
            return jnp.sum(each, where=counts) / jnp.maximum(jnp.sum(counts, dtype=each.dtype), 1)

        return mean


class Trained(NamedTuple):
    """The parameters and the optimiser state after the last step, the losses, and the records.

    `losses` has the mean loss of each step's batch before that step. `recorded` has a leading axis of steps // every.
    """

    params: Params
    losses: Float[Array, " steps"]
    state: Any
    recorded: Any = None


def make_index(
    key: Key[Array, ""], n_examples: int, batch: int, endless: bool = False
) -> tuple[Callable[[Array], Array], Callable[[Array, Array], tuple[Array, Array]]]:
    """Return `order(epoch)` and `index(order, step)`, which together choose the examples of each batch.

    Each epoch takes the examples in a new order, drawn from `key` and the epoch's number. `index` returns the examples
    of a step, shape (batch,), and which of them count: the last step of an epoch takes the remainder. If `endless`,
    examples never repeat: epoch e takes the examples from e * n_examples on.
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
    """Return the examples and the parameter update of a training's first step."""
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
    """Run `steps` steps of a training, and record `record(params)` after every `every` of them.

    If `checkpointed`, reverse-mode differentiation of the result recomputes the steps in place of storing them.
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
        order = jnp.zeros(steps_per_epoch * training.batch, jnp.result_type(int))  # the first step draws an order
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
