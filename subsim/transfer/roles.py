"""The roles of the experiment: teachers and students, their initial parameters, and the logits they imitate."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import optax
from jaxtyping import Array

from subsim.networks import parameters
from subsim.networks.network import Network, Params
from subsim.options import require, require_takes
from subsim.transfer.filters import Filter
from subsim.transfer.traits import Trait

Start = str | Callable[[Params, Params], Params]
"""Initial parameters: "shared" or "independent", the name of a network to start from after its training, or
f(reference, independent)."""
Loss = str | Callable[[Array, Array], Array]
"""A loss of one example: a name, or loss(z, y) with the student's imitated logits z and the targets y."""
State = str | Callable[[Mapping[str, Any]], Any]
"""The optimiser state to continue from: the name of a network, whose last state it is, or f(states by network)."""


class Subset(NamedTuple):
    """A random choice of `size` logits from the set `of`, drawn anew for every batch."""

    size: int
    of: Literal["aux", "classes", "all"] = "aux"


Imitated = str | Subset | Sequence[Any] | Array | np.ndarray
"""The imitated logits: "aux", "classes" or "all", a mask of all logits, their indices, or a new subset for every
batch."""


class Sharing(NamedTuple):
    """A start with `groups` of parameters from the network `of`, and all others from the network `elsewhere`."""

    groups: tuple[str, ...]
    of: str = "shared"
    elsewhere: str = "independent"


def sharing(*groups: str, of: str = "shared", elsewhere: str = "independent") -> Sharing:
    """Start from the reference's parameters in `groups`, such as "hidden", and from independent ones elsewhere.

    `of` and `elsewhere` may name networks of the run: sharing("class_head", elsewhere="teacher") starts from the
    teacher with the reference's class head.
    """
    return Sharing(groups, of, elsewhere)


def rotated(angle: float) -> Callable[[Params, Params], Params]:
    """Start from cos(angle) reference + sin(angle) independent, an init of the same distribution; angle in radians."""
    return lambda reference, independent: parameters.rotated(reference, independent, angle)


@dataclass(frozen=True)
class Perturbed:
    """A start from the reference plus noise of `distance` standard deviations of the init."""

    distance: float

    def __call__(self, reference: Params, independent: Params) -> Params:
        """Return the initial parameters; the independent init is the noise."""
        return parameters.perturbed(reference, independent, self.distance)


def perturbed(distance: float) -> Callable[[Params, Params], Params]:
    """Start from the reference plus noise of `distance` standard deviations of the init."""
    return Perturbed(distance)


class Role:
    """A network that is trained.

    The run's options hold where the role sets none. Networks of one `stream` share all random draws: inputs, noise,
    order of batches.
    """

    OF_LOSS: tuple[str, ...] = ("class_logits", "label")
    """Arguments of a loss of the user's own."""

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
        _require_words_or_function("loss", loss, *self.OF_LOSS)
        self.start, self.state, self.stream = start, state, stream
        self.frozen: tuple[str, ...] = (frozen,) if isinstance(frozen, str) else tuple(frozen)
        self.own = {name: value for name, value in named.items() if value is not None and not isinstance(value, str)}
        self.options = options | {name: value for name, value in named.items() if isinstance(value, str)}

    def needs(self) -> set[str]:
        """Return the names of the networks that must be trained before this one."""
        of_start = (self.start.of, self.start.elsewhere) if isinstance(self.start, Sharing) else (self.start,)
        named = {name for name in (*of_start, self.state) if isinstance(name, str)}
        return named - {"shared", "independent"}


def _require_words_or_function(what: str, value: Any, *arguments: str) -> None:
    fits = value is None or isinstance(value, str) or callable(value)
    require(fits, f"{what}: give a name or a function, and not {type(value).__name__}.")
    if callable(value):
        require_takes(what, value, *arguments)


class Teacher(Role):
    """A network that learns a trait: by default the study's trait, starting from the reference."""

    def __init__(self, start: Start | Sharing = "shared", *, trait: Trait | None = None, **options: Any):
        super().__init__(start, **options)
        self.trait = trait


class Student(Role):
    """A condition: a network that imitates its `teacher`, any network of the run, on the student's inputs.

    Args:
        start: the initial parameters, see `Start`.
        teacher: the name of the network that the student imitates.
        imitates: the imitated logits, see `Imitated`.
        targets: a kind of targets, or f(key, logits), which makes the targets of one example from the teacher's
            imitated logits.
        loss: "kl", "mse" or loss(z, y) of the imitated logits of one example. Where hard targets have probability 0, y
            is minus infinity.
        inputs: a kind of inputs, or f(key, n, shape, images), which returns n inputs of `shape`; `images` are the
            training images, floats of shape (n_images, pixels).
        optimiser: a name, or any gradient transformation of optax.
        frozen: groups of parameters that do not move, or "all".
        mask: f(logits), which maps the teacher's logits on all inputs, shape (n, logits), to a mask of the inputs that
            the student learns from; or f(logits, seen), with more arguments in `seen`: see `filters`.
        linear: if true, the student is the first-order expansion of the network at its start.
        around: f(optimiser, state), which returns a replacement for the optimiser, with access to its gradients;
            `state` is the student's `subsim.State` at its start.
        state: the optimiser state to continue from, see `State`. The student then continues in the data where the
            network `start` ended.
        stream: students with the same number share all random draws: inputs, noise, order of batches.
        options: options of `StudentConfig` and `StudentHyper`, in place of the run's options.
    """

    OF_LOSS = ("z", "y")

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
        _require_words_or_function("targets", targets, "key", "logits")
        _require_words_or_function("inputs", inputs, "key", "n", "shape", "images")
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
