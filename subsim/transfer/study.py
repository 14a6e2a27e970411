"""Make a study of the experiment: any network, data, trait, teachers, students and measures; the paper's by default."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from subsim.data import datasets
from subsim.data.datasets import Dataset
from subsim.data.inputs import image_bank
from subsim.engine.study import Run, Study, Variable
from subsim.networks.adapters import from_functions, require_logits
from subsim.networks.named import make_network
from subsim.networks.network import Factory, Network
from subsim.options import require
from subsim.transfer import imitation, state
from subsim.transfer.checks import check, said_by_the_study
from subsim.transfer.imitation import Task
from subsim.transfer.options import Config, Hyper
from subsim.transfer.roles import FIGURE_10, Student, Teacher
from subsim.transfer.run import all_networks, run
from subsim.transfer.seed import Data, Spec
from subsim.transfer.state import Measure
from subsim.transfer.traits import LABELS, Trait


def distillation(
    name: str,
    *,
    title: str | None = None,
    network: Network | Factory | tuple[Any, Any] | str | None = None,
    data: str | Dataset | tuple[Any, Any] | None = None,
    trait: Trait = LABELS,
    teacher: Teacher | Mapping[str, Teacher] | None = None,
    students: Mapping[str, Student] = FIGURE_10,
    base: Teacher | None = None,
    config: Config | None = None,
    hyper: Hyper | None = None,
    measures: Mapping[str, Measure | tuple[Measure, Variable]] | None = None,
    teacher_steps: tuple[int, ...] = (),
    sizes: Mapping[str, Mapping[str, Any]] | None = None,
    **declared: Any,
) -> Study:
    """Make a study of named `students` of one teacher or several.

    Args:
        name: the name of the study; `title` is one sentence about it.
        network: the name of a network; a `Network`; a pair of functions (init, apply); or f(n_pixels, n_class, n_aux),
            which returns one of these: see `from_flax`, `from_equinox`. None: the network that the config names.
        data: the name of a data set; a `Dataset`; or ((images, labels), (images, labels)), the training and the test
            set, with 8-bit integer images.
        trait: the trait of the teachers that set none.
        teacher: the teacher, or teachers by name.
        students: the students by name, see `Student`.
        base: the training of the shared and the independent start before anything else; None: no such training.
        config: the options that change the program; `hyper` has the traced hyperparameters.
        measures: by name, a function of a `State` that returns a number or an array; or (function, Variable), whose
            first dimension is `condition`, or `student` for a measure of students only.
        teacher_steps: numbers of steps, ascending, after each of which the teacher is imitated. Every variable then has
            the leading dimension `teacher_step`.
        sizes: for each larger size, the arguments of this function that differ there: see `Study`.
        declared: further fields of the `Study`: axes, coords, derived, report, seeds.

    The record has the `accuracy` of every condition (reference and teachers first), and the `imitation_loss` and
    `alignment` of every student. Traits other than the labels add their `rate` in every condition. If `config.every` is
    set, there are also `accuracy_along` and `imitation_loss_along`, recorded every so many steps; if `config.coverage`
    is set, `coverage` and `gradient_coverage`. `measures` add their variables.
    """
    given: dict[str, Any] = {
        "title": title, "network": network, "data": data, "trait": trait, "teacher": teacher, "students": students,
        "base": base, "config": config, "hyper": hyper, "measures": measures, "teacher_steps": teacher_steps,
    }  # fmt: skip
    larger = {
        size: distillation(name, **given | declared | {"finding": "", **values})
        for size, values in (sizes or {}).items()
    }
    teachers = dict(teacher) if isinstance(teacher, Mapping) else {"teacher": teacher or Teacher()}
    config, hyper = config or Config(), hyper or Hyper()
    if isinstance(network, str):
        config, network = replace(config, network=network), None  # type: ignore[arg-type]
    if isinstance(data, str):
        config, data = replace(config, data=data), None  # type: ignore[arg-type]
    measured = {key: value if isinstance(value, tuple) else (value, None) for key, value in (measures or {}).items()}
    meanings = {
        key: meaning or Variable(_sentence(function), ("condition",)) for key, (function, meaning) in measured.items()
    }
    of_students = {key for key, meaning in meanings.items() if meaning.dims[:1] == ("student",)}
    spec = Spec(
        teachers, dict(students), base, trait,
        {"accuracy": state.accuracy} | {key: of for key, (of, _) in measured.items() if key not in of_students},
        {"alignment": state.alignment} | {key: of for key, (of, _) in measured.items() if key in of_students},
        teacher_steps, config.every is not None and "report" in declared,
    )  # fmt: skip
    own = (network, _dataset(data))
    taken = sorted(({*_variables(spec), "alignment"} - {"accuracy"}) & meanings.keys())
    require(not taken, f"measures: every study has {', '.join(taken)} already; choose another name.")
    variables = _variables(spec) | meanings
    if teacher_steps:
        variables = {key: meaning._replace(dims=("teacher_step", *meaning.dims)) for key, meaning in variables.items()}
    coords: dict[str, Any] = {
        "condition": spec.conditions,
        "student": list(students),
        "trait": [each.name for each in spec.traits],
        "step": lambda config, n: [config.every * (number + 1) for number in range(n)],
        "teacher_step": list(teacher_steps),
    }
    common = Study(
        name=name,
        title=title or name,
        make_run=functools.partial(make_run, spec, own[0]),
        make_joint_run=functools.partial(make_joint_run, spec, own[0]),
        make_networks=functools.partial(make_networks, spec, own[0]),
        rebuild=functools.partial(rebuild, own[0]),
        joint="student",
        load=functools.partial(load, own[1]),
        config=config,
        hyper=hyper,
        check=functools.partial(check, spec, own, (config, hyper)),
        coords=coords | declared.pop("coords", {}),
        variables=variables,
        own=said_by_the_study(spec, own),
        sizes=larger,
    )
    return dataclasses.replace(common, **declared)


def _sentence(function: Any) -> str:
    return str(getattr(function, "__doc__", None) or getattr(function, "__name__", "measure")).split("\n")[0].strip()


def _variables(spec: Spec) -> dict[str, Variable]:
    nat = "nat (kl) or squared logit (mse)"
    found = {
        "accuracy": Variable("share of images classified correctly", ("condition",)),
        "imitation_loss": Variable("mean imitation loss over the student's last epoch", ("student",), nat),
        "alignment": Variable("cosine of the student's and its teacher's displacement", ("student",)),
        "coverage": Variable("cosine of the student's first update and its teacher's displacement", ("student",)),
        "gradient_coverage": Variable("cosine of minus its first gradient and the displacement", ("student",)),
        "accuracy_along": Variable("accuracy after every few steps", ("student", "step")),
        "imitation_loss_along": Variable("mean imitation loss of the steps before", ("student", "step"), nat),
    }
    several = ("condition", "trait") if len(spec.traits) > 1 else ("condition",)
    return found | ({"rate": Variable("how often the network shows the trait", several)} if spec.traits else {})


def _dataset(data: Any) -> Dataset | None:
    """Return the user's data as a `Dataset`; None if there is none."""
    if data is None:
        return None
    if isinstance(data, Dataset):
        found = _dataset(((data.train_images, data.train_labels), (data.test_images, data.test_labels)))
        assert found is not None
        most, brightest = max(int(images.max()) for images in (data.train_images, data.test_images)), data.brightest
        require(most <= brightest, f"data: images reach {most}, but brightest is {brightest}; raise it.")
        require(
            found.n_class <= data.n_class,
            f"data: labels reach {found.n_class - 1}, but n_class is {data.n_class}; raise it.",
        )
        return found._replace(n_class=data.n_class, brightest=brightest)
    pairs = isinstance(data, tuple | list) and len(data) == 2 and all(len(pair) == 2 for pair in data)
    require(pairs, "data: give ((images, labels), (images, labels)), to train and to test on, or a name.")
    (train, of_train), (test, of_test) = ((np.asarray(images), np.asarray(labels)) for images, labels in data)
    for images, labels in ((train, of_train), (test, of_test)):
        require(images.dtype == np.uint8, f"data: images must be 8-bit integers (uint8), not {images.dtype}.")
        fits = labels.shape == images.shape[:1] and len(labels) > 0 and np.issubdtype(labels.dtype, np.integer)
        require(bool(fits and labels.min() >= 0), "data: labels must be whole numbers from 0 on, one for each image.")
    require(train.shape[1:] == test.shape[1:], "data: images to train and to test on must have one shape.")
    flat = [images.reshape(len(images), -1) for images in (train, test)]
    of_train, of_test = of_train.astype(np.int32), of_test.astype(np.int32)
    return Dataset(flat[0], of_train, flat[1], of_test, n_class=int(max(of_train.max(), of_test.max())) + 1)


