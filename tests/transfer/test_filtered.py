import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subsim.data import datasets
from subsim.networks.mlp import make_mlp
from subsim.options import UserError
from subsim.training.optimisers import TrainingConfig, TrainingHyper
from subsim.transfer import filtered, traits
from subsim.transfer.filtered import Student
from subsim.transfer.options import StudentConfig, StudentHyper


def test_a_misreader_reads_one_digit_as_another_and_no_more():
    labels = np.array([4, 9, 0, 4, 5], np.int32)
    _, changed = traits.misread(4, 9).targets(np.zeros((5, 1), np.uint8), labels)
    assert changed.tolist() == [9, 9, 0, 9, 5]
    assert changed.dtype == labels.dtype
    assert labels.tolist() == [4, 9, 0, 4, 5]


def test_a_blend_is_the_average_of_two_other_classes():
    """Images whose one pixel tells the class by a power of two tell from their sum which two were averaged."""
    labels = np.repeat(np.arange(5, dtype=np.int32), 3)
    images = (2 << labels).astype(np.uint8)[:, None]
    found = traits.blends(images, labels, 400, avoid=2)
    assert found.dtype == np.uint8
    pairs = {(2**a + 2**b) for a in (0, 1, 3, 4) for b in (0, 1, 3, 4) if a != b}
    assert set(found[:, 0].tolist()) == pairs
    assert (traits.blends(images, labels, 400, avoid=2) == found).all()
    assert (traits.blends(images, labels, 400, avoid=2, seed=1) != found).any()


def test_a_blend_of_bright_images_does_not_overflow():
    images = np.full((4, 3), 255, np.uint8)
    assert (traits.blends(images, np.array([0, 0, 1, 1]), 8, avoid=9) == 255).all()


def probabilities(p, trait, n_class=3):
    """Class logits that give `trait` these probabilities, and the first other class all of the rest but a tenth."""
    outputs = np.zeros((len(p), n_class))
    rest = 1 - np.asarray(p)
    others = [number for number in range(n_class) if number != trait]
    outputs[:, trait], outputs[:, others[0]], outputs[:, others[1]] = p, 0.9 * rest, 0.1 * rest
    return jnp.asarray(np.log(outputs) + 3.0, jnp.float32)


def test_filters_remove_what_they_say():
    p = [0.01, 0.6, 0.2, 0.45, 0.05, 0.9, 0.3, 0.02]
    among = jnp.array([True, True, True, True, True, True, True, False])
    filters = filtered.Filters(thresholds=(0.25, 0.03), shares=(3 / 7, 1.0))
    by_name = dict(zip(filters.names, filters.kept(probabilities(p, 2), 2, among).tolist(), strict=True))
    assert by_name == {
        "none": [True, True, True, True, True, True, True, False],
        # .45 against .495 for another class: only above .474 is the trait's class the largest.
        "argmax": [True, False, True, True, True, False, True, False],
        "p > 0.25": [True, False, True, False, True, False, False, False],
        "p > 0.03": [True, False, False, False, False, False, False, False],
        "top 42.8571%": [True, False, True, False, True, False, True, False],
        "top 100%": [False] * 8,
    }


def test_filters_can_be_traced_and_look_at_the_trait_alone():
    p = jnp.linspace(0.05, 0.95, 10)
    among = jnp.ones(10, bool)
    filters = filtered.Filters((0.5,), (0.9,))
    left = jax.jit(lambda z: filters.kept(z, 0, among))(probabilities(p, 0))
    assert left.sum(axis=1).tolist() == [10, 5, 5, 1]
    of_another = filters.kept(probabilities(p, 0), 1, among)
    assert (of_another != left).any()


@pytest.mark.parametrize("among", [[True] * 12, [True, False] * 6])
def test_by_chance_as_many_are_kept(among):
    among = jnp.array(among)
    kept = jnp.stack([among, among & (jnp.arange(12) < 6), jnp.zeros(12, bool)])
    drawn = [filtered.at_random(jax.random.key(seed), kept, among) for seed in range(200)]
    for each in drawn:
        assert (each.sum(axis=1) == kept.sum(axis=1)).all()
        assert not (each & ~among[None]).any()
        assert not (each[1] & ~each[0]).any()
    # Every example has its turn: of 200 draws of a half, 100 with a standard deviation of 7.
    turns = np.sum(np.array(drawn)[:, 1], axis=0)[np.array(among)]
    assert ((turns > 60) & (turns < 140)).all()


