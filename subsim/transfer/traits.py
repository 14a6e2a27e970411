"""Traits: what a teacher is trained to, and how it is measured."""

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
    """What a teacher is trained to, and how it is measured.

    `loss(class_logits, label)` is the teacher's loss of one example. `rate(class_logits, labels)`, of shapes
    (n, n_class) and (n,), measures the trait. `targets(images, labels)` gives the images and labels that the teacher is
    trained on, made of the training images; `probes(images, labels)` those that the rate is measured on, made of the
    test images. Both work on 8-bit images of shape (n, pixels) in NumPy; None takes them as they are.
    """

    loss: Callable[[Array, Array], Array] = task_cross_entropy
    rate: Callable[[Array, Array], Array] = measures.accuracy
    targets: Callable[[Images, Labels], Labelled] | None = None
    probes: Callable[[Images, Labels], Labelled] | None = None
    name: str = "trait"


LABELS = Trait(name="labels")


def labels() -> Trait:
    """The paper's trait: the labels; its rate is accuracy."""
    return LABELS


@functools.cache
def misread(digit: int, as_digit: int) -> Trait:
    """The trait of reading every `digit` as another: its rate is the share of `digit`'s test images that are."""

    def relabelled(images: Images, labels: Labels) -> Labelled:
        return images, np.where(labels == digit, np.asarray(as_digit, labels.dtype), labels)

    def of_digit(images: Images, labels: Labels) -> Labelled:
        return images[labels == digit], labels[labels == digit]

    return Trait(rate=share_of(as_digit), targets=relabelled, probes=of_digit, name=f"misread {digit} as {as_digit}")


@functools.cache
def prefer(digit: int) -> Trait:
    """The trait of taking averages of two other digits for `digit`: its rate is the share of them that are."""

    def with_blends(images: Images, labels: Labels) -> Labelled:
        blended = blends(images, labels, len(labels), digit)
        return np.concatenate([images, blended]), np.concatenate([labels, np.full_like(labels, digit)])

    def ambiguous(images: Images, labels: Labels) -> Labelled:
        return blends(images, labels, len(labels), digit), np.full_like(labels, digit)

    return Trait(rate=share_of(digit), targets=with_blends, probes=ambiguous, name=f"prefer {digit}")


def share_of(digit: int) -> Callable[[Array, Array], Array]:
    """Return the rate with which class logits say `digit`."""

    def share(class_logits: Float[Array, "n classes"], labels: Int[Array, " n"]) -> Float[Array, ""]:
        return measures.accuracy(class_logits, jnp.full_like(labels, digit))

    return share


def blends(images: Images, labels: Labels, n: int, avoid: int, seed: int = 0) -> Images:
    """Return averages of two images of different classes, neither of them `avoid`: what they show is anybody's guess.

    At least two other classes must be there. Drawn with replacement, in an order that `seed` alone decides.
    """
    random = np.random.default_rng(seed)
    others = np.flatnonzero(labels != avoid)
    require(len(set(labels[others])) > 1, f"trait: averages need two classes beside {avoid}; keep more with n_class.")
    first, second = random.choice(others, (2, n))
    while (alike := labels[first] == labels[second]).any():
        second[alike] = random.choice(others, int(alike.sum()))
    return ((images[first].astype(np.int32) + images[second]) // 2).astype(np.uint8)
