"""What does not fit the experiment is refused in a sentence that names it."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from mine import CNN, CONFIG, clipped, says_even, simulate, study

import subsim
from subsim.data.datasets import Dataset
from subsim.training.optimisers import TrainingConfig
from subsim.transfer import traits
from subsim.transfer.options import StudentConfig
from subsim.transfer.state import alignment

BAD = {
    "a network that needs what is not there": (
        {"students": {"a": subsim.Student(teacher="b")}}, "^a needs the network b, which is not trained before it"),
    "a circle": (
        {"students": {"a": subsim.Student(teacher="b"), "b": subsim.Student(teacher="a")}}, "^a needs the network b"),
    "an unknown option": ({"students": {"a": subsim.Student(tempreature=2.0)}}, "a has its own tempreature"),
    "an unknown target": ({"students": {"a": subsim.Student(targets="hard")}}, "a.targets is 'hard'; choose one of"),
    "targets that no loss takes": (
        {"students": {"a": subsim.Student(targets="argmax", loss="mse")}}, "a.targets is argmax, which gives prob"),
    "samples of nothing": ({"students": {"a": subsim.Student(samples=3)}}, "a.samples is 3, but a.targets is soft"),
    "noise of nothing": ({"students": {"a": subsim.Student(targets="noisy")}}, "a.logit_noise is 0"),
    "nothing imitated": ({"students": {"a": subsim.Student(imitates=[])}}, "a imitates no logits"),
    "a mask of other logits": ({"students": {"a": subsim.Student(imitates=[True] * 3)}}, "a mask of 3, but"),
    "logits that are not there": ({"students": {"a": subsim.Student(imitates=[13])}}, "the indices 13, but"),
    "a subset of too many": ({"students": {"a": subsim.Student(imitates=subsim.Subset(4))}}, "choose 1 to 3"),
    "a rate of no use": (
        {"students": {"a": subsim.Student(optimiser=optax.lion(1e-3), learning_rate=1.0)}}, "a.learning_rate: a has"),
    "a number twice": ({"students": {"a": subsim.Student(imitates=[0] * 10 + [1] * 3)}}, "indices, each once"),
    "an own name": ({"measures": {"alignment": alignment}}, "measures: every study has alignment already"),
    "a base with a mistake": ({"base": subsim.Teacher(tempo=1)}, "base has its own tempo"),
    "a trait of other classes": (
        {"trait": traits.misread(4, 9), "config": dataclasses.replace(CONFIG, n_class=5)}, "trait: it asks for images"),
    "averages of one class": (
        {"trait": traits.prefer(1), "config": dataclasses.replace(CONFIG, n_class=2)}, "averages need two classes"),
    "unknown logits": ({"students": {"a": subsim.Student(imitates="some")}}, "a imitates 'some'; choose one of"),
    "a state without a network": ({"students": {"a": subsim.Student(state="teacher")}}, "a: a network that continues"),
    "an unknown group": ({"students": {"a": subsim.Student(frozen="head")}}, "no parameters in 'head'; choose from"),
    "an unknown shared group": ({"students": {"a": subsim.Student(subsim.sharing("top"))}}, "no parameters in 'top'"),
    "a start of an unknown network": (
        {"students": {"a": subsim.Student(subsim.sharing("hidden", of="b"))}}, "a needs the network b"),
    "a name twice": ({"students": {"teacher": subsim.Student()}}, "two networks have one name"),
    "no students": ({"students": {}}, "students: there are none"),
    "a mask on what is not there": (
        {"students": {"a": subsim.Student(mask=says_even, fresh=True)}}, "has a mask on inputs"),
    "too few logits": (
        {"network": (lambda key: jnp.zeros(3), lambda p, x: x[:12] * p[0])},
        "must map one example to 13 logits"),
    "images of floats": (
        {"data": ((np.zeros((9, 4)), np.zeros(9)), (np.zeros((9, 4)), np.zeros(9)))}, "images must be 8-bit integers"),
    "a state of another optimiser": (
        {"students": {"a": subsim.Student(), "b": subsim.Student("a", state="a", optimiser="sgd")}},
        "b.state: b and a have different optimisers",
    ),
    "a state that is not there yet": (
        {"students": {"a": subsim.Student("teacher", state=lambda states: states["a"])}},
        "state: 'a' has no optimiser state yet; those that have one are teacher.",
    ),
    "a state of what was around another": (
        {"students": {"a": subsim.Student(), "b": subsim.Student("a", state="a", around=clipped)}},
        "b.state: b and a have different optimisers",
    ),
    "nothing to put around": (
        {"students": {"a": subsim.Student(around=lambda _, state: state.start)}}, "around: return"),
    "noise of an init that is trained": (
        {"base": subsim.Teacher(), "students": {"a": subsim.Student(subsim.perturbed(0.1))}},
        "a: perturbed adds noise of the init, but the base trains both",
    ),
    "a data set of floats": (
        {"data": Dataset(*[np.zeros((9, 4)), np.zeros(9, int)] * 2)}, "images must be 8-bit integers"),
    "a data set of too many classes": (
        {"data": Dataset(*[np.zeros((9, 4), np.uint8), np.arange(9)] * 2, n_class=3)},
        "labels reach 8, but n_class is 3",
    ),
    "a data set that is too bright": (
        {"data": Dataset(*[np.full((9, 4), 99, np.uint8), np.arange(9)] * 2, brightest=16)}, "images reach 99"),
    "an option of no teacher": ({"teacher": subsim.Teacher(inputs="images")}, "teacher has its own inputs"),
}  # fmt: skip


@pytest.mark.parametrize("given", BAD.values(), ids=list(BAD))
def test_a_bad_option_is_named_in_a_sentence(given):
    options, sentence = given
    with pytest.raises(subsim.UserError, match=sentence) as refused:
        simulate(**options)
    assert str(refused.value).endswith(".")


def one(**options):
    return {"students": {"a": subsim.Student(**options)}}


# Options with a function of one's own, made when they are tried, and the words of the sentence that names its fault.
WRONG = {
    "a loss of three": (lambda: one(loss=lambda z, y, mask: z), r"loss\(z, y\)"),
    "a loss that is not summed": (lambda: one(loss=lambda z, y: jnp.abs(z - y)), r"loss: .* shape \(3,\)"),
    "inputs of three": (lambda: one(inputs=lambda key, n, shape: 0), r"inputs\(key, n, shape, images\)"),
    "inputs of another size": (
        lambda: one(inputs=lambda key, n, shape, images: jnp.zeros((n, 3))), r"inputs: .* gives shape \(\d+, 3\)"),
    "targets of one": (lambda: one(targets=lambda logits: logits), r"targets\(key, logits\)"),
    "a teacher's loss of one": (
        lambda: {"teacher": subsim.Teacher(loss=lambda logits: 0.0)}, r"loss\(class_logits, label\)"),
    "a trait's loss of one": (
        lambda: {"trait": subsim.Trait(loss=lambda logits: 0.0)}, r"loss\(class_logits, label\)"),
    "a trait's loss that is not summed": (
        lambda: {"trait": subsim.Trait(loss=lambda logits, label: logits)}, r"loss: .* shape \(10,\)"),
    "a rate of one": (lambda: {"trait": subsim.Trait(rate=lambda logits: 0.0)}, r"rate\(class_logits, labels\)"),
    "a rate of each example": (
        lambda: {"trait": subsim.Trait(rate=lambda logits, labels: logits[:, 0])}, r"rate: .* for all probes"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_function_of_ones_own_that_does_not_fit_is_named_in_a_sentence(name):
    options, words = WRONG[name]
    with pytest.raises(subsim.UserError, match=words):
        simulate(**options())


@pytest.mark.parametrize("option", ["widths", "network", "data", "base", "student"])
def test_options_of_what_a_study_has_of_its_own_are_refused(option):
    """They would silently do nothing."""
    changed = {"widths": (8,), "network": "cnn", "data": "mnist5k", "base": TrainingConfig(steps=3),
               "student": StudentConfig(steps=9)}  # fmt: skip
    digits = study().load(CONFIG)
    mine = study(
        network=subsim.from_flax(CNN, image=(8, 8, 1)),
        data=digits,
        students={"a": subsim.Student(steps=3), "b": subsim.Student(steps=2)},
    )
    with pytest.raises(subsim.UserError, match=rf"^{option}\b.*leave (it|its options|the option) out"):
        subsim.simulate(mine, dataclasses.replace(CONFIG, **{option: changed[option]}), seeds=1)


@pytest.mark.parametrize(
    ("part", "option"),
    [
        ("student", "optimiser"),
        ("student", "loss"),
        ("student", "learning_rate"),
        ("teacher", "optimiser"),
        ("teacher", "learning_rate"),
    ],
)
def test_options_that_all_networks_of_a_part_have_of_their_own_are_refused(part, option):
    lion = optax.lion(1e-3)
    student = subsim.Student(optimiser=lion, loss=lambda z, y: jnp.sum(jnp.square(z - y)))
    mine = study(students={"a": student}, teacher=subsim.Teacher(optimiser=lion))
    changed = {"optimiser": "sgd", "loss": "mse", "learning_rate": 0.1}
    options = {"config": mine.config, "hyper": mine.hyper}
    of = "hyper" if option == "learning_rate" else "config"
    with_it = dataclasses.replace(getattr(options[of], part), **{option: changed[option]})
    options[of] = dataclasses.replace(options[of], **{part: with_it})
    with pytest.raises(subsim.UserError, match=rf"^{part}\.{option} is .* every {part} of this study has its own"):
        mine.check(**options)


def test_the_number_of_inputs_is_that_of_students_who_see_noise():
    """Of use to one student it may be set; to none it would silently do nothing."""
    config = dataclasses.replace(CONFIG, student=dataclasses.replace(CONFIG.student, n_inputs=77))
    images, noise = subsim.Student(inputs="images"), subsim.Student(inputs="gaussian")
    both, alone = study(students={"a": images, "b": noise}), study(students={"a": images})
    both.check(config, both.hyper)
    with pytest.raises(subsim.UserError, match=r"^a\.n_inputs is 77, but a\.inputs is images"):
        alone.check(config, alone.hyper)
    own = study(students={"a": subsim.Student(inputs="images", n_inputs=77), "b": noise})
    with pytest.raises(subsim.UserError, match=r"^a\.n_inputs is 77, but a\.inputs is images"):
        own.check(own.config, own.hyper)
