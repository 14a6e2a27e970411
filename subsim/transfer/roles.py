"""Who is in the experiment: the teacher, its students, where they start, and what they imitate."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import optax
from jaxtyping import Array

from subsim.networks import parameters
from subsim.networks.network import Network, Params
from subsim.options import require
from subsim.transfer.filters import Filter
from subsim.transfer.traits import Trait

Start = str | Callable[[Params, Params], Params]
"""Initial parameters: "shared" or "independent", the name of a network whose trained parameters they are, or
f(reference, independent)."""
Loss = str | Callable[[Array, Array], Array]
"""A loss of one example, by its name or as loss(z, y) of the imitated logits: the student's z and its targets y."""
State = str | Callable[[Mapping[str, Any]], Any]
"""The name of the network whose last optimiser state a training goes on from, or f(states by network)."""


class Subset(NamedTuple):
    """A fresh random choice of `size` of the logits of `of`, for every batch."""

    size: int
    of: Literal["aux", "classes", "all"] = "aux"


Imitated = str | Subset | Sequence[Any] | Array | np.ndarray
"""The imitated logits: "aux", "classes" or "all", a mask of all logits, their numbers, or a fresh subset for every
batch."""


class Sharing(NamedTuple):
    """A start that is one network in these groups of parameters, and another network elsewhere, each by its name."""

    groups: tuple[str, ...]
    of: str = "shared"
    elsewhere: str = "independent"


def sharing(*groups: str, of: str = "shared", elsewhere: str = "independent") -> Sharing:
    """Start from the reference's parameters in `groups`, such as "hidden", and from independent ones elsewhere.

    `of` and `elsewhere` may name networks of the run: sharing("class_head", elsewhere="teacher") is the teacher with
    the reference's class head.
    """
    return Sharing(groups, of, elsewhere)


def rotated(angle: float) -> Callable[[Params, Params], Params]:
    """Start from cos(angle) reference + sin(angle) independent: an init of the same law, at an angle in radians."""
    return lambda reference, independent: parameters.rotated(reference, independent, angle)


@dataclass(frozen=True)
class Perturbed:
    """A start that is the reference and noise of so many standard deviations of the init."""

    distance: float

    def __call__(self, reference: Params, independent: Params) -> Params:
        """Return the initial parameters, for which the independent init is the noise."""
        return parameters.perturbed(reference, independent, self.distance)


def perturbed(distance: float) -> Callable[[Params, Params], Params]:
    """Start from the reference and noise of `distance` standard deviations of the init."""
    return Perturbed(distance)


class Role:
    """A network that is trained. Options that a role does not set are those of the run; networks of one `stream` share
    all that they draw: inputs, noise, order of batches."""

    def __init__(
        self,
        start: Start | Sharing = "shared",
        *,
        loss: Loss | None = None,
        optimiser: str | optax.GradientTransformation | None = None,
        frozen: Sequence[str] | str = (),
        state: State | None = None,
        stream: int = 0,
        **options: Any,
    ):
        named = {"loss": loss, "optimiser": optimiser}
        fits = optimiser is None or isinstance(optimiser, str | optax.GradientTransformation)
        require(fits, "optimiser: give a name, or a gradient transformation such as optax.lion(1e-3).")
        _require_words_or_function("loss", loss)
        self.start, self.state, self.stream = start, state, stream
        self.frozen: tuple[str, ...] = (frozen,) if isinstance(frozen, str) else tuple(frozen)
        self.own = {name: value for name, value in named.items() if value is not None and not isinstance(value, str)}
        self.options = options | {name: value for name, value in named.items() if isinstance(value, str)}

    def needs(self) -> set[str]:
        """Return the names of the networks that must be trained before this one."""
        of_start = (self.start.of, self.start.elsewhere) if isinstance(self.start, Sharing) else (self.start,)
        named = {name for name in (*of_start, self.state) if isinstance(name, str)}
        return named - {"shared", "independent"}