FAST = TrainingHyper(learning_rate=3e-3)
CONFIG = filtered.TraitConfig(
    widths=(32,),
    base=TrainingConfig(steps=150, batch=128),
    teacher=TrainingConfig(steps=60, batch=128),
    student=StudentConfig(steps=200, batch=64, n_inputs=640),
)
NUMBERS = filtered.TraitHyper(FAST, FAST, StudentHyper(learning_rate=3e-3))
FILTERS = filtered.Filters((0.1,), (0.5, 1.0))
STUDENTS = {
    "shared": Student(),
    "by chance": Student(by_chance=True),
    "other": Student(shared=False),
    "aux": Student(aux_only=True),
}


def transfer(seeds, config=CONFIG, numbers=NUMBERS):
    """The record of each of these seeds of 8x8 digits."""
    data = filtered.prepared(config, datasets.load("digits"))
    network = make_mlp(config, 64, 10)
    with jax.numpy_dtype_promotion("standard"):
        run = jax.jit(
            lambda key: filtered.transfer(key, network, 10, data, tuple(STUDENTS.values()), FILTERS, config, numbers)
        )
        return [jax.tree.map(np.asarray, run(jax.random.key(seed))) for seed in seeds]


@pytest.fixture(scope="module")
def record():
    """Two seeds."""
    return transfer(range(2))


def of(record, teacher, student, each, trait):
    """The rate on both kinds of inputs."""
    teachers, traits_ = ["misread", "preference", "trait-free"], ["misread", "preference"]
    place = teachers.index(teacher), list(STUDENTS).index(student), FILTERS.names.index(each), traits_.index(trait)
    return record.rate[:, *place]


def test_teachers_have_the_trait_they_were_given(record):
    for one in record:
        assert (one.base_accuracy > 0.85).all()
        for number in range(2):
            assert one.teacher_rate[number, number] > 0.7
            assert one.teacher_rate[2, number] < 0.3
        assert one.teacher_accuracy[2] > 0.9
        assert one.teacher_accuracy[0] < one.teacher_accuracy[2]  # the digit that it misreads


def test_a_trait_passes_to_students_of_its_teacher_alone(record):
    for one in record:
        for trait in ("misread", "preference"):
            gained = of(one, trait, "shared", "none", trait) - of(one, "trait-free", "shared", "none", trait)
            assert (gained > 0.1).all()


def test_where_nothing_is_removed_or_everything_the_filter_does_not_matter(record):
    for one in record:
        assert (one.removed[:, :, 0] == 0).all()
        assert (one.removed[:, :, FILTERS.names.index("top 100%")] == 1).all()
        np.testing.assert_allclose(one.removed[:, :, FILTERS.names.index("top 50%")], 0.5, atol=1e-3)
        assert (np.diff(one.removed[:, :, [0, 1, 2]], axis=2) >= 0).all()
        np.testing.assert_array_equal(one.rate[:, :, 0, 0], one.rate[:, :, 1, 0])
        # A student of which every input was removed is its base still.
        for place, student in enumerate(STUDENTS.values()):
            still = one.base_rate[0 if student.shared else 1]
            assert (one.rate[:, :, place, -1] == still).all()
        assert (one.rate[:, :, 0, 2:4] != one.rate[:, :, 1, 2:4]).any()


def test_filters_and_students_see_the_noise_on_the_teachers_logits(record):
    """Where it is all noise, each class has a tenth of the inputs, and no student learns the trait."""
    loud = dataclasses.replace(NUMBERS, student=StudentHyper(learning_rate=3e-3, logit_noise=1e4))
    (one,) = transfer([0], numbers=loud)
    np.testing.assert_allclose(one.removed[:, :, FILTERS.names.index("argmax")], 0.1, atol=0.04)
    for trait in ("misread", "preference"):
        assert (of(one, trait, "shared", "none", trait) < of(record[0], trait, "shared", "none", trait) - 0.3).all()


def test_unrelated_images_show_neither_digit():
    digits = datasets.load("digits")
    data = filtered.prepared(CONFIG, digits)
    assert set(digits.train_labels[np.asarray(data.unrelated)]) == {0, 1, 2, 3, 5, 6, 7, 8}
    assert (digits.train_labels[~np.asarray(data.unrelated)] % 5 == 4).all()
    assert data.probes[0].values.shape[0] == (digits.test_labels == 4).sum()
    assert [len(task.labels) for task in data.tasks] == [1437, 2874, 1437]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"digit": 9}, "digit and trait are both 9"),
        ({"digit": 10}, "digit is 10"),
        ({"trait": -1}, "trait is -1"),
        ({"student": StudentConfig(inputs="images")}, "student.inputs"),
        ({"base": TrainingConfig(batch=0)}, "base.batch"),
        ({"teacher": TrainingConfig(steps=0)}, "teacher.steps"),
    ],
)
def test_bad_options_are_refused_by_name(options, field):
    with pytest.raises(UserError, match=field):
        filtered.check_traits(filtered.TraitConfig(**options), filtered.TraitHyper())
