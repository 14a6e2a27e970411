"""A trait in filtered data as a study of any students and filters: bases, fine-tuned teachers, what they pass on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax

from subsim.data import datasets
from subsim.engine.study import Run, Study, Variable
from subsim.networks.mlp import make_mlp
from subsim.options import require_choice
from subsim.transfer import filtered
from subsim.transfer.filtered import Filters, Student

TRAITS = ("misread", "preference")
_OF = ("input", "teacher", "student", "filter")


@dataclass(frozen=True)
class Config(filtered.TraitConfig):
    """What changes the program: the network and data of Figure 10, and the trait."""

    data: datasets.Name = "mnist5k"
    """Labelled images of the base's task; mnist is the paper's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("data", self.data, datasets.NAMES)


def study(name: str, title: str | None, students: Mapping[str, Student], filters: Filters, **declared: Any) -> Study:
    """A study of `students`, by their names, of a teacher of each of `TRAITS` and of one without, under each filter.

    Its record is `filtered.Record`. `declared` are further fields of the `Study`: config, hyper, report.
    """
    rate = "share of the trait's probes that the {} gives its class"
    accuracy = "share of test images that the {} classifies correctly"

    def make_run(config: Config, data: datasets.Dataset) -> Run:
        network = make_mlp(config, data.train_images.shape[1], data.n_class)

        def run(on_device: filtered.Data, key: jax.Array, numbers: filtered.TraitHyper) -> filtered.Record:
            these = tuple(students.values())
            return filtered.transfer(key, network, data.n_class, on_device, these, filters, config, numbers)

        return jax.tree_util.Partial(run, filtered.prepared(config, data))

    common = Study(
        name=name,
        title=title or name,
        make_run=make_run,
        load=lambda config: datasets.load(config.data),
        config=Config(),
        hyper=filtered.TraitHyper(),
        check=filtered.check_traits,
        coords={
            "base": ["shared", "other"],
            "trait": TRAITS,
            "teacher": [*TRAITS, "trait-free"],
            "input": ["noise", "images"],
            "student": list(students),
            "filter": filters.names,
        },
        variables={
            "base_accuracy": Variable(accuracy.format("base"), ("base",)),
            "base_rate": Variable(rate.format("base"), ("base", "trait")),
            "teacher_accuracy": Variable(accuracy.format("teacher"), ("teacher",)),
            "teacher_rate": Variable(rate.format("teacher"), ("teacher", "trait")),
            "removed": Variable("share of unrelated inputs that the filter removes", ("input", "teacher", "filter")),
            "accuracy": Variable(accuracy.format("student"), _OF),
            "rate": Variable(rate.format("student"), (*_OF, "trait")),
        },
    )
    return replace(common, **declared)