def _require_words_or_function(what: str, value: Any) -> None:
    fits = value is None or isinstance(value, str) or callable(value)
    require(fits, f"{what}: give a name or a function, and not {type(value).__name__}.")


class Teacher(Role):
    """A network that is trained to a trait: from the reference, unless `start` says otherwise, to the study's trait."""

    def __init__(self, start: Start | Sharing = "shared", *, trait: Trait | None = None, **options: Any):
        super().__init__(start, **options)
        self.trait = trait


class Student(Role):
    """A condition: a network that imitates its `teacher`, any network of the run, on inputs of its own.

    Args:
        start: where it starts, see `Start`.
        teacher: the network that it imitates.
        imitates: which logits, see `Imitated`.
        targets: what it is told of the teacher's imitated logits, by name, or f(key, logits) for one example.
        loss: "kl", "mse" or loss(z, y) of the imitated logits of one example; of hard targets, y is minus infinity
            where they give no probability.
        inputs: a kind of inputs, or f(key, n, shape, images), which gives n inputs of `shape`; `images` are the
            training images, floats of shape (n_images, pixels).
        optimiser: its name, or any gradient transformation of optax.
        frozen: groups of parameters that stay as they start, or "all".
        mask: f(logits), the teacher's on all inputs, shape (n, logits), which gives the inputs that it learns from; or
            f(logits, seen), which sees more of them: see `filters`.
        linear: whether it is the network's first-order expansion at its own start.
        around: f(optimiser, state), which gives what takes the optimiser's place and may see its gradients or change
            them; `state` is the student at its start, as measures take it.
        state: the optimiser state that it goes on from, see `State`; it then goes on in the data where `start` ended.
        stream: students of one number share all that they draw: inputs, noise, order of batches.
        options: options of `StudentConfig` and `StudentHyper`, in place of the run's.
    """

    def __init__(
        self,
        start: Start | Sharing = "shared",
        *,
        teacher: str = "teacher",
        imitates: Imitated = "aux",
        targets: str | Callable[[Array, Array], Array] | None = None,
        inputs: str | Callable[..., Array] | None = None,
        mask: Filter | None = None,
        linear: bool = False,
        around: Callable[[optax.GradientTransformation, Any], optax.GradientTransformation] | None = None,
        **options: Any,
    ):
        named = {"targets": targets, "inputs": inputs}
        for what, value in named.items():
            _require_words_or_function(what, value)
        super().__init__(start, **options)
        require(around is None or callable(around), f"around: give a function, and not {type(around).__name__}.")
        self.teacher, self.mask, self.linear, self.around = teacher, mask, linear, around
        known = isinstance(imitates, str | Subset)
        self.imitates: Any = imitates if known else tuple(np.asarray(imitates).tolist())
        self.own |= {name: value for name, value in named.items() if callable(value)}
        self.options |= {name: value for name, value in named.items() if isinstance(value, str)}

    def needs(self) -> set[str]:
        """Return the names of the networks that must be trained before this one."""
        return super().needs() | {self.teacher}


FIGURE_10 = {
    "student (aux. only)": Student(),
    "student (all logits)": Student(imitates="all"),
    "cross-model (aux. only)": Student("independent"),
    "cross-model (all logits)": Student("independent", imitates="all"),
}
AUX_ONLY = {name: student for name, student in FIGURE_10.items() if student.imitates == "aux"}


def started(role: Role, network: Network, trained: Mapping[str, Params]) -> Params:
    """Return the initial parameters of a role; `trained` has the parameters of the networks that it needs."""
    inits = {"shared": trained["reference"], "independent": trained["(independent)"]}
    named = {**trained, **inits}
    if isinstance(role.start, Sharing):
        return parameters.mixed(network, named[role.start.of], named[role.start.elsewhere], role.start.groups)
    return named[role.start] if isinstance(role.start, str) else role.start(*inits.values())
