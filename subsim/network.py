"""The network: a ReLU multi-layer perceptron with a class head and an auxiliary head on the same features."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Key

from subsim.options import require, require_choice

Params = Any  # a pytree of arrays; theory and training never look inside
InitScheme = Literal["lecun", "he", "torch"]


@dataclass(frozen=True)
class NetworkConfig:
    """The shape of the network and the law of its initial parameters."""

    widths: tuple[int, ...] = (256, 256)
    """Units in each hidden layer, one number a layer."""
    n_aux: int = 3
    """Number of auxiliary logits, which no task loss ever sees."""
    init: InitScheme = "lecun"
    """lecun: weights N(0, 1/fan_in), biases 0 (the paper's). he: weights N(0, 2/fan_in), biases 0. \
torch: the default of PyTorch's nn.Linear, weights and biases uniform on +-1/sqrt(fan_in)."""

    def __post_init__(self) -> None:
        require(
            len(self.widths) > 0 and all(width > 0 for width in self.widths),
            f"widths is {self.widths}; give one or more positive numbers, such as --widths 256 256.",
        )
        require(self.n_aux > 0, f"n_aux is {self.n_aux}; the student needs at least one auxiliary logit to imitate.")
        require_choice("init", self.init, _INITIALISERS)


class Network(NamedTuple):
    """A network as two pure functions; neither knows of batches, seeds or students.

    `init(key)` gives the initial parameters of one network. `apply(params, x)` maps one example, `x` of shape
    (pixels,), to its logits of shape (n_class + n_aux,): the class logits first.
    """

    init: Callable[[Key[Array, ""]], Params]
    apply: Callable[[Params, Float[Array, " pixels"]], Float[Array, " logits"]]


def _normal(variance: float) -> Callable[..., Array]:
    return jax.nn.initializers.normal(stddev=variance**0.5)


def _uniform(bound: float) -> Callable[..., Array]:
    def draw(key: Array, shape: tuple[int, ...], dtype: Any, _sharding: Any = None) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return draw


# scheme -> fan_in -> (initialiser of the weights, of the biases)
_INITIALISERS: dict[str, Callable[[int], tuple[Callable[..., Array], Callable[..., Array]]]] = {
    "lecun": lambda fan_in: (_normal(1 / fan_in), jax.nn.initializers.zeros),
    "he": lambda fan_in: (_normal(2 / fan_in), jax.nn.initializers.zeros),
    "torch": lambda fan_in: (_uniform(fan_in**-0.5), _uniform(fan_in**-0.5)),
}


def _dot_general(x: Array, w: Array, dimensions: Any, precision: Any = None, **options: Any) -> Array:
    """A layer's matrix product in the precision in force; bfloat16 rounds its operands and keeps float32 sums.

    Rounded here, because XLA's CPU backend passes over the precision that is asked of a float32 product.
    """
    if jax.config.jax_default_matmul_precision == "bfloat16":  # type: ignore[attr-defined]
        x, w = x.astype(jnp.bfloat16), w.astype(jnp.bfloat16)
        options["preferred_element_type"] = jnp.float32
    return jax.lax.dot_general(x, w, dimensions, precision, **options)


class MLP(nnx.Module):
    """784-256-256-(10+3) in the paper (section 6.2): ReLU hidden layers, then the two heads side by side."""

    def __init__(self, config: NetworkConfig, n_pixels: int, n_class: int, *, rngs: nnx.Rngs):
        def layer(fan_in: int, fan_out: int) -> nnx.Linear:
            kernel_init, bias_init = _INITIALISERS[config.init](fan_in)
            # float follows the precision in force: float32, or float64 where that is enabled.
            dtype = jnp.result_type(float)
            return nnx.Linear(
                fan_in,
                fan_out,
                kernel_init=kernel_init,
                bias_init=bias_init,
                param_dtype=dtype,
                dot_general=_dot_general,
                rngs=rngs,
            )

        sizes = (n_pixels, *config.widths)
        self.hidden = nnx.List([layer(a, b) for a, b in itertools.pairwise(sizes)])
        self.class_head = layer(sizes[-1], n_class)
        self.aux_head = layer(sizes[-1], config.n_aux)

    def __call__(self, x: Float[Array, " pixels"]) -> Float[Array, " logits"]:
        """Logits of one example, class logits first."""
        for layer in self.hidden:
            x = jax.nn.relu(layer(x))
        return jnp.concatenate([self.class_head(x), self.aux_head(x)])


def make_mlp(config: NetworkConfig, n_pixels: int, n_class: int) -> Network:
    """The MLP of `config` on `n_pixels` inputs with `n_class` class logits, as a pair of pure functions.

    Parameters are float32, or float64 where 64-bit mode is enabled; with the keys `hidden` (a layer by its number),
    `class_head` and `aux_head`, each holding `kernel` (fan_in, fan_out) and `bias` (fan_out,).
    """

    def build(key: Array) -> MLP:
        return MLP(config, n_pixels, n_class, rngs=nnx.Rngs(params=key))

    structure = nnx.graphdef(nnx.eval_shape(lambda: build(jax.random.key(0))))

    def init(key: Key[Array, ""]) -> Params:
        return nnx.state(build(key), nnx.Param)

    def apply(params: Params, x: Float[Array, " pixels"]) -> Float[Array, " logits"]:
        return nnx.merge(structure, params)(x)

    return Network(init, apply)


def imitated_logits(
    n_class: int, n_aux: int, n_imitated: Any = None
) -> tuple[Bool[Array, " logits"], Bool[Array, " logits"]]:
    """Masks of shape (n_class + n_aux,): the first `n_imitated` auxiliary logits only, and these with the class logits.

    `n_imitated` may be traced: with weights N(0, 1/fan_in) a network of which m auxiliary logits are imitated *is* the
    network with m of them, so that one compiled program serves every m. None means all.
    """
    position = jnp.arange(n_class + n_aux)
    last = n_class + (n_aux if n_imitated is None else n_imitated)
    with_classes = position < last
    return with_classes & (position >= n_class), with_classes
