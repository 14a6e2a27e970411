"""The paper's network: a multi-layer perceptron with a class head and an auxiliary head on the same features."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from subsim.networks.initial import INITIALISERS, InitScheme
from subsim.networks.network import Network, Params
from subsim.options import require_choice, require_range

Activation = Literal["relu", "tanh", "gelu", "linear"]
LAYER_GROUPS = ("hidden", "class_head", "aux_head")
_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu, "tanh": jnp.tanh, "gelu": jax.nn.gelu, "linear": lambda x: x,
}  # fmt: skip


@dataclass(frozen=True)
class MLPConfig:
    """The shape of the network and the distribution of its initial parameters."""

    widths: tuple[int, ...] = (256, 256)
    """Units in each hidden layer, one number a layer; none: a linear network."""
    n_aux: int = 3
    """Number of auxiliary logits, which no task loss uses."""
    init: InitScheme = "lecun"
    """lecun: weights N(0, 1/fan_in), biases 0 (the paper's). he: weights N(0, 2/fan_in), biases 0. \
torch: the default of PyTorch's nn.Linear, weights and biases uniform on +-1/sqrt(fan_in)."""

    activation: Activation = "relu"
    """Activation between the layers; linear: no activation, a deep linear network."""
    layer_norm: bool = False
    """Whether the units of each hidden layer are normalised before the activation, with a learned scale and shift."""

    def __post_init__(self) -> None:
        require_range(self, "n_aux", least=1, whole=True)
        if self.widths:
            require_range(self, "widths", least=1, whole=True)
        require_choice("init", self.init, INITIALISERS)
        require_choice("activation", self.activation, _ACTIVATIONS)


def product_of(precision: str | None) -> Callable[[Array, Array], Array]:
    """Return the matrix product w @ x in `precision`; w has shape (out, in), and x has shape (in,) or (in, n).

    bfloat16 rounds the operands of this product and of the products in its gradient; sums stay in float32. This
    function does the rounding, because XLA's CPU backend ignores the precision setting of a float32 product.
    """
    return _rounded_product if precision == "bfloat16" else jnp.matmul


def _bfloat16_product(a: Array, b: Array, sum_over: tuple[int, int]) -> Array:
    """Contract one axis of each operand after rounding both to bfloat16; sum in float32."""
    dimensions = ((sum_over[:1], sum_over[1:]), ((), ()))
    rounded = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
    return jax.lax.dot_general(*rounded, dimensions, preferred_element_type=jnp.float32)


@jax.custom_vjp
def _rounded_product(w: Array, x: Array) -> Array:
    return _bfloat16_product(w, x, (1, 0))


def _rounded_product_forward(w: Array, x: Array) -> tuple[Array, tuple[Array, Array]]:
    return _rounded_product(w, x), (w, x)


def _rounded_product_backward(operands: tuple[Array, Array], pull: Array) -> tuple[Array, Array]:
    w, x = operands
    columns = (pull[:, None], x[:, None]) if x.ndim == 1 else (pull, x)
    return _bfloat16_product(*columns, (1, 1)), _bfloat16_product(w, pull, (0, 0))


_rounded_product.defvjp(_rounded_product_forward, _rounded_product_backward)


class Layer(nnx.Module):
    """An affine map, `weight` of shape (fan_out, fan_in) and `bias` of shape (fan_out,).

    Examples are columns. The stacked weights of many networks then form one tall matrix, so that one matrix product
    gives the outputs of all networks on the same examples, and another their weight gradients, without moving memory.
    """

    def __init__(self, scheme: InitScheme, fan_in: int, fan_out: int, *, rngs: nnx.Rngs):
        initialise_weight, initialise_bias = INITIALISERS[scheme](fan_in)
        # float is float32, or float64 in 64-bit mode.
        dtype = jnp.result_type(float)
        self.weight = nnx.Param(initialise_weight(rngs.params(), (fan_in, fan_out), dtype).T)
        self.bias = nnx.Param(initialise_bias(rngs.params(), (fan_out,), dtype))


class Norm(nnx.Module):
    """Layer normalisation of columns, with `scale` and `shift` of shape (width,); they start at 1 and 0."""

    def __init__(self, width: int):
        dtype = jnp.result_type(float)
        self.scale, self.shift = nnx.Param(jnp.ones(width, dtype)), nnx.Param(jnp.zeros(width, dtype))

    def __call__(self, x: Float[Array, "width *n"]) -> Float[Array, "width *n"]:
        """Return `x` with mean 0 and variance 1 over its units, scaled and shifted."""
        x = x - jnp.mean(x, axis=0, keepdims=True)
        x = x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=0, keepdims=True) + 1e-6)
        scale, shift = self.scale[...], self.shift[...]
        return x * scale + shift if x.ndim == 1 else x * scale[:, None] + shift[:, None]


class MLP(nnx.Module):
    """784-256-256-(10+3) with ReLU in the paper (section 6.2): hidden layers, then the two heads side by side."""

    def __init__(
        self,
        config: MLPConfig,
        n_pixels: int,
        n_class: int,
        activation: Callable[[Array], Array],
        product: Callable[[Array, Array], Array],
        *,
        rngs: nnx.Rngs,
    ):
        sizes = (n_pixels, *config.widths)
        self.activation, self.product = activation, product
        self.hidden = nnx.List([Layer(config.init, a, b, rngs=rngs) for a, b in itertools.pairwise(sizes)])
        self.norms = nnx.List([Norm(width) for width in config.widths] if config.layer_norm else [])
        self.class_head = Layer(config.init, sizes[-1], n_class, rngs=rngs)
        self.aux_head = Layer(config.init, sizes[-1], config.n_aux, rngs=rngs)

    def _affine(self, layers: Sequence[Layer], x: Float[Array, "fan_in *n"]) -> Float[Array, "fan_out *n"]:
        """Return the stacked outputs of `layers` from one matrix product."""
        weight = jnp.concatenate([layer.weight[...] for layer in layers])
        bias = jnp.concatenate([layer.bias[...] for layer in layers])
        return self.product(weight, x) + (bias[:, None] if x.ndim == 2 else bias)

    def features(self, x: Float[Array, "pixels *n"]) -> Float[Array, "width *n"]:
        """Return the units of the last hidden layer, for one example or for examples in columns."""
        for number, layer in enumerate(self.hidden):
            x = self._affine([layer], x)
            x = self.activation(self.norms[number](x) if self.norms else x)
        return x

    def __call__(self, x: Float[Array, "pixels *n"]) -> Float[Array, "logits *n"]:
        """Return the logits of one example, or of examples in columns; class logits first."""
        return self._affine([self.class_head, self.aux_head], self.features(x))


def make_mlp(
    config: MLPConfig, n_pixels: int, n_class: int, activation: Callable[[Array], Array] | None = None
) -> Network:
    """Make the MLP of `config` on `n_pixels` inputs with `n_class` class logits, as pure functions.

    `activation`, any elementwise function, replaces the activation of the config. Parameters are float32, or float64
    in 64-bit mode. Their keys are `hidden` (then the layer's number), `class_head` and `aux_head`; each layer has
    `weight` (fan_out, fan_in) and `bias` (fan_out,). Matrix products use jax's precision setting at the time of this
    call.
    """
    settings: Any = jax.config  # some versions of jax do not declare its settings
    product = product_of(settings.jax_default_matmul_precision)

    def build(key: Array) -> MLP:
        rngs = nnx.Rngs(params=key)
        return MLP(config, n_pixels, n_class, activation or _ACTIVATIONS[config.activation], product, rngs=rngs)

    structure = nnx.graphdef(nnx.eval_shape(lambda: build(jax.random.key(0))))

    def init(key: Key[Array, ""]) -> Params:
        return nnx.state(build(key), nnx.Param)

    def apply(params: Params, x: Float[Array, " pixels"]) -> Float[Array, " logits"]:
        return nnx.merge(structure, params)(x)

    def batched(params: Params, x: Float[Array, "n pixels"]) -> Float[Array, "n logits"]:
        # The barrier materialises the gradient of the logits as columns. Without it XLA's CPU backend multiplies by
        # a transposed view with rows of a dozen numbers, ten times more slowly.
        return jax.lax.optimization_barrier(nnx.merge(structure, params)(x.T)).T

    def features(params: Params, x: Float[Array, " pixels"]) -> Float[Array, " width"]:
        return nnx.merge(structure, params).features(x)

    def group(path: str) -> str:
        return path.partition(".")[0].replace("norms", "hidden")

    return Network(init, apply, features, group, batched, lambda params: nnx.merge(structure, params))
