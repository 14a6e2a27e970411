"""Input distributions: banks of images or noise, stored compactly and scaled to pixels batch by batch."""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Num, UInt8

from subsim.data.factorisations import eigh, qr
from subsim.options import require

InputName = Literal[
    "uniform", "gaussian", "bernoulli", "blurred", "subspace", "spectrum", "covariance", "mixture", "images"
]
# Inputs in one block of a sum of moments: enough for an efficient product, few enough to fit in memory.
BLOCK = 4096


class Bank(NamedTuple):
    """n inputs, stored compactly: pixels = values * scale + shift.

    After this, `colour` colours the noise, `real` replaces some inputs by real images, and `order`, a permutation,
    reorders the pixels; each may be None. `values` has shape (n, pixels), in 8-bit integers where the distribution
    allows it; `scale` and `shift` are scalars.
    """

    values: Num[Array, "n pixels"]
    scale: Any
    shift: Any
    colour: "Colour | None" = None
    real: "Real | None" = None
    order: Any = None


class Colour(NamedTuple):
    """The affine map from white noise z to coloured noise, centre + mix z, with `mix` symmetric.

    It is applied batch by batch, so that coloured noise needs no more memory than white noise and is not rounded.
    """

    mix: Float[Array, "pixels pixels"]
    centre: Float[Array, " pixels"]


class Real(NamedTuple):
    """The real images among the inputs: `which`, shape (n,), is an index into `images`, or -1 for noise."""

    images: Bank
    which: Int[Array, " n"]


class Moments(NamedTuple):
    """The mean and the covariance of the pixels of some inputs."""

    mean: Float[Array, " pixels"]
    covariance: Float[Array, "pixels pixels"]


def columns(bank: Bank, index: Int[Array, " batch"]) -> Float[Array, "pixels batch"]:
    """Return the pixels of the inputs at `index`, shape (batch,), one input a column, in the current float dtype."""
    x = pixels(bank, bank.values[index]).T
    if bank.colour is not None:
        x = _exact_product(bank.colour.mix, x) + bank.colour.centre[:, None]
    if bank.real is not None:
        which = bank.real.which[index]
        x = jnp.where((which >= 0)[None], columns(bank.real.images, which), x)
    return x if bank.order is None else x[bank.order]


def examples(bank: Bank, index: Int[Array, " batch"]) -> Float[Array, "batch pixels"]:
    """Return the pixels of the inputs at `index`, shape (batch,), one input a row, in the current float dtype."""
    return columns(bank, index).T


def _exact_product(a: Array, b: Array) -> Array:
    # The noise has the same distribution on every device, whatever the precision of the network's products.
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def pixels(bank: Bank, values: Num[Array, "*n pixels"]) -> Float[Array, "*n pixels"]:
    """Return stored values of `bank` as pixels before colouring: the same shape, in the current float dtype."""
    dtype = jnp.result_type(float)
    return values.astype(dtype) * jnp.asarray(bank.scale, dtype) + jnp.asarray(bank.shift, dtype)


def image_bank(images: UInt8[Any, "n pixels"], brightest: int = 255) -> Bank:
    """Return a bank of images with integer grey levels 0..`brightest`, scaled to [-1, 1]."""
    return Bank(jnp.asarray(images), 2 / brightest, -1.0)


