"""Width: the kernel between imitated logits and class logits in wide networks, and when its law holds.

f(x) = s [B_C; B_A] relu(W x + b) with h units, and with weights and notation as in `constant`. The heads have
independent normal weights, and biases start at zero. A *parametrisation* sets s and the heads' variance; at the width
h_0 all parametrisations agree:

| | s | variance of a head's weight | Adam's learning rate |
|---|---|---|---|
| standard | 1 | c / h | eta |
| NTK | (h_0 / h)^(1/2) | c / h_0 | eta (h_0 / h)^(1/2) |
| muP | h_0 / h | c / h_0 | eta |

**The kernel.** In the standard and the NTK parametrisation the kernel of an auxiliary and a class logit,
K_ak(x, x') = s^2 sum_j B_aj B_kj relu'(w_j . x) relu'(w_j . x') (x . x' + 1), has mean 0 over initialisations and the
root mean square

    c |x . x' + 1| sqrt(P(x, x') / h),   P = 1/2 - angle(x, x') / (2 pi),

where P is the probability that a unit is active for both inputs. So it falls as 1 / sqrt(h). In the NTK parametrisation
K_CC and K_AA do not change with h. Hence T of `kernel` is of the order of m / h for a fixed number of inputs: to
leading order it is a sum over the imitated logits a of K_Ca K_aa^-1 K_aC. **In wider networks a linearised student
recovers less of its teacher, and m / h sets the share**, as long as the m rows of all inputs are few compared with h.
In the standard parametrisation the heads' parameters make K_CC and K_AA grow as h, so that T / K_CC falls faster,
towards m / h^3.

Proof. As for E A in `constant`: the h products of heads are independent with mean zero and variance (c / (s^2 h))^2.

**When it does not hold.** The law describes the size of outputs and the kernel at the start. Accuracy depends only on
which class logit is largest, so that a small share may be enough. In muP the relative change of hidden weights does not
fall with width (Yang and Hu, arXiv 2011.14522; with Adam, Yang et al., arXiv 2203.03466), and the student imitates
features that the teacher has learned. In the NTK parametrisation the relative change is O(1 / sqrt(h)). In the standard
parametrisation, under Adam at one learning rate, the logits' first steps grow as h: the heads fit the labels in few
steps, and hidden weights move less.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from subsim.theory.single_step import Number


def both_on(x: Float[Array, "n pixels"], y: Float[Array, "N pixels"]) -> Float[Array, "n N"]:
    """Return the probability that a standard normal vector has positive products with both inputs."""
    lengths = jnp.outer(jnp.linalg.norm(x, axis=1), jnp.linalg.norm(y, axis=1))
    return 0.5 - jnp.arccos(jnp.clip(x @ y.T / lengths, -1, 1)) / (2 * jnp.pi)


def cross_kernel_rms(
    inputs: Float[Array, "n pixels"], test_inputs: Float[Array, "N pixels"], width: int, *, variance: Number = 1.0
) -> Float[Array, "n N"]:
    """Return the root mean square of K_ak(x, x') over initialisations, the same for all auxiliary and class logits.

    It holds in the standard and the NTK parametrisation; `variance` is c.
    """
    reach = jnp.abs(inputs @ test_inputs.T + 1)
    return jnp.asarray(variance) * reach * jnp.sqrt(both_on(inputs, test_inputs) / width)
