"""Small problems to check a statement on: networks of several kinds, a trait, and inputs for the student."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from subsim.data.inputs import pixels, uniform_noise
from subsim.networks.mlp import MLPConfig
from subsim.networks.network import Network, Params
from subsim.options import require_range
from subsim.training.losses import task_cross_entropy

N_PIXELS, N_CLASS, N_AUX = 16, 4, 3
"""Inputs, class logits and auxiliary logits of the small networks."""


@dataclass(frozen=True)
class ProblemConfig(MLPConfig):
    """A small network, 16-32-32-(5+3) unless told otherwise, and how many samples it sees."""

    widths: tuple[int, ...] = (32, 32)
    """Units in each hidden layer, one number a layer."""
    n_pixels: int = 16
    """Inputs of the network."""
    n_class: int = 5
    """Class logits, which the trait is about."""
    batch: int = 64
    """Samples in L_T (labelled inputs) and in L_S (uniform noise on [-1, 1])."""

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
    """What one seed draws: two networks' initial parameters, the teacher's trait, and inputs (n, pixels)."""

    theta_0: Params
    stranger: Params
    trait_loss: Callable[[Params], Float[Array, ""]]
    inputs: Float[Array, "n pixels"]


def keys_of(key: Key[Array, ""]) -> tuple[Key[Array, ""], Key[Array, ""], Key[Array, " 3"]]:
    """The keys of a problem: of its network, of the stranger, and of its data."""
    own, other, *data = jax.random.split(key, 5)
    return own, other, jnp.stack(data)


def draw_data(keys: Key[Array, " 3"], n_pixels: int, n_class: int, n: int) -> Data:
    """The data of one problem, `n` examples of each kind."""
    images, labels, noise = keys
    bank = uniform_noise(noise, n, n_pixels)
    return Data(
        jax.random.normal(images, (n, n_pixels)),
        jax.random.randint(labels, (n,), 0, n_class),
        pixels(bank, bank.values),
    )


def trait_on(network: Network, data: Data, n_class: int) -> Callable[[Params], Float[Array, ""]]:
    """L_T: the cross-entropy of the class logits on the labels of `data`."""

    def trait_loss(params: Params) -> Array:
        class_logits = jax.vmap(lambda x: network.apply(params, x)[:n_class])(data.task_inputs)
        return jnp.mean(jax.vmap(task_cross_entropy)(class_logits, data.task_labels))

    return trait_loss


def draw_problem(key: Key[Array, ""], network: Network, n_pixels: int, n_class: int, n: int) -> Problem:
    """A problem of its own for every key: two initialisations of `network`, and `n` examples of each kind of data."""
    own, other, others = keys_of(key)
    data = draw_data(others, n_pixels, n_class, n)
    return Problem(network.init(own), network.init(other), trait_on(network, data, n_class), data.inputs)


class ConvNet(nnx.Module):
    """A convolution over a square image and an affine head."""

    def __init__(self, side: int, n_logits: int, *, rngs: nnx.Rngs):
        self.side = side
        self.convolution = nnx.Conv(1, 4, (3, 3), strides=2, rngs=rngs)
        self.head = nnx.Linear(4 * (-(-side // 2)) ** 2, n_logits, rngs=rngs)

    def __call__(self, x: Float[Array, " pixels"]) -> Float[Array, " logits"]:
        """Logits of one example."""
        features = nnx.relu(self.convolution(x.reshape(1, self.side, self.side, 1)))
        return self.head(features.reshape(-1))


class Transformer(nnx.Module):
    """One pre-norm transformer block over the rows of a square image, averaged, and an affine head."""

    def __init__(self, side: int, n_logits: int, *, rngs: nnx.Rngs):
        self.side, width = side, 8
        self.embedding = nnx.Linear(side, width, rngs=rngs)
        self.place = nnx.Param(jax.random.normal(rngs.params(), (side, width)))
        self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(2)])
        self.attention = nnx.MultiHeadAttention(2, width, decode=False, rngs=rngs)
        self.up, self.down = nnx.Linear(width, 2 * width, rngs=rngs), nnx.Linear(2 * width, width, rngs=rngs)
        self.head = nnx.Linear(width, n_logits, rngs=rngs)

    def __call__(self, x: Float[Array, " pixels"]) -> Float[Array, " logits"]:
        """Logits of one example."""
        tokens = self.embedding(x.reshape(self.side, self.side)) + self.place[...]
        tokens = tokens + self.attention(self.norms[0](tokens))
        tokens = tokens + self.down(nnx.gelu(self.up(self.norms[1](tokens))))
        return self.head(tokens.mean(axis=0))


def as_network(build: Callable[[nnx.Rngs], nnx.Module]) -> Network:
    """Any flax module, which maps one example to its logits, as a pair of pure functions."""
    structure, _, *rest = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(params=0))), nnx.Param, ...)

    def init(key: Key[Array, ""]) -> Params:
        # flax draws float32 unless told otherwise, layer by layer.
        dtype = jnp.result_type(float)
        return jax.tree.map(lambda leaf: leaf.astype(dtype), nnx.state(build(nnx.Rngs(params=key)), nnx.Param))

    def apply(params: Params, x: Array) -> Array:
        return nnx.merge(structure, params, *rest)(x)

    return Network(init, apply)


def conv_net(side: int, n_logits: int) -> Network:
    """A small convolutional network on `side` x `side` pixels."""
    return as_network(lambda rngs: ConvNet(side, n_logits, rngs=rngs))


def transformer(side: int, n_logits: int) -> Network:
    """A small transformer on `side` x `side` pixels, a token a row."""
    return as_network(lambda rngs: Transformer(side, n_logits, rngs=rngs))
