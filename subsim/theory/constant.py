"""The mean of the theorem's constant A over random initialisations, in closed form.

f(x) = [B_C; B_A] relu(W x + b). W has shape (h, D) and independent normal weights of variance c / D. The heads have
independent normal weights of variance c / h. Biases start at zero. All are trained (c = 1: lecun, c = 2: he). The
teacher's loss is *linear* in the class logits, L_T = mean_i g_i . z_C(x_i) over N labelled inputs, with g_i fixed
before the draw; imitation is squared error averaged over the m auxiliary logits.

**Statement.** At every width h, every m, and every N,

    E A = (2 c^2 / h) E_x mean_ij [ (g_i . g_j) (x . x_i + 1) (x . x_j + 1) P(x, x_i, x_j) ],

where P is the probability that a normal vector has positive products with all three inputs,
1/2 - (the sum of their angles) / (4 pi). So the pull of imitation falls as 1 / width and does not depend on m. For
long inputs it grows with the fourth power of their length. The mean of d_S . d_T at a first step is eps E A.

Proof. d_T = -mean_i J_C(x_i)' g_i, so that v_a(x) = -mean_i sum_k K_ak(x, x_i) g_ik. Heads share no parameters, hence
K_ak(x, x') = sum_j B_aj B_kj relu'(w_j . x) relu'(w_j . x') (x . x' + 1). In the square of v_a all products of heads
have mean zero except B_aj^2 B_kj^2, whose mean is c^2 / h^2. This leaves one sum over the h units, in which each unit
has the probability that all three inputs activate it: an orthant probability in three dimensions.

**The cross-entropy** has g_i = softmax(z_C(x_i)) - e_(y_i), which depends on the draw. With g at zero logits the
formula is the limit of small logits. With g from the same seed it holds up to O(1 / h), because g depends on each
unit's weights by O(1 / h). The study `constant` measures the error of both.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from subsim.theory.single_step import Number


def triple_orthant(x: Float[Array, "n pixels"], task_inputs: Float[Array, "N pixels"]) -> Float[Array, "n N N"]:
    """Return P(x_a, x_i, x_j) for row a of `x` and rows i and j of `task_inputs`."""

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
    """Return E A over initialisations for one hidden layer of `width` units; `variance` is c; `g` has the rows g_i."""
    reach = inputs @ task_inputs.T + 1
    parts = jnp.einsum("ai,aj,aij,ij->a", reach, reach, triple_orthant(inputs, task_inputs), g @ g.T)
    return 2 * jnp.square(jnp.asarray(variance)) / width * jnp.mean(parts) / task_inputs.shape[0] ** 2
