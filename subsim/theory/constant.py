"""Where the theorem's constant comes from: the mean of A over random initialisations, in closed form.

f(x) = [B_C; B_A] relu(W x + b), W of shape (h, D) with independent normal weights of variance c / D, heads with
independent normal weights of variance c / h, biases zero at first, all of them trained (c = 1: lecun, c = 2: he). The
teacher's loss is *linear* in the class logits, L_T = mean_i g_i . z_C(x_i) over N labelled inputs, with g_i fixed
before the draw; imitation is squared error averaged over the m auxiliary logits.

**Statement.** At every width h, every m, and every N,

    E A = (2 c^2 / h) E_x mean_ij [ (g_i . g_j) (x . x_i + 1) (x . x_j + 1) P(x, x_i, x_j) ],

P the probability that a normal vector has positive products with all three, 1/2 - (the sum of their angles) / (4 pi).
So imitation pulls as 1 / width, with the fourth power of the inputs' size where they are long, whatever m; and on
average d_S . d_T of a first step is eps E A.

Proof. d_T = -mean_i J_C(x_i)' g_i, so that v_a(x) = -mean_i sum_k K_ak(x, x_i) g_ik. Heads share no parameters, hence
K_ak(x, x') = sum_j B_aj B_kj relu'(w_j . x) relu'(w_j . x') (x . x' + 1). In the square of v_a all products of heads
have mean zero but B_aj^2 B_kj^2, of mean c^2 / h^2: one sum over the h units is left, each with the probability that
all three inputs switch it on. Such a probability is that of an orthant in three dimensions.

**The cross-entropy** has g_i = softmax(z_C(x_i)) - e_(y_i), which the draw decides, too. With the g of logits that
are zero the formula is its small-logits limit; with a seed's own g it holds up to O(1 / h), for g depends on each
unit's weight by that much. The study `constant` says how far off both are.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from subsim.theory.single_step import Number


def triple_orthant(x: Float[Array, "n pixels"], task_inputs: Float[Array, "N pixels"]) -> Float[Array, "n N N"]:
    """Return the probability that a standard normal vector has positive products with rows a, i and j of the two."""

    def unit(rows: Array) -> Array:
        return rows / jnp.linalg.norm(rows, axis=1, keepdims=True)

    def angle(a: Array, b: Array) -> Array:
        return jnp.arccos(jnp.clip(unit(a) @ unit(b).T, -1, 1))

    to_x, within = angle(x, task_inputs), angle(task_inputs, task_inputs)
    return 0.5 - (to_x[:, :, None] + to_x[:, None, :] + within[None]) / (4 * jnp.pi)


def expected_a(
    inputs: Float[Array, "n pixels"],
    task_inputs: Float[Array, "N pixels"],
    g: Float[Array, "N classes"],
    width: int,
    *,
    variance: Number = 1.0,
) -> Float[Array, ""]:
    """Return E A over initialisations of one hidden layer of `width` units; `variance` is c, `g` the loss' gradient."""
    reach = inputs @ task_inputs.T + 1
    parts = jnp.einsum("ai,aj,aij,ij->a", reach, reach, triple_orthant(inputs, task_inputs), g @ g.T)
    return 2 * jnp.square(jnp.asarray(variance)) / width * jnp.mean(parts) / task_inputs.shape[0] ** 2
