"""The one training loop; a teacher and a student are two uses of it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from subsim.networks.network import Params


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


def mean_loss(losses: Callable[[Params, Any], Array], examples: Any, counts: Array) -> Callable[[Params], Array]:
    """Return the mean of `losses(params, examples)` over those that count, as a function of the parameters; 0 where
    none does."""

    def mean(params: Params) -> Array:
        each = losses(params, examples)
        return jnp.sum(each, where=counts) / jnp.maximum(jnp.sum(counts, dtype=each.dtype), 1)

    return mean


def first_update(
    key: Key[Array, ""],
    params: Params,
    losses: Callable[[Params, Any], Float[Array, " batch"]],
    examples: Callable[[Int[Array, " batch"], Int[Array, ""]], Any],
    n_examples: int,
    optimiser: optax.GradientTransformation,
    *,
    batch: int,
    endless: bool = False,
    mask: Bool[Array, " n"] | None = None,
    state: Any = None,
    first_step: int = 0,
) -> tuple[Any, Params]:
    """Return the examples of the first step of `train`, called alike, and what that step adds to the parameters."""
    order, index_of = make_index(key, n_examples, batch, endless)
    step = jnp.asarray(first_step)
    index, counts = index_of(order(step // -(-n_examples // batch)), step)
    chosen = examples(index, step)
    gradient = jax.grad(mean_loss(losses, chosen, counts if mask is None else counts & mask[index]))(params)
    return chosen, optimiser.update(gradient, optimiser.init(params) if state is None else state, params)[0]


def train(
    key: Key[Array, ""],
    params: Params,
    losses: Callable[[Params, Any], Float[Array, " batch"]],
    examples: Callable[[Int[Array, " batch"], Int[Array, ""]], Any],
    n_examples: int,
    optimiser: optax.GradientTransformation,
    *,
    batch: int,
    steps: int,
    endless: bool = False,
    mask: Bool[Array, " n"] | None = None,
    every: int | None = None,
    record: Callable[[Params], Any] = lambda params: params,
    state: Any = None,
    first_step: int = 0,
) -> Trained:
    """Minimise the mean loss over `n_examples` examples.

    `examples(index, step)` gives the examples at `index`, shape (batch,), in whatever form `losses(params, examples)`
    takes them; that gives the loss of each, shape (batch,). `make_index` says which examples a step takes.

    `mask`, which may be traced, picks the examples that count, None all of them: the others keep their place in the
    order, and a step averages over those of its batch that count. Where none does, the loss is 0 and so is the
    gradient. A mask goes with examples that come again, not with `endless` ones.

    After every `every` steps `record(params)` is kept. A training goes on from another's optimiser `state` and, with
    `first_step`, at the place in the data where that ended.
    """
    order_of, index_of = make_index(key, n_examples, batch, endless)
    steps_per_epoch = -(-n_examples // batch)

    def step(carry: Any, number: Array) -> tuple[Any, Array]:
        params, state, order = carry
        order = jax.lax.cond(number % steps_per_epoch == 0, lambda: order_of(number // steps_per_epoch), lambda: order)
        index, counts = index_of(order, number)
        counts = counts if mask is None else counts & mask[index]
        loss, gradient = jax.value_and_grad(mean_loss(losses, examples(index, number), counts))(params)
        updates, state = optimiser.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state, order), loss

    if first_step % steps_per_epoch:
        order = order_of(jnp.asarray(first_step // steps_per_epoch))
    else:
        order = jnp.zeros(steps_per_epoch * batch, jnp.result_type(int))  # an epoch begins, and draws its own
    carry = params, optimiser.init(params) if state is None else state, order
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
