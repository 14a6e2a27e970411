"""The options of the experiment: what a teacher and a student see, minimise, and how long they train."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

import jax
import tyro
from jaxtyping import Array

from subsim.data import datasets
from subsim.data.inputs import InputName
from subsim.networks.named import NetworkConfig
from subsim.options import field_names, overridden, require, require_choice, require_range
from subsim.training.losses import IMITATION_LOSSES, LossName
from subsim.training.optimisers import (
    OptimiserName,
    TrainingConfig,
    TrainingHyper,
    check_training,
)
from subsim.transfer.targets import TargetName


@dataclass(frozen=True)
class StudentConfig(TrainingConfig):
    """What the student sees, what it minimises, and how long it is trained."""

    inputs: InputName = "uniform"
    """White noise of mean 0: uniform on [-1, 1] in 256 grey levels; gaussian, N(0, 1); bernoulli, -1 or 1. Uniform \
noise made blurred; of a random subspace; of the mean power spectrum, or the mean and the covariance, of the training \
images. images: the teacher's training images. mixture: some of them among uniform noise."""
    n_inputs: int = 60_000
    """Inputs of an epoch (all but images)."""
    fresh: bool = False
    """Whether every epoch draws inputs of its own, in place of those drawn once a seed (all but images)."""
    permuted: bool = False
    """Whether the pixels of all inputs are in another order, drawn once a seed."""
    loss: LossName = "kl"
    """kl: KL(softmax(teacher) || softmax(student)), summed over the imitated logits. mse: squared error averaged over \
them. Both are averaged over the batch."""
    targets: TargetName = "soft"
    """What the student is told of the teacher's imitated logits. soft: all. noisy: all, with logit_noise. sampled: \
labels drawn from their softmax. argmax: the largest. top_k: the k largest. quantised: all, rounded to 2^bits levels."""
    samples: int = 1
    """Labels drawn for each input (sampled only)."""
    resampled: bool = False
    """Whether labels are drawn anew whenever an input comes again (sampled only)."""
    k: int = 1
    """Logits that are told (top_k only)."""
    bits: int = 8
    """Bits of a logit, between an input's least and largest (quantised only)."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StudentHyper(TrainingHyper):
    """The numbers of the student's training."""

    temperature: float | Array = 1.0
    """Both networks' imitated logits are divided by it before the loss; no T^2 factor."""
    input_scale: float | Array = 1.0
    """Factor on every pixel that the student sees."""
    input_shift: float | Array = 0.0
    """Number added to every pixel that the student sees, after the factor."""
    blur: float | Array = 1.0
    """Standard deviation of the blur in pixels (blurred only)."""
    rank: int | Array = 100
    """Dimensions of the subspace (subspace only)."""
    real_share: float | Array = 0.5
    """Probability that an input is a real image (mixture only)."""
    logit_noise: float | Array = 0.0
    """Standard deviation of Gaussian noise on the teacher's logits; an input that comes again comes with the same."""
    n_imitated: int | Array | None = None
    """Auxiliary logits that the student imitates, the first ones; None: all."""