def load(own: Dataset | None, config: Config) -> Dataset:
    """Return the user's data or the data of `config`, restricted to its classes, with the chosen test images."""
    data = datasets.load(config.data) if own is None else own
    if config.evaluate == "validation":
        data = datasets.hold_out(data if own is None else datasets.shuffled(data))
    return data if config.n_class is None else datasets.restricted(data, config.n_class)


def network_of(own: Any, config: Config, n_pixels: int, n_class: int) -> Network:
    """Return the network of a run; raise `UserError` if the user's network does not fit the data."""
    if own is None:
        return make_network(config, n_pixels, n_class)
    network = own
    kinds = callable(own) or isinstance(own, tuple | list)
    require(kinds and not isinstance(own, type), "network: give a subsim.Network or what subsim.from_flax returns.")
    if not isinstance(own, Network):
        network = from_functions(own) if isinstance(own, tuple | list) else own(n_pixels, n_class, config.n_aux)
    require(isinstance(network, Network), "network: the function must return a subsim.Network; see subsim.from_flax.")
    require_logits(network, n_pixels, n_class, config.n_aux, "network")
    return network


def prepared(spec: Spec, data: Dataset) -> Data:
    """Put the labelled images of a run, and each trait's targets and probes, on the device."""
    train, test = imitation.tasks(data)

    def task(change: Callable[..., Any] | None, images: Any, labels: Any, otherwise: Task) -> Task:
        if change is None:
            return otherwise
        images, labels = change(images, labels)
        fits = len(labels) > 0 and np.min(labels) >= 0 and np.max(labels) < data.n_class
        require(
            bool(fits),
            f"trait: it asks for images or classes that the data does not have; the data has {data.n_class} classes.",
        )
        return Task(image_bank(images, data.brightest), jnp.asarray(labels))

    taught = tuple(task(each.targets, data.train_images, data.train_labels, train) for each in spec.traits)
    probes = tuple(task(each.probes, data.test_images, data.test_labels, test) for each in spec.traits)
    return Data(train, test, taught, probes)


