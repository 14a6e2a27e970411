"""Small problems for testing statements: networks of several kinds, a trait, and inputs for the student."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from subsim.data.inputs import pixels, uniform_noise
from subsim.networks.mlp import MLPConfig
from subsim.networks.network import Network, Params
from subsim.options import require_range
from subsim.training.losses import task_cross_entropy

N_PIXELS, N_CLASS, N_AUX = 16, 4, 3
"""Numbers of inputs, class logits and auxiliary logits of the small networks."""


@dataclass(frozen=True)
class ProblemConfig(MLPConfig):
    """A small network, by default 16-32-32-(5+3), and its number of samples."""

    widths: tuple[int, ...] = (32, 32)
    """Units in each hidden layer, one number a layer."""
    n_pixels: int = 16
    """Number of inputs of the network."""
    n_class: int = 5
    """Number of class logits; the trait depends on these only."""
    batch: int = 64
    """Number of samples in L_T (labelled inputs) and in L_S (uniform noise on [-1, 1])."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_range(self, "n_pixels", "batch", least=1, whole=True)
        require_range(self, "n_class", least=2, whole=True)


class Data(NamedTuple):
    """The trait's Gaussian inputs (n, pixels) and random labels (n,); the student's noise, uniform on [-1, 1]."""

    task_inputs: Float[Array, "n pixels"]
    task_labels: Int[Array, " n"]
    inputs: Float[Array, "n pixels"]


class Problem(NamedTuple):
    """The random draws of one seed: two networks' initial parameters, the teacher's trait, and inputs (n, pixels)."""

    theta_0: Params
    independent: Params
    trait_loss: Callable[[Params], Float[Array, ""]]
    inputs: Float[Array, "n pixels"]


def keys_of(key: Key[Array, ""]) -> tuple[Key[Array, ""], Key[Array, ""], Key[Array, " 3"]]:
    """Return the keys of a problem: for its network, the independent network, and the data."""
    network, independent, *data = jax.random.split(key, 5)
    return network, independent, jnp.stack(data)


def draw_data(keys: Key[Array, " 3"], n_pixels: int, n_class: int, n: int) -> Data:
    """Return the data of one problem, `n` examples of each kind."""
    images, labels, noise = keys
    bank = uniform_noise(noise, n, n_pixels)
    return Data(
        jax.random.normal(images, (n, n_pixels)),
        jax.random.randint(labels, (n,), 0, n_class),
        pixels(bank, bank.values),
    )


def trait_on(network: Network, data: Data, n_class: int) -> Callable[[Params], Float[Array, ""]]:
    """Return L_T, the cross-entropy of the class logits on the labels of `data`."""

    def trait_loss(params: Params) -> Array:
        class_logits = jax.vmap(lambda x: network.apply(params, x)[:n_class])(data.task_inputs)
        return jnp.mean(jax.vmap(task_cross_entropy)(class_logits, data.task_labels))

    return trait_loss


def draw_problem(key: Key[Array, ""], network: Network, n_pixels: int, n_class: int, n: int) -> Problem:
    """Draw a problem from `key`: two initialisations of `network`, and `n` examples of each kind of data."""
    of_network, independent, of_data = keys_of(key)
    data = draw_data(of_data, n_pixels, n_class, n)
    return Problem(network.init(of_network), network.init(independent), trait_on(network, data, n_class), data.inputs)