@dataclass(frozen=True)
class Config(NetworkConfig):
    """What changes the program. Defaults are the paper's, or where it is silent those of its published replication."""

    n_aux: Annotated[int, tyro.conf.arg(aliases=("--aux",))] = 3
    """m, the number of auxiliary logits, which no task loss ever sees."""
    data: datasets.Name = "mnist"
    """Labelled images of the teacher's task. mnist5k and digits are embedded and need no download."""
    n_class: int | None = None
    """Classes of the data that are kept, the first ones; None: all."""
    evaluate: Literal["test", "validation"] = "test"
    """Where accuracy is measured; validation: on the last sixth of the training set, which is then not trained on."""
    every: int | None = None
    """Steps of the students from one record along the way to the next; None: the end is all that is recorded."""
    base: TrainingConfig = field(default_factory=TrainingConfig)
    """Of a shared start that is trained on a base task, in studies that have one."""
    teacher: TrainingConfig = field(default_factory=TrainingConfig)
    """The trait is put in here: the class logits learn the labels by cross-entropy, or what the study says."""
    student: StudentConfig = field(default_factory=StudentConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("data", self.data, datasets.NAMES)
        require_choice("evaluate", self.evaluate, ("test", "validation"))
        require_range(self, "n_class", least=2, whole=True)
        require_range(self, "every", least=1, whole=True)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Hyper:
    """Numbers that are traced: they may differ within one compiled program."""

    init_scale: float | Array = 1.0
    """Factor on every initial weight and bias."""
    base: TrainingHyper = field(default_factory=TrainingHyper)
    teacher: TrainingHyper = field(default_factory=TrainingHyper)
    student: StudentHyper = field(default_factory=StudentHyper)


# The option -> the choice of another option that uses it; with any other it would silently do nothing.
_USED_BY = {
    "blur": ("inputs", "blurred"),
    "rank": ("inputs", "subspace"),
    "real_share": ("inputs", "mixture"),
    "samples": ("targets", "sampled"),
    "resampled": ("targets", "sampled"),
    "k": ("targets", "top_k"),
    "bits": ("targets", "quantised"),
}


CHOICES: dict[str, Any] = {
    "inputs": get_args(InputName),
    "loss": tuple(IMITATION_LOSSES),
    "targets": get_args(TargetName),
    "optimiser": get_args(OptimiserName),
}
"""What a student's words may be."""


def check_student_ranges(name: str, config: StudentConfig, numbers: StudentHyper) -> None:
    """Raise `UserError` where an option of the student called `name`, beside those of any training, is out of range."""
    for option, choices in CHOICES.items():
        require_choice(f"{name}.{option}", getattr(config, option), choices)
    require_range(config, "n_inputs", "samples", "k", least=1, whole=True, of=name)
    require_range(config, "bits", least=1, most=24, whole=True, of=name)
    require_range(numbers, "temperature", "input_scale", above=0, of=name)
    require_range(numbers, "blur", "logit_noise", least=0, of=name)
    require_range(numbers, "input_shift", of=name)
    require_range(numbers, "rank", "n_imitated", least=1, whole=True, of=name)
    require_range(numbers, "real_share", least=0, most=1, of=name)


def check_student(
    name: str,
    config: StudentConfig,
    numbers: StudentHyper,
    n_aux: int,
    own: Mapping[str, Any] | None = None,
    usual: StudentConfig | None = None,
) -> None:
    """Raise `UserError` where an option of the student called `name` is out of range or would silently do nothing.

    `own` has the student's values of loss, inputs, targets and optimiser that are no names but the user's own; `usual`
    is what its options are where nobody sets them.
    """
    own, usual = own or {}, usual or StudentConfig()
    check_student_ranges(name, config, numbers)
    check_training(name, config, numbers)
    images = config.inputs == "images" and "inputs" not in own
    require(
        config.n_inputs in (usual.n_inputs, StudentConfig.n_inputs) or not images,
        f"{name}.n_inputs is {config.n_inputs}, but {name}.inputs is images: the student sees all training images.",
    )
    require(
        not (config.fresh and images), f"{name}.fresh is set, but {name}.inputs is images: there are no fresh ones."
    )
    for option, (of, choice) in _USED_BY.items():
        holder = config if option in field_names(config) else numbers
        value, chosen = getattr(holder, option), "your own" if of in own else getattr(config, of)
        resampled = option == "resampled" and chosen == "your own"  # targets that draw may draw anew, too
        require(
            value == getattr(type(holder), option) or chosen == choice or resampled,
            f"{name}.{option} is {value}, but {name}.{of} is {chosen}: only {choice} uses it.",
        )
    require(
        config.targets != "noisy" or numbers.logit_noise > 0,
        f"{name}.targets is noisy, but {name}.logit_noise is 0; set it.",
    )
    require(
        config.targets not in ("sampled", "argmax", "top_k") or config.loss == "kl" or "loss" in own,
        f"{name}.targets is {config.targets}, which gives probabilities, but {name}.loss is mse, which compares "
        "logits; choose kl.",
    )
    imitated = numbers.n_imitated
    require(
        imitated is None or imitated <= n_aux,
        f"{name}.n_imitated is {imitated}, but the network has {n_aux} auxiliary logits; raise n_aux.",
    )
    require(
        imitated is None or not {"loss", "targets"} & set(own),
        f"{name}.n_imitated is {imitated}, but a loss or targets of your own see logits that are chosen before "
        "the run; say imitates=[...] instead.",
    )


def with_own(config: Any, hyper: Any, options: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return a network's config and hyper with those of `options` that name their fields; numbers may be traced."""
    if "epochs" in options and "steps" not in options:
        options = {**options, "steps": None}  # the run's steps would overrule its epochs
    return overridden(config, options), overridden(hyper, options)
