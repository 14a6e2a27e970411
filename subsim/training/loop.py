"""The one training loop; a teacher and a student are two uses of it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from subsim.networks.network import Params


class Watch(NamedTuple):
    """What to keep of a network along its training: `see(params)`, any pytree, after every `every` steps."""

    every: int
    see: Callable[[Params], Any]


class Trained(NamedTuple):
    """Parameters after the last step, the mean loss of each step's batch, shape (steps,), before that step, the
    optimiser's last state, and what a watch saw, with a leading axis of steps // every moments."""

    params: Params
    losses: Float[Array, " steps"]
    state: Any
    seen: Any = None


def train(
    key: Key[Array, ""],
    params: Params,
    losses: Callable[[Params, Any], Float[Array, " batch"]],
    examples: Callable[[Int[Array, " batch"]], Any],
    n_examples: int,
    optimiser: optax.GradientTransformation,
    *,
    batch: int,
    steps: int,
    endless: bool = False,
    kept: Bool[Array, " n"] | None = None,
    watch: Watch | None = None,
) -> Trained:
    """Minimise the mean loss over `n_examples` examples.

    `examples(index)` gives the examples at `index`, shape (batch,), in whatever form `losses(params, examples)` takes
    them; that gives the loss of each, shape (batch,). Each epoch takes the examples in an order of its own, drawn from
    `key` and the epoch's number; its last step averages over what is left. `endless`: no epoch sees an example again;
    `index` goes on counting, and epoch e takes those from e * n_examples on.

    `kept`, which may be traced, picks the examples that count, None all of them: the others keep their place in the
    order, and a step averages over those of its batch that are kept. One that keeps none has the loss 0, and no
    gradient. It goes with examples that come again, not with `endless` ones.
    """
    steps_per_epoch = -(-n_examples // batch)
    unused = steps_per_epoch * batch - n_examples

    def shuffle(epoch: Array) -> Array:
        order = jax.random.permutation(jax.random.fold_in(key, epoch), n_examples)
        return jnp.pad(order + epoch * n_examples if endless else order, (0, unused))

    def step(carry: Any, number: Array) -> tuple[Any, Array]:
        params, state, order = carry
        epoch, place = number // steps_per_epoch, number % steps_per_epoch
        order = jax.lax.cond(place == 0, lambda: shuffle(epoch), lambda: order)
        index = jax.lax.dynamic_slice(order, (place * batch,), (batch,))
        counts = place * batch + jnp.arange(batch) < n_examples
        counts = counts if kept is None else counts & kept[index]
        chosen = examples(index)

        def mean_loss(params: Params) -> Array:
            each = losses(params, chosen)
            return jnp.sum(each, where=counts) / jnp.maximum(jnp.sum(counts, dtype=each.dtype), 1)

        loss, gradient = jax.value_and_grad(mean_loss)(params)
        updates, state = optimiser.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state, order), loss

    unshuffled = jnp.zeros(n_examples + unused, jnp.result_type(int))
    carry, numbers = (params, optimiser.init(params), unshuffled), jnp.arange(steps)
    if watch is None:
        (params, state, _), history = jax.lax.scan(step, carry, numbers)
        return Trained(params, history, state)

    def stretch(carry: Any, numbers: Array) -> tuple[Any, tuple[Array, Any]]:
        carry, history = jax.lax.scan(step, carry, numbers)
        return carry, (history, watch.see(carry[0]))

    watched = steps // watch.every * watch.every
    carry, (history, seen) = jax.lax.scan(stretch, carry, numbers[:watched].reshape(-1, watch.every))
    (params, state, _), rest = jax.lax.scan(step, carry, numbers[watched:])
    return Trained(params, jnp.concatenate([history.ravel(), rest]), state, seen)
