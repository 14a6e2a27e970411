"""Turn a user's flax.nnx or equinox modules, or a pair of functions, into networks."""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Key

from subsim.networks.network import Factory, Network, Params
from subsim.options import UserError, require

Features = Callable[[Any, Array], Array]


def from_flax(
    factory: Callable[..., Any], image: tuple[int, ...] | None = None, features: Features | None = None
) -> Factory:
    """Make networks from the flax.nnx modules that `factory(n_out, rngs=rngs)` returns.

    The module maps one example to `n_out` logits, class logits first. The example has the shape `image`, or is flat if
    `image` is None. `features(module, x)` returns the units of the last hidden layer. Every `nnx.Param` is a parameter:
    float32, or float64 in 64-bit mode. Other state raises `UserError`, except a random generator that no call uses.
    """
    _require_factory("from_flax", factory, "rngs")

    def make(n_pixels: int, n_class: int, n_aux: int) -> Network:
        def build(key: Array) -> Any:
            module = factory(n_class + n_aux, rngs=nnx.Rngs(key))
            _require_module("from_flax", "flax.nnx", module, isinstance(module, nnx.Module))
            return module

        def init(key: Array) -> Params:
            return nnx.state(build(key), _is_param)

        def rebuild(params: Params) -> Any:
            module = build(jax.random.key(0))
            nnx.update(module, params)
            return module

        module = nnx.eval_shape(lambda: build(jax.random.key(0)))
        name = type(module).__name__
        # The state holds shapes only: a module that draws no random number never reads its values.
        parts: Any = nnx.split(module, _is_param, ...)
        structure, params, state = parts
        others = [path for path, leaf in nnx.to_flat_state(state) if not isinstance(leaf, nnx.RngState)]
        # flax does not count an array drawn during tracing as state; the array would be a leaked tracer.
        for path, part in nnx.iter_modules(module):
            others += [(*path, name) for name, value in vars(part).items() if isinstance(value, jax.Array)]
        _require_no_state(name, [".".join(map(str, path)) for path in others], "an nnx.Param of floats")
        network = _network(init, params, lambda params: nnx.merge(structure, params, state), image, features)

        def draw_nothing(params: Params, x: Array) -> Array:
            module = rebuild(params)
            before = jax.tree.leaves(nnx.state(module, nnx.RngState))
            logits = module(_shaped(x, image))
            after = nnx.state(module, nnx.RngState)
            for (path, _), old, new in zip(nnx.to_flat_state(after), before, jax.tree.leaves(after), strict=True):
                require(
                    new is old,
                    f"{name} draws random numbers ({'.'.join(map(str, path))}), but a network must be deterministic; "
                    "build that layer with deterministic=True, or leave it out.",
                )
            return logits

        require_logits(network._replace(apply=draw_nothing), n_pixels, n_class, n_aux, name, image)
        return network._replace(rebuild=rebuild)

    return make


def from_equinox(
    factory: Callable[..., Any], image: tuple[int, ...] | None = None, features: Features | None = None
) -> Factory:
    """Make networks from the equinox modules that `factory(n_out, key=key)` returns.

    The module maps one example to `n_out` logits, class logits first. The example has the shape `image`, or is flat if
    `image` is None; equinox's convolutions need (channels, height, width). `features(module, x)` returns the units of
    the last hidden layer. Every array of floats is a parameter: float32, or float64 in 64-bit mode. Other arrays,
    equinox's `State` and an active `Dropout` raise `UserError`.
    """
    try:
        import equinox as eqx
    except ImportError:
        raise UserError("from_equinox needs equinox, which is not installed: pip install equinox.") from None
    _require_factory("from_equinox", factory, "key")

    def make(n_pixels: int, n_class: int, n_aux: int) -> Network:
        def build(key: Array) -> Any:
            module = factory(n_class + n_aux, key=key)
            _require_module("from_equinox", "equinox", module, isinstance(module, eqx.Module) and callable(module))
            return module

        def stateful(node: Any) -> bool:
            return isinstance(node, eqx.nn.StateIndex | eqx.nn.Dropout)

        module = eqx.filter_eval_shape(lambda: build(jax.random.key(0)))
        name = type(module).__name__
        params, rest = eqx.partition(module, _is_float)
        for path, node in jax.tree_util.tree_leaves_with_path(rest, is_leaf=stateful):
            where = jax.tree_util.keystr(path, simple=True, separator=".")
            if isinstance(node, eqx.nn.Dropout):
                require(
                    node.inference or node.p == 0,
                    f"{name} draws random numbers ({where}), but a network must be deterministic; "
                    "build that layer with inference=True, or leave it out.",
                )
            elif isinstance(node, eqx.nn.StateIndex) or hasattr(node, "dtype"):
                _require_no_state(name, [where], "an array of floats")
        network = _network(
            lambda key: eqx.filter(build(key), _is_float),
            params,
            lambda params: eqx.combine(params, rest),
            image,
            features,
        )
        require_logits(network, n_pixels, n_class, n_aux, name, image)
        return network

    return make


