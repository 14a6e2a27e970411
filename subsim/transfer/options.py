"""The options of the experiment: the inputs, losses and training lengths of teachers and students."""

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
    """The inputs, the loss and the training length of a student."""

    inputs: InputName = "uniform"
    """White noise of mean 0: uniform, on [-1, 1] in 256 grey levels; gaussian, N(0, 1); bernoulli, -1 or 1. Uniform \
noise transformed: blurred; subspace, projected on a random subspace; spectrum, with the mean power spectrum of the \
training images; covariance, with their mean and covariance. images: the teacher's training images. mixture: some of \
these images among uniform noise."""
    n_inputs: int = 60_000
    """Inputs of an epoch (all kinds except images)."""
    fresh: bool = False
    """Draw new inputs in every epoch, in place of inputs drawn once a seed (all kinds except images)."""
    permuted: bool = False
    """Permute the pixels of all inputs, in one order drawn once a seed."""
    loss: LossName = "kl"
    """kl: KL(softmax(teacher) || softmax(student)), summed over the imitated logits. mse: squared error averaged over \
them. Both are averaged over the batch."""
    targets: TargetName = "soft"
    """Targets made from the teacher's imitated logits. soft: all logits. noisy: all, with logit_noise. sampled: \
labels drawn from their softmax. argmax: the largest. top_k: the k largest. quantised: all, rounded to 2^bits levels."""
    samples: int = 1
    """Labels drawn for each input (sampled only)."""
    resampled: bool = False
    """Draw new labels whenever an input comes again (sampled only)."""
    k: int = 1
    """Number of logits in the targets (top_k only)."""
    bits: int = 8
    """Bits of a logit, between the smallest and the largest logit of an input (quantised only)."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StudentHyper(TrainingHyper):
    """The hyperparameters of the student's training."""

    temperature: float | Array = 1.0
    """T: the imitated logits of both networks are divided by T before the loss; there is no factor T^2."""
    input_scale: float | Array = 1.0
    """Factor on every pixel of the student's inputs."""
    input_shift: float | Array = 0.0
    """Number added to every pixel of the student's inputs, after the factor."""
    blur: float | Array = 1.0
    """Standard deviation of the blur in pixels (blurred only)."""
    rank: int | Array = 100
    """Dimensions of the subspace (subspace only)."""
    real_share: float | Array = 0.5
    """Probability that an input is a real image (mixture only)."""
    logit_noise: float | Array = 0.0
    """Standard deviation of Gaussian noise on the teacher's logits; an input that comes again has the same noise."""
    n_imitated: int | Array | None = None
    """Number of auxiliary logits that the student imitates (the first ones); None: all."""


@dataclass(frozen=True)
class Config(NetworkConfig):
    """Options that change the program. Defaults are the paper's, or its published replication's where it gives none."""

    n_aux: Annotated[int, tyro.conf.arg(aliases=("--aux",))] = 3
    """m, the number of auxiliary logits, which no task loss uses."""
    data: datasets.Name = "mnist"
    """Labelled images of the teacher's task. mnist5k and digits are embedded and need no download."""
    n_class: int | None = None
    """Number of classes of the data (the first ones); None: all."""
    evaluate: Literal["test", "validation"] = "test"
    """Images for the accuracy; validation: the last sixth of the training set, which is then left out of training."""
    every: int | None = None
    """Steps of the students between records; None: only the end is recorded."""
    coverage: bool = False
    """Also record what a student's first step tells beforehand: `coverage` and `gradient_coverage`."""
    base: TrainingConfig = field(default_factory=TrainingConfig)
    """Training of the shared start on a base task, in studies that have one."""
    teacher: TrainingConfig = field(default_factory=TrainingConfig)
    """Training of the teacher: its class logits learn the labels by cross-entropy, or the trait of the study."""
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
    """Traced hyperparameters: they may differ within one compiled program."""

    init_scale: float | Array = 1.0
    """Factor on every initial weight and bias."""
    base: TrainingHyper = field(default_factory=TrainingHyper)
    teacher: TrainingHyper = field(default_factory=TrainingHyper)
    student: StudentHyper = field(default_factory=StudentHyper)


# The option -> the choice of another option that uses it; with any other choice the option would have no effect.
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
"""The choices of a student's named options."""


def check_student_ranges(name: str, config: StudentConfig, hyper: StudentHyper) -> None:
    """Raise `UserError` if a student's option that other trainings lack is out of range; `name` is the student."""
    for option, choices in CHOICES.items():
        require_choice(f"{name}.{option}", getattr(config, option), choices)
    require_range(config, "n_inputs", "samples", "k", least=1, whole=True, of=name)
    require_range(config, "bits", least=1, most=24, whole=True, of=name)
    require_range(hyper, "temperature", "input_scale", above=0, of=name)
    require_range(hyper, "blur", "logit_noise", least=0, of=name)
    require_range(hyper, "input_shift", of=name)
    require_range(hyper, "rank", "n_imitated", least=1, whole=True, of=name)
    require_range(hyper, "real_share", least=0, most=1, of=name)


def check_student(
    name: str,
    config: StudentConfig,
    hyper: StudentHyper,
    n_aux: int,
    own: Mapping[str, Any] | None = None,
    usual: StudentConfig | None = None,
) -> None:
    """Raise `UserError` if an option of the student called `name` is out of range or would have no effect.

    `own` has the user's functions for the student's loss, inputs, targets and optimiser. `usual` has the student's
    default options.
    """
    own, usual = own or {}, usual or StudentConfig()
    check_student_ranges(name, config, hyper)
    check_training(name, config, hyper)
    images = config.inputs == "images" and "inputs" not in own
    require(
        config.n_inputs in (usual.n_inputs, StudentConfig.n_inputs) or not images,
        f"{name}.n_inputs is {config.n_inputs}, but {name}.inputs is images: the student takes all training images.",
    )
    require(
        not (config.fresh and images), f"{name}.fresh is set, but {name}.inputs is images: there are no new images."
    )
    for option, (of, choice) in _USED_BY.items():
        holder = config if option in field_names(config) else hyper
        value, chosen = getattr(holder, option), "your own" if of in own else getattr(config, of)
        resampled = option == "resampled" and chosen == "your own"  # a user's random targets may be drawn anew, too
        require(
            value == getattr(type(holder), option) or chosen == choice or resampled,
            f"{name}.{option} is {value}, but {name}.{of} is {chosen}: only {choice} uses it.",
        )
    require(
        config.targets != "noisy" or hyper.logit_noise > 0,
        f"{name}.targets is noisy, but {name}.logit_noise is 0; set it.",
    )
    require(
        config.targets not in ("sampled", "argmax", "top_k") or config.loss == "kl" or "loss" in own,
        f"{name}.targets is {config.targets}, which gives probabilities, but {name}.loss is mse, which compares "
        "logits; choose kl.",
    )
    imitated = hyper.n_imitated
    require(
        imitated is None or imitated <= n_aux,
        f"{name}.n_imitated is {imitated}, but the network has {n_aux} auxiliary logits; raise n_aux.",
    )
    require(
        imitated is None or not {"loss", "targets"} & set(own),
        f"{name}.n_imitated is {imitated}, but a loss or targets of your own take logits that are chosen before "
        "the run; use imitates=[...] instead.",
    )


def with_own(config: Any, hyper: Any, options: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return a network's config and hyper with their fields replaced by `options`; hyperparameters may be traced."""
    if "epochs" in options and "steps" not in options:
        options = {**options, "steps": None}  # otherwise the run's steps would overrule these epochs
    return overridden(config, options), overridden(hyper, options)