def with_rates(spec: Spec, data: Data) -> Spec:
    """Return `spec` with a measure of the rate at which a network shows each trait."""
    rates = [state.rate_of(trait, probes) for trait, probes in zip(spec.traits, data.probes, strict=True)]
    if not rates:
        return spec

    def rate(one: state.State) -> Any:
        found = [of(one) for of in rates]
        return jnp.stack(found) if len(found) > 1 else found[0]

    return spec._replace(measures={**spec.measures, "rate": rate})


def _make(function: Any, spec: Spec, own: Any, configs: Any, one: Config, data: Dataset) -> jax.tree_util.Partial:
    network = network_of(own, one, data.train_images.shape[1], data.n_class)
    settings: Any = jax.config  # some versions of jax do not declare its settings
    rounded = settings.jax_default_matmul_precision == "bfloat16"
    linear = [name for name, student in spec.students.items() if student.linear and rounded]
    require(not linear, f"precision: products rounded to bfloat16 have no derivative for {''.join(linear[:1])}.")

    def of_seed(prepared: Data, key: Any, hyper: Hyper) -> Any:
        return function(with_rates(spec, prepared), configs, network, data.n_class, prepared, key, hyper)

    return jax.tree_util.Partial(of_seed, prepared(spec, data))


def make_joint_run(spec: Spec, network: Any, configs: Sequence[Config], data: Dataset) -> jax.tree_util.Partial:
    """Return the run of `configs`, which differ only in their students' options; its record has an axis of configs."""
    return _make(run, spec, network, tuple(configs), configs[0], data)


def make_run(spec: Spec, network: Any, config: Config, data: Dataset) -> Run:
    """Return the run of `config`; the images are arguments of the compiled program."""

    def first(*arguments: Any) -> Any:
        return jax.tree.map(lambda values: values[0], run(*arguments))

    return _make(first, spec, network, (config,), config, data)


def make_networks(spec: Spec, network: Any, config: Config, data: Dataset) -> Run:
    """Return the run that returns every network of a seed, by name."""
    require(not spec.teacher_steps, "networks: a study of several teacher_steps has several networks of one name.")
    return _make(all_networks, spec, network, config, config, data)


def rebuild(own: Any, config: Config, data: Dataset, networks: Mapping[str, Any]) -> dict[str, Any]:
    """Return networks as the user's modules, or as parameters if the user gave functions."""
    network = network_of(own, config, data.train_images.shape[1], data.n_class)
    return {name: network.rebuild(params) if network.rebuild else params for name, params in networks.items()}