def from_functions(functions: Sequence[Callable[..., Any]]) -> Network:
    """Make a network from a pair: `init(key)` returns a pytree of arrays, and `apply(params, x)` returns the logits."""
    require(
        isinstance(functions, tuple | list) and len(functions) == 2 and all(map(callable, functions)),
        f"network is {functions!r}; give a pair of functions, init(key) and apply(params, x).",
    )
    init, apply = functions
    return Network(init, apply)


def require_logits(
    network: Network, n_pixels: int, n_class: int, n_aux: int, name: str, image: tuple[int, ...] | None = None
) -> None:
    """Raise `UserError` unless `network` maps `n_pixels` floats to `n_class + n_aux` logits, by its shapes alone.

    The message calls the network `name`. `image` is the shape of an example as the network takes it.
    """
    shape, n_out = image or (n_pixels,), n_class + n_aux
    require(
        all(isinstance(size, int) and size > 0 for size in shape) and math.prod(shape) == n_pixels,
        f"{name} takes an example in the shape image={shape}, but an example of the data has {n_pixels} numbers; "
        "give a shape of that size.",
    )
    params = jax.eval_shape(lambda: network.init(jax.random.key(0)))
    x = jax.ShapeDtypeStruct((n_pixels,), jnp.result_type(float))
    try:
        logits = jax.eval_shape(network.apply, params, x)
    except UserError:
        raise
    except Exception as error:  # a user's code may raise any exception
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        hint = "" if image else "; image=(height, width, channels) would reshape it first"
        raise UserError(f"{name} does not take one example of shape {shape} ({reason}){hint}.") from error
    require(
        getattr(logits, "shape", None) == (n_out,),
        f"{name} must map one example to {n_out} logits, {n_class} of classes and {n_aux} auxiliary ones, "
        f"but it returns {getattr(logits, 'shape', type(logits).__name__)}.",
    )


def _network(
    init: Callable[[Array], Params],
    like: Params,
    module_of: Callable[[Params], Any],
    image: tuple[int, ...] | None,
    features: Features | None,
) -> Network:
    """Return the network of modules whose parameters have the structure of `like`."""
    structure = jax.tree.structure(like)

    def initial(key: Key[Array, ""]) -> Params:
        # Modules draw float32 by default. All share one structure: the structure of each module may hold new functions.
        leaves = [leaf.astype(jnp.result_type(float)) for leaf in jax.tree.leaves(init(key))]
        return jax.tree.unflatten(structure, leaves)

    def apply(params: Params, x: Array) -> Array:
        return module_of(params)(_shaped(x, image))

    def last_hidden(params: Params, x: Array) -> Array:
        assert features is not None
        return features(module_of(params), _shaped(x, image))

    return Network(initial, apply, features and last_hidden, rebuild=module_of)


def _shaped(x: Array, image: tuple[int, ...] | None) -> Array:
    return x if image is None else x.reshape(image)


def _is_float(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)


def _is_param(_path: Any, leaf: Any) -> bool:
    return isinstance(leaf, nnx.Param) and _is_float(leaf)


def _require_factory(adapter: str, factory: Any, random: str) -> None:
    call = f"factory(n_out, {random}={random})"
    try:
        inspect.signature(factory).bind(0, **{random: None})
    except (TypeError, ValueError) as error:
        name = getattr(factory, "__name__", type(factory).__name__)
        raise UserError(
            f"{adapter} calls {call}, but {name} does not take these arguments ({error}); "
            "wrap it in a function that does."
        ) from None


def _require_module(adapter: str, library: str, module: Any, holds: bool) -> None:
    kind = f"{type(module).__module__}.{type(module).__qualname__}"
    require(holds, f"{adapter} needs a factory that returns a callable {library} module; this one returns a {kind}.")


def _require_no_state(name: str, paths: Sequence[str], parameter: str) -> None:
    require(
        not paths,
        f"{name} keeps state that is no parameter ({', '.join(paths)}), but a network has parameters only; "
        f"use LayerNorm in place of BatchNorm, compute constants in the call, or make it {parameter}.",
    )
