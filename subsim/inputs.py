"""What a network sees: banks of images or noise, kept small in memory and scaled to real pixels batch by batch."""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Num, UInt8

InputName = Literal["uniform", "gaussian", "images"]


class Bank(NamedTuple):
    """n inputs, stored compactly: pixel = values * scale + shift.

    `values` has shape (n, pixels), 8-bit integers wherever the law allows it; `scale` and `shift` are scalars.
    """

    values: Num[Array, "n pixels"]
    scale: Any
    shift: Any


def columns(bank: Bank, index: Int[Array, " batch"]) -> Float[Array, "pixels batch"]:
    """The pixels of the inputs at `index`, shape (batch,), one input a column, as floats of the precision in force."""
    return pixels(bank, bank.values[index]).T


def pixels(bank: Bank, values: Num[Array, "*n pixels"]) -> Float[Array, "*n pixels"]:
    """Stored values of `bank` as pixels: floats of the precision in force, same shape."""
    dtype = jnp.result_type(float)
    return values.astype(dtype) * jnp.asarray(bank.scale, dtype) + jnp.asarray(bank.shift, dtype)


def image_bank(images: UInt8[Any, "n pixels"], brightest: int = 255) -> Bank:
    """Images of integer grey levels 0..`brightest`, scaled to [-1, 1]."""
    return Bank(jnp.asarray(images), 2 / brightest, -1.0)


def uniform_noise(key: Key[Array, ""], n: int, n_pixels: int) -> Bank:
    """Noise uniform on the 256 grey levels whose midpoints divide [-1, 1] evenly: mean 0, variance 1/3 to 2e-5.

    Four pixels come from each 32-bit draw and a pixel takes one byte: 47 MB for 60,000 images of 784 pixels.
    """
    words = jax.random.bits(key, (n, -(-n_pixels // 4)), jnp.uint32)
    levels = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(n, -1)[:, :n_pixels]
    return Bank(levels, 1 / 128, 1 / 256 - 1)


def gaussian_noise(key: Key[Array, ""], n: int, n_pixels: int) -> Bank:
    """Independent N(0, 1) pixels, four bytes each (188 MB for 60,000 images of 784 pixels)."""
    return Bank(jax.random.normal(key, (n, n_pixels), jnp.float32), 1.0, 0.0)


NOISE = {"uniform": uniform_noise, "gaussian": gaussian_noise}


def scaled(bank: Bank, factor: Any) -> Bank:
    """The same inputs with every pixel multiplied by `factor`, which may be traced."""
    return bank._replace(scale=bank.scale * factor, shift=bank.shift * factor)


def labelled_clusters(
    key: Key[Array, ""], n: int, n_pixels: int, n_class: int, structure: Any
) -> tuple[Float[Array, "n pixels"], Int[Array, " n"]]:
    """Gaussian inputs and their labels: sqrt(1 - s^2) noise + s centre[label], with s = `structure` in [0, 1].

    Noise and centres are N(0, 1) and the labels uniform, so that s changes no input's law: at 0 the labels are
    random, at 1 the input tells its label without doubt.
    """
    of_labels, of_centres, of_noise = jax.random.split(key, 3)
    labels = jax.random.randint(of_labels, (n,), 0, n_class)
    centres = jax.random.normal(of_centres, (n_class, n_pixels))
    noise = jax.random.normal(of_noise, (n, n_pixels))
    share = jnp.asarray(structure, noise.dtype)
    return jnp.sqrt(1 - share**2) * noise + share * centres[labels], labels
