"""Width: how much the imitated logits tell of the classes in wide networks, and when that law holds.

f(x) = s [B_C; B_A] relu(W x + b) with h units, weights and notation as in `constant`, biases zero at first: heads of
independent normal weights. s and the heads' variance are those of a *parametrisation*; at the width h_0 all are one:

| | s | variance of a head's weight | Adam's learning rate |
|---|---|---|---|
| standard | 1 | c / h | eta |
| NTK | (h_0 / h)^(1/2) | c / h_0 | eta (h_0 / h)^(1/2) |
| muP | h_0 / h | c / h_0 | eta |

**The kernel.** In the standard and the NTK parametrisation the kernel of an auxiliary and a class logit,
K_ak(x, x') = s^2 sum_j B_aj B_kj relu'(w_j . x) relu'(w_j . x') (x . x' + 1), has mean 0 over initialisations and the
root mean square

    c |x . x' + 1| sqrt(P(x, x') / h),   P = 1/2 - angle(x, x') / (2 pi),

P the probability that a unit is on for both: it falls as 1 / sqrt(h). In the NTK parametrisation K_CC and K_AA stay.
Hence T of `kernel` is of the order of m / h for a fixed number of inputs: to leading order it is a sum over the
imitated logits a of K_Ca K_aa^-1 K_aC. **A linearised student has less of its teacher the wider both are, and m / h
decides how much**, until the m rows of all inputs are many beside h. In the standard parametrisation K_CC and K_AA grow
as h, by the heads' own parameters, so that T / K_CC falls faster, towards m / h^3.

Proof. As for E A in `constant`: the h products of heads are independent with mean zero and variance (c / (s^2 h))^2.

**When it does not hold.** The law is of the kernel at the start, and of size: accuracy asks only which class logit is
largest, so that a small share may do. Where hidden weights move by a share of themselves that does not fall with width,
as in muP (Yang and Hu, arXiv 2011.14522; with Adam, Yang et al., arXiv 2203.03466), the student imitates features that
the teacher has learned. In the NTK parametrisation that share is O(1 / sqrt(h)). In the standard one, under Adam at one
learning rate, the logits' first steps grow as h: the heads fit the labels in few steps, and hidden weights move less.
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
    """Return the root mean square over initialisations of K_ak(x, x'), the same for all auxiliary and class logits;
    `variance` is c (standard and NTK)."""
    reach = jnp.abs(inputs @ test_inputs.T + 1)
    return jnp.asarray(variance) * reach * jnp.sqrt(both_on(inputs, test_inputs) / width)