def uniform_noise(key: Key[Array, ""], n: int, n_pixels: int) -> Bank:
    """Draw noise uniform on 256 grey levels, the midpoints of 256 equal parts of [-1, 1]: mean 0, variance 1/3 to 2e-5.

    Each 32-bit draw gives four pixels, and a pixel takes one byte: 47 MB for 60,000 images of 784 pixels.
    """
    words = jax.random.bits(key, (n, -(-n_pixels // 4)), jnp.uint32)
    levels = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(n, -1)[:, :n_pixels]
    return Bank(levels, 1 / 128, 1 / 256 - 1)


def gaussian_noise(key: Key[Array, ""], n: int, n_pixels: int) -> Bank:
    """Draw independent N(0, 1) pixels, four bytes each (188 MB for 60,000 images of 784 pixels)."""
    return Bank(jax.random.normal(key, (n, n_pixels), jnp.float32), 1.0, 0.0)


def bernoulli_noise(key: Key[Array, ""], n: int, n_pixels: int) -> Bank:
    """Draw pixels -1 or +1 with probability 1/2 each (variance 1); each 32-bit draw gives 32 pixels."""
    words = jax.random.bits(key, (n, -(-n_pixels // 32)), jnp.uint32)
    bits = words[:, :, None] >> jnp.arange(32, dtype=jnp.uint32)[None, None] & jnp.uint32(1)
    return Bank(bits.astype(jnp.uint8).reshape(n, -1)[:, :n_pixels], 2.0, -1.0)


# White noise: pixels independent and identically distributed, mean 0.
NOISE = {"uniform": uniform_noise, "gaussian": gaussian_noise, "bernoulli": bernoulli_noise}
UNIFORM_VARIANCE = (256**2 - 1) / 12 / 128**2


def scaled(bank: Bank, factor: Any) -> Bank:
    """Return the same inputs with every pixel multiplied by `factor`, which may be traced."""
    factor = jnp.asarray(factor, jnp.result_type(float))
    colour, real = bank.colour, bank.real
    return bank._replace(
        scale=bank.scale * factor,
        shift=bank.shift * factor,
        colour=None if colour is None else colour._replace(centre=colour.centre * factor),
        real=None if real is None else real._replace(images=scaled(real.images, factor)),
    )


def shifted(bank: Bank, amount: Any) -> Bank:
    """Return the same inputs with `amount`, which may be traced, added to every pixel."""
    amount = jnp.asarray(amount, jnp.result_type(float))
    real = None if bank.real is None else bank.real._replace(images=shifted(bank.real.images, amount))
    if bank.colour is None:
        return bank._replace(shift=bank.shift + amount, real=real)
    return bank._replace(colour=bank.colour._replace(centre=bank.colour.centre + amount), real=real)


def permuted(key: Key[Array, ""], bank: Bank) -> Bank:
    """Return the same inputs with the pixels of all of them in one random order, drawn from `key`."""
    return bank._replace(order=jax.random.permutation(key, bank.values.shape[1]))


def mixture(key: Key[Array, ""], noise: Bank, images: Bank, share: Any) -> Bank:
    """Replace each input of `noise`, with probability `share`, by a uniformly drawn one of `images`.

    `share` may be traced. With the same key, an input that is real at a small share is real at every larger share.
    """
    n, n_images = noise.values.shape[0], images.values.shape[0]
    of_share, of_choice = jax.random.split(key)
    is_real = jax.random.uniform(of_share, (n,)) < share
    return noise._replace(real=Real(images, jnp.where(is_real, jax.random.randint(of_choice, (n,), 0, n_images), -1)))


def side_of(n_pixels: int, kind: str) -> int:
    """Return the side of a square image of `n_pixels`; raise `UserError`, which names `kind`, if there is none."""
    side = math.isqrt(n_pixels)
    require(
        side**2 == n_pixels,
        f"inputs is {kind}, which needs square images; the images of the data have {n_pixels} pixels.",
    )
    return side


def blur(sigma: Any, n_pixels: int) -> Colour:
    """Return a Gaussian blur of `sigma` pixels (may be traced) that preserves the pixel variance of white noise.

    The transfer function is exp(-2 pi^2 sigma^2 |f|^2) at f cycles a pixel. The image is a torus (opposite edges meet),
    so that all pixels have the same distribution. At sigma = 0 nothing changes.
    """
    side = side_of(n_pixels, "blurred")
    frequency = jnp.fft.fftfreq(side).astype(jnp.result_type(float))
    row = jnp.fft.ifft(jnp.exp(-2 * jnp.pi**2 * sigma**2 * frequency**2)).real
    row = row / jnp.linalg.norm(row)
    position = jnp.arange(side)
    line = row[(position[:, None] - position[None]) % side]
    return Colour(jnp.kron(line, line), jnp.zeros(n_pixels, row.dtype))


def random_subspace(key: Key[Array, ""], rank: Any, n_pixels: int) -> Colour:
    """Return sqrt(n_pixels / rank) times the projection on a random subspace of `rank` dimensions.

    `rank` may be traced and is at most n_pixels. The factor keeps the mean pixel variance of white noise the same at
    every rank. With the same key, each subspace contains the subspaces of lower rank; at rank n_pixels nothing changes.
    """
    basis, _ = qr(jax.random.normal(key, (n_pixels, n_pixels)))
    rank = jnp.minimum(rank, n_pixels)
    first = jnp.where((jnp.arange(n_pixels) < rank)[None], basis, 0.0)
    gain = jnp.sqrt(n_pixels / rank.astype(basis.dtype))
    return Colour(gain * _exact_product(first, first.T), jnp.zeros(n_pixels, basis.dtype))


def moments(bank: Bank) -> Moments:
    """Return the mean and the covariance (divided by n, not n - 1) of all inputs in `bank`."""
    return moments_of(lambda index: columns(bank, index), bank.values.shape[0])


def moments_of(columns_at: Callable[[Int[Array, " batch"]], Float[Array, "pixels batch"]], n: int) -> Moments:
    """Return the mean and the covariance (divided by n, not n - 1) of `n` inputs, summed block by block.

    `columns_at(index)` returns the inputs at `index`, one a column.
    """
    centre = jnp.mean(columns_at(jnp.arange(min(n, BLOCK))), axis=1)
    blocks = -(-n // BLOCK)

    def add(sums: tuple[Array, Array], block: Array) -> tuple[tuple[Array, Array], None]:
        index = block * BLOCK + jnp.arange(BLOCK)
        # Moments about an approximate mean lose no digits by cancellation.
        x = jnp.where((index < n)[None], columns_at(jnp.minimum(index, n - 1)) - centre[:, None], 0.0)
        return (sums[0] + jnp.sum(x, axis=1), sums[1] + _exact_product(x, x.T)), None

    nothing = jnp.zeros_like(centre), jnp.zeros((centre.size, centre.size), centre.dtype)
    (first, second), _ = jax.lax.scan(add, nothing, jnp.arange(blocks))
    return Moments(centre + first / n, second / n - jnp.outer(first / n, first / n))


def matched_spectrum(of: Moments) -> Colour:
    """Return the colour that gives white noise of variance 1 the mean grey level and mean power spectrum of `of`.

    The power spectrum is the expectation of |2-D FFT|^2 at every frequency, zero included. Phases are independent and
    uniform, and all pixels have the same variance: the mean squared deviation of the inputs' pixels from the mean grey
    level.
    """
    n_pixels = of.mean.size
    side = side_of(n_pixels, "spectrum")
    grey = jnp.mean(of.mean)
    deviation = of.mean - grey
    about_grey = of.covariance + jnp.outer(deviation, deviation)
    # Power at f is the sum over pixels p, q of covariance[p, q] exp(-2 pi i f (p - q)): a 4-D transform's diagonal.
    row, column = jnp.divmod(jnp.arange(n_pixels), side)
    apart = ((row[:, None] - row[None]) % side) * side + (column[:, None] - column[None]) % side
    by_distance = jnp.zeros(n_pixels, grey.dtype).at[apart].add(about_grey)
    power = jnp.maximum(jnp.fft.fft2(by_distance.reshape(side, side)).real, 0.0)
    kernel = jnp.fft.ifft2(jnp.sqrt(power / n_pixels)).real.ravel()
    return Colour(kernel[apart], jnp.full_like(of.mean, grey))


def matched_covariance(of: Moments) -> Colour:
    """Return the colour that gives white noise of variance 1 the mean and the covariance of `of`.

    The coloured noise is close to Gaussian and shares nothing else with the inputs.
    """
    variances, axes = eigh(of.covariance)
    spread = jnp.sqrt(jnp.maximum(variances, 0.0))
    return Colour(_exact_product(axes * spread[None], axes.T), of.mean)


def coloured(white: Bank, variance: float, colour: Colour) -> Bank:
    """Return `white` noise, whose pixels have this `variance`, scaled to variance 1 and coloured."""
    return scaled(white, variance**-0.5)._replace(colour=colour)


def make_draw(
    key: Key[Array, ""], kind: InputName, images: Bank, *, blur_sigma: Any, rank: Any, real_share: Any
) -> Callable[[Key[Array, ""], int], Bank]:
    """Return `draw(key, n)`, which draws n inputs of this kind; `key` draws what they share, such as a subspace.

    `blur_sigma`, `rank` and `real_share` may be traced, and each is used by one kind only. All coloured noise is made
    from uniform white noise. It has the same variance, 1/3, unless the kind sets another one.
    """
    n_pixels = images.values.shape[1]
    if kind in NOISE:
        return lambda key, n: NOISE[kind](key, n, n_pixels)
    if kind == "mixture":

        def draw_mixture(key: Key[Array, ""], n: int) -> Bank:
            of_noise, of_choice = jax.random.split(key)
            return mixture(of_choice, uniform_noise(of_noise, n, n_pixels), images, real_share)

        return draw_mixture
    if kind in ("blurred", "subspace"):
        colour = blur(blur_sigma, n_pixels) if kind == "blurred" else random_subspace(key, rank, n_pixels)
        return lambda key, n: uniform_noise(key, n, n_pixels)._replace(colour=colour)
    matched = {"spectrum": matched_spectrum, "covariance": matched_covariance}[kind](moments(images))
    return lambda key, n: coloured(uniform_noise(key, n, n_pixels), UNIFORM_VARIANCE, matched)


def labelled_clusters(
    key: Key[Array, ""], n: int, n_pixels: int, n_class: int, structure: Any
) -> tuple[Float[Array, "n pixels"], Int[Array, " n"]]:
    """Draw Gaussian inputs and their labels: sqrt(1 - s^2) noise + s centre[label], with s = `structure` in [0, 1].

    Noise and centres are N(0, 1), and labels are uniform, so that each input has the same distribution at every s. At
    s = 0 the labels are random; at s = 1 each input determines its label.
    """
    of_labels, of_centres, of_noise = jax.random.split(key, 3)
    labels = jax.random.randint(of_labels, (n,), 0, n_class)
    centres = jax.random.normal(of_centres, (n_class, n_pixels))
    noise = jax.random.normal(of_noise, (n, n_pixels))
    share = jnp.asarray(structure, noise.dtype)
    return jnp.sqrt(1 - share**2) * noise + share * centres[labels], labels
