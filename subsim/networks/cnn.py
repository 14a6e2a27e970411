"""The convolutional network: 3x3 convolutions with stride 2, and the two heads on the same features."""

import itertools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from subsim.networks.adapters import from_flax
from subsim.networks.initial import INITIALISERS, InitScheme
from subsim.networks.layers import affine, group_of, side_of
from subsim.networks.network import Network
from subsim.options import require_choice, require_range


def windows(x: Float[Array, "side side channels"]) -> Float[Array, "half half 9*channels"]:
    """Return the 3x3 neighbourhood of every second pixel; pixels outside the image are zero."""
    half = -(-x.shape[0] // 2)
    last = 2 * half - 1
    padded = jnp.pad(x, ((1, 1), (1, 1), (0, 0)))
    return jnp.concatenate([padded[i : i + last : 2, j : j + last : 2] for i in range(3) for j in range(3)], axis=-1)


class CNN(nnx.Module):
    """Convolutions that halve the image's side, then the two heads on all units of the last one.

    A convolution is a matrix product with windows. In a stack of networks each network has different kernels, and XLA
    runs such convolutions two to eight times more slowly on CPUs. The last units are flattened, not averaged over
    positions: digits differ in where their strokes are, and the receptive field of two layers is too small to tell.
    """

    def __init__(
        self, channels: tuple[int, ...], scheme: InitScheme, side: int, n_class: int, n_aux: int, *, rngs: nnx.Rngs
    ):
        sizes = (1, *channels)
        self.hidden = nnx.List([affine(scheme, 9 * a, b, rngs=rngs) for a, b in itertools.pairwise(sizes)])
        for _ in channels:
            side = -(-side // 2)
        self.class_head = affine(scheme, side**2 * channels[-1], n_class, rngs=rngs)
        self.aux_head = affine(scheme, side**2 * channels[-1], n_aux, rngs=rngs)

    def features(self, x: Float[Array, "side side 1"]) -> Float[Array, " width"]:
        """Return the units of the last convolution; the logits are affine in them."""
        for convolution in self.hidden:
            x = jax.nn.relu(convolution(windows(x)))
        return x.reshape(-1)

    def __call__(self, x: Float[Array, "side side 1"]) -> Float[Array, " logits"]:
        """Return the logits of one example, class logits first."""
        features = self.features(x)
        return jnp.concatenate([self.class_head(features), self.aux_head(features)])


def make_cnn(
    n_pixels: int, n_class: int, n_aux: int, *, channels: tuple[int, ...] = (16, 32), init: InitScheme = "lecun"
) -> Network:
    """Make a CNN for square grey images: one convolution with stride 2 for each number in `channels`, then ReLU.

    Its parameter groups are hidden, class_head and aux_head. Raises `UserError` if `n_pixels` is not a square.
    """
    require_range({"channels": tuple(channels)}, "channels", least=1, whole=True)
    require_choice("init", init, INITIALISERS)
    side = side_of("cnn", n_pixels)

    def build(_: int, *, rngs: nnx.Rngs) -> CNN:
        return CNN(tuple(channels), init, side, n_class, n_aux, rngs=rngs)

    network = from_flax(build, image=(side, side, 1), features=CNN.features)(n_pixels, n_class, n_aux)
    return network._replace(groups=group_of)
