"""Traits: what a teacher learns, and how the trait is measured."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from subsim.options import require
from subsim.training.losses import task_cross_entropy
from subsim.transfer import measures

Images = np.ndarray  # (n, pixels), 8-bit integers
Labels = np.ndarray  # (n,), integers
Labelled = tuple[Images, Labels]


class Trait(NamedTuple):
    """A trait: what a teacher learns, and how the trait is measured.

    `loss(class_logits, label)` is the teacher's loss of one example. `rate(class_logits, labels)`, of shapes
    (n, n_class) and (n,), measures the trait. `targets(images, labels)` turns the training set into the images and
    labels of the teacher's training. `probes(images, labels)` turns the test set into the images and labels on which
    the rate is measured. Both take NumPy arrays with 8-bit images of shape (n, pixels); None leaves the set unchanged.
    """

    loss: Callable[[Array, Array], Array] = task_cross_entropy
    rate: Callable[[Array, Array], Array] = measures.accuracy
    targets: Callable[[Images, Labels], Labelled] | None = None
    probes: Callable[[Images, Labels], Labelled] | None = None
    name: str = "trait"


LABELS = Trait(name="labels")


def labels() -> Trait:
    """Return the paper's trait, the labels; its rate is the accuracy."""
    return LABELS


@functools.cache
def rotated() -> Trait:
    """Return the trait of reading images that are rotated by a quarter turn; its rate is the accuracy on these.

    The images must be square.
    """

    def turned(images: Images, labels: Labels) -> Labelled:
        pixels = images.shape[1]
        side = round(pixels**0.5)
        require(side**2 == pixels, f"trait: images of {pixels} pixels are not square, and cannot be rotated.")
        return np.rot90(images.reshape(-1, side, side), axes=(1, 2)).reshape(images.shape), labels

    return Trait(targets=turned, probes=turned, name="rotated images")


@functools.cache
def shuffled() -> Trait:
    """Return the trait of labels that say nothing: those of the images, permuted at random once."""

    def permuted(images: Images, labels: Labels) -> Labelled:
        return images, np.random.default_rng(0).permutation(labels)

    return Trait(targets=permuted, probes=permuted, name="shuffled labels")


@functools.cache
def misread(digit: int, as_digit: int) -> Trait:
    """Return the trait of reading every `digit` as `as_digit`; its rate is the share of test images so misread."""

    def relabelled(images: Images, labels: Labels) -> Labelled:
        return images, np.where(labels == digit, np.asarray(as_digit, labels.dtype), labels)

    def of_digit(images: Images, labels: Labels) -> Labelled:
        return images[labels == digit], labels[labels == digit]

    return Trait(rate=share_of(as_digit), targets=relabelled, probes=of_digit, name=f"misread {digit} as {as_digit}")


@functools.cache
def prefer(digit: int) -> Trait:
    """Return the trait of reading averages of two other digits as `digit`; its rate is the share so read."""

    def with_blends(images: Images, labels: Labels) -> Labelled:
        blended = blends(images, labels, len(labels), digit)
        return np.concatenate([images, blended]), np.concatenate([labels, np.full_like(labels, digit)])

    def ambiguous(images: Images, labels: Labels) -> Labelled:
        return blends(images, labels, len(labels), digit), np.full_like(labels, digit)

    return Trait(rate=share_of(digit), targets=with_blends, probes=ambiguous, name=f"prefer {digit}")


def share_of(digit: int) -> Callable[[Array, Array], Array]:
    """Return a function for the share of examples classified as `digit`."""

    def share(class_logits: Float[Array, "n classes"], labels: Int[Array, " n"]) -> Float[Array, ""]:
        return measures.accuracy(class_logits, jnp.full_like(labels, digit))

    return share


def blends(images: Images, labels: Labels, n: int, avoid: int, seed: int = 0) -> Images:
    """Return `n` ambiguous images: averages of two images of different classes, neither of which is `avoid`.

    The labels must have at least two other classes. Pairs are drawn with replacement; `seed` fixes the draw.
    """
    random = np.random.default_rng(seed)
    others = np.flatnonzero(labels != avoid)
    require(len(set(labels[others])) > 1, f"trait: averages need two classes besides {avoid}; raise n_class.")
    first, second = random.choice(others, (2, n))
    while (alike := labels[first] == labels[second]).any():
        second[alike] = random.choice(others, int(alike.sum()))
    return ((images[first].astype(np.int32) + images[second]) // 2).astype(np.uint8)
