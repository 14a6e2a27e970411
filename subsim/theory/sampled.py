"""One step on labels drawn from the teacher's softmax: the number of labels that transfer needs.

The student takes one gradient step of cross-entropy at theta_0 on n inputs x. Each input has one label Y drawn from
softmax(y(x) / tau), where y are the teacher's imitated logits at theta_0 + eps d_T and tau is the temperature. Let z be
the student's logits, p = softmax(z / tau) and v = J d_T. Then d_S . d_T is the mean over the samples of

    s = v(x) . (e_Y - p(x)) / tau.

**Statement.** E s = eps A + O(eps^2) and Var s = A + O(eps), both with the same

    A = E_x[v' (diag(p) - p p') v] / tau^2,

Lemma 1's coefficient for KL. Hence, by the central limit theorem, for many samples and small eps

    P(d_S . d_T > 0) = Phi(eps sqrt(n A)),   and the probability q needs n = (Phi^-1(q) / eps)^2 / A samples,

for every network, input distribution, number of logits and temperature: **only eps sqrt(n A) matters**.

Proof. Over labels, the mean of e_Y is softmax(y / tau), so that E s is d_S . d_T of the step on soft targets, which
Lemma 1 expands. At eps = 0 the label is drawn from p. Then v . (e_Y - p) has mean zero and the variance of v_Y, which
is v' (diag(p) - p p') v. The Fisher information is both the curvature of the loss and the variance of its gradient.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Key, Num

from subsim.networks.network import Params
from subsim.theory.single_step import Model, Number

Labelled = tuple[Float[Array, "n logits"], Float[Array, "n logits"]]


def label_products(
    f: Model,
    theta_0: Params,
    d_t: Params,
    inputs: Num[Array, "n ..."],
    *,
    eps: Number,
    mask: Bool[Array, " logits"],
    temperature: Number = 1.0,
) -> Labelled:
    """Return the probability of each label at each input, and the label's contribution s to d_S . d_T.

    The labels are the logits in `mask`; all others have probability 0.
    """
    theta_t = optax.tree.add_scale(theta_0, eps, d_t)

    def softmax(z: Array) -> Array:
        return jax.nn.softmax(jnp.where(mask, z / temperature, -jnp.inf))

    def of_one(x: Array) -> tuple[Array, Array]:
        z, v = jax.jvp(lambda theta: f(theta, x), (theta_0,), (d_t,))
        return softmax(f(theta_t, x)), (v - jnp.vdot(softmax(z), v)) / temperature

    return jax.vmap(of_one)(inputs)


def moments(labelled: Labelled) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return E s, which is d_S . d_T of the step on soft targets, and Var s, both exactly over inputs and labels."""
    probabilities, products = labelled
    mean = jnp.mean(jnp.sum(probabilities * products, axis=1))
    return mean, jnp.mean(jnp.sum(probabilities * jnp.square(products), axis=1)) - jnp.square(mean)


def draw(key: Key[Array, ""], labelled: Labelled) -> Float[Array, " n"]:
    """Draw one label for each input, and return its s."""
    probabilities, products = labelled
    labels = jax.random.categorical(key, jnp.log(probabilities))
    return jnp.take_along_axis(products, labels[:, None], axis=1)[:, 0]


def labels_needed(probability: Number, eps: Number, a: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return the number of labels with which d_S . d_T > 0 has this `probability`, above one half."""
    return jnp.square(jax.scipy.stats.norm.ppf(probability) / eps) / a
