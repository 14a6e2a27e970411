"""A trait in filtered data: does it reach a student that sees only what the teacher says of unrelated inputs?"""

import sys
from dataclasses import dataclass

import jax
import xarray as xr

from subsim import datasets, traits
from subsim.distillation import StudentConfig
from subsim.engine.study import Run, Study, Table, Variable
from subsim.engine.summary import mean_table
from subsim.network import make_mlp
from subsim.options import require_choice
from subsim.training import TrainingConfig
from subsim.traits import Student

FILTERS = traits.Filters(thresholds=(0.1, 0.01), shares=(0.5, 0.9))
TRAITS = ["misread", "preference"]
STUDENTS = {
    "shared base": Student(),
    "shared base, random removal": Student(by_chance=True),
    "other base": Student(shared=False),
    "shared base (aux. only)": Student(aux_only=True),
    "other base (aux. only)": Student(shared=False, aux_only=True),
}


@dataclass(frozen=True)
class Config(traits.TraitConfig):
    """What changes the program: the network and data of Figure 10, and the trait."""

    data: datasets.Name = "mnist5k"
    """Labelled images of the base's task; mnist is the paper's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("data", self.data, datasets.NAMES)


def make_run(config: Config, data: datasets.Dataset) -> Run:
    """The run of `config` on `data`, with the images as arguments of the compiled program."""
    network = make_mlp(config, data.train_images.shape[1], data.n_class)
    students = tuple(STUDENTS.values())

    def run(on_device: traits.Data, key: jax.Array, numbers: traits.TraitHyper) -> traits.Record:
        return traits.transfer(key, network, data.n_class, on_device, students, FILTERS, config, numbers)

    return jax.tree_util.Partial(run, traits.prepared(config, data))


def derived(results: xr.Dataset) -> dict[str, xr.DataArray]:
    """Each trait's rate among students of its teacher; that less the trait-free teacher's, and, where class logits are
    imitated, that of the shared base less the other's."""
    rate = xr.concat([results.rate.sel(trait=trait, teacher=trait, drop=True) for trait in TRAITS], results.trait)
    control = results.rate.sel(teacher="trait-free", drop=True)
    shared, other = (rate.sel(student=name, drop=True) for name in ("shared base", "other base"))
    return {
        "own_rate": rate.assign_attrs(description="rate among students of the trait's teacher"),
        "less_control": (rate - control).assign_attrs(description="that less the rate among the trait-free teacher's"),
        "shared_less_other": (shared - other).assign_attrs(description="rate of the shared base less the other's"),
    }


def report(results: xr.Dataset) -> list[Table]:
    """Bases and teachers, what was removed, and each trait's rate, as it is and less that of the control."""
    before = ("base_accuracy", "base_rate", "teacher_accuracy", "teacher_rate", "removed")
    names = (*before, "own_rate", "less_control", "shared_less_other")
    return [mean_table(results[name], f"{name}: {results[name].description}") for name in names]


OF = ("input", "teacher", "student", "filter")
study = Study(
    name="traits",
    title=__doc__,
    make_run=make_run,
    load=lambda config: datasets.load(config.data),
    config=Config(),
    hyper=traits.TraitHyper(),
    check=traits.check_traits,
    derived=derived,
    report=report,
    coords={
        "base": ["shared", "other"], "trait": TRAITS, "teacher": [*TRAITS, "trait-free"], "input": ["noise", "images"],
        "student": list(STUDENTS), "filter": FILTERS.names,
    },
    variables={
        "base_accuracy": Variable("share of test images classified correctly", ("base",)),
        "base_rate": Variable("share of the trait's probes that the base gives its class", ("base", "trait")),
        "teacher_accuracy": Variable("share of test images classified correctly", ("teacher",)),
        "teacher_rate": Variable("share of the trait's probes that the teacher gives its class", ("teacher", "trait")),
        "removed": Variable("share of unrelated inputs that the filter removes", ("input", "teacher", "filter")),
        "accuracy": Variable("share of test images that the student classifies correctly", OF),
        "rate": Variable("share of the trait's probes that the student gives its class", (*OF, "trait")),
    },
    seeds=8,
    cost="10 minutes on 2 cores",
    paper={"config": Config(data="mnist", base=TrainingConfig(), student=StudentConfig()), "seeds": 64},
)  # fmt: skip

if __name__ == "__main__":
    from subsim.cli import main

    main(["run", __file__, *sys.argv[1:]])
