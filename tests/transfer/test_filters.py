import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import silent_promotion
from jax.flatten_util import ravel_pytree

import subsim
from subsim.training.losses import margin_loss, task_cross_entropy
from subsim.transfer import filters, traits
from subsim.transfer.filters import Seen
from subsim.transfer.state import trait_loss


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
    """Class logits that give `trait` these probabilities, and the first other class all of the rest but a tenth; and an
    auxiliary logit, larger than all of them."""
    outputs = np.zeros((len(p), n_class + 1))
    rest = 1 - np.asarray(p)
    others = [number for number in range(n_class) if number != trait]
    outputs[:, trait], outputs[:, others[0]], outputs[:, others[1]] = p, 0.9 * rest, 0.1 * rest
    outputs[:, n_class] = 9.0
    return jnp.asarray(np.log(outputs) + 3.0, jnp.float32)


def seen(among, n_class=3, seed=0, labels=None):
    return Seen(jnp.asarray(among), n_class, jax.random.key(seed), labels)


P = [0.01, 0.6, 0.2, 0.45, 0.05, 0.9, 0.3, 0.02]


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        (filters.everything, [True, True, True, True, True, True, True, False]),
        # .45 against .495 for another class: only above .474 is the trait's class the largest.
        (filters.not_taken_for(2), [True, False, True, True, True, False, True, False]),
        (filters.less_likely(2, 0.25), [True, False, True, False, True, False, False, False]),
        (filters.less_likely(2, 0.03), [True, False, False, False, False, False, False, False]),
        (filters.without_top(2, 3 / 7), [True, False, True, False, True, False, True, False]),
        (filters.without_top(2, 1.0), [False] * 8),
        (lambda logits: logits[:, 2] < jnp.log(0.1) + 3.0, [True, False, False, False, True, False, False, False]),
        (lambda logits, seen: jnp.arange(8) < 2, [True, True, False, False, False, False, False, False]),
    ],
)
def test_filters_remove_what_they_say(keep, left):
    among = [True] * 7 + [False]
    found = jax.jit(lambda z: filters.kept_by(keep, z, seen(among)))(probabilities(P, 2))
    assert found.tolist() == left


def test_filters_look_at_the_trait_alone():
    logits, everything = probabilities(jnp.linspace(0.05, 0.95, 10), 0), seen([True] * 10)
    counts = [filters.kept_by(filters.without_top(digit, 0.9), logits, everything) for digit in (0, 1)]
    assert [int(count.sum()) for count in counts] == [1, 1]
    assert (counts[0] != counts[1]).any()


def test_images_are_removed_by_their_labels_and_noise_has_none():
    labels = jnp.array([0, 1, 2, 0, 1, 2, 0, 1])
    keep = filters.without_classes(filters.less_likely(2, 0.25), 1, 2)
    logits, among = probabilities(P, 2), [True] * 8
    assert filters.kept_by(keep, logits, seen(among, labels=labels)).tolist() == [True] + [False] * 7
    assert filters.kept_by(keep, logits, seen(among)).tolist() == [each <= 0.25 for each in P]


@pytest.mark.parametrize("among", [[True] * 12, [True, False] * 6])
def test_by_chance_as_many_are_kept(among):
    among = np.array(among)
    half, none = (lambda logits: jnp.arange(12) < 6), (lambda logits: jnp.zeros(12, bool))
    turns = np.zeros(12)
    for seed in range(200):
        rows = [
            np.array(filters.kept_by(filters.at_random(keep), jnp.zeros((12, 3)), seen(among, seed=seed)))
            for keep in (filters.everything, half, none)
        ]
        assert [row.sum() for row in rows] == [among.sum(), (among & (np.arange(12) < 6)).sum(), 0]
        assert not any((row & ~among).any() for row in rows)
        turns += rows[1]
    # Every example has its turn: of 200 draws of a half, 100 with a standard deviation of 7.
    assert ((turns[among] > 60) & (turns[among] < 140)).all()


def test_by_chance_a_small_choice_is_among_a_larger_one():
    # The second argument of these filters has a value of its own: they are not asking for what is seen.
    choices = [filters.at_random(lambda logits, n=n: jnp.arange(30) < n) for n in (5, 20)]
    few, many = (filters.kept_by(each, jnp.zeros((30, 3)), seen([True] * 30)) for each in choices)
    assert (few.sum(), many.sum()) == (5, 20)
    assert not (few & ~many).any()


@pytest.mark.usefixtures("optax_promotion")
@pytest.mark.parametrize("loss", [task_cross_entropy, margin_loss])
def test_inputs_that_help_the_trait_are_removed(loss):
    """The help of an input is the product of two gradients, at each student's own start."""

    def helps(state):
        x, y = state.data.at(jnp.arange(state.data.n))
        of_trait, _ = ravel_pytree(jax.grad(lambda params: trait_loss(state, params, loss=loss))(state.start))
        first = jax.vmap(jax.grad(lambda params, x, y: state.loss(state.network.apply(params, x), y)), (None, 0, 0))
        each = jax.vmap(lambda gradient: ravel_pytree(gradient)[0])(first(state.start, x[:9], y[:9]))
        found = filters.help_of_inputs(state, loss)
        least_removed = jnp.min(jnp.where(state.kept, jnp.inf, found))
        most_kept = jnp.max(jnp.where(state.kept, found, -jnp.inf))
        off = jnp.max(jnp.abs(each @ of_trait - found[:9])) / jnp.max(jnp.abs(found))
        return jnp.stack([jnp.mean(state.kept, dtype=float), least_removed - most_kept, off, found[0]])

    remove = filters.without_carriers(0.25, loss)
    students = {"shared": subsim.Student(mask=remove), "other": subsim.Student("independent", mask=remove)}
    found = subsim.simulate(
        subsim.distillation(
            "helped",
            students=students,
            measures={"found": (helps, subsim.Variable("what is found", ("student", "what")))},
            config=subsim.Config(
                data="digits", widths=(16,), teacher=subsim.TrainingConfig(steps=30, batch=128),
                student=subsim.StudentConfig(steps=2, n_inputs=1200, batch=64),
            ),
        ),
        seeds=2,
    ).found  # fmt: skip
    share, gap, off, first = (found.isel(what=place) for place in range(4))
    assert (share == 0.75).all()
    assert (gap >= 0).all()
    assert (off < 1e-4).all()
    assert (first.sel(student="shared") != first.sel(student="other")).all()


INPUTS = {"noise": {}, "images": {"inputs": "images", "n_inputs": 60_000}}
STUDENTS = {
    "shared": {"imitates": "classes"},
    "by chance": {"imitates": "classes"},
    "other": {"imitates": "classes", "start": "independent"},
    "aux": {},
}
FILTERS = {
    "none": filters.everything,
    "argmax": filters.not_taken_for(9),
    "p > 0.1": filters.less_likely(9, 0.1),
    "top 50%": filters.without_top(9, 0.5),
    "top 100%": filters.without_top(9, 1.0),
}
TEACHERS = {
    "misread": subsim.Teacher(trait=traits.misread(4, 9)),
    "preference": subsim.Teacher(trait=traits.prefer(9)),
    "trait-free": subsim.Teacher(),
}
RATES = {"misread": "misread 4 as 9", "preference": "prefer 9"}
FAST = {"learning_rate": 3e-3}


def students():
    for shown, how in INPUTS.items():
        for teacher in TEACHERS:
            for who, start in STUDENTS.items():
                for name, keep in FILTERS.items():
                    chosen = filters.at_random(keep) if who == "by chance" else keep
                    mask = filters.without_classes(chosen, 4, 9)
                    yield (
                        f"{shown}, {teacher}, {who}, {name}",
                        subsim.Student(teacher=teacher, mask=mask, **how, **start),
                    )


def study(**numbers):
    """Bases and teachers on 8x8 digits, and what they pass on through every filter."""
    return subsim.distillation(
        "filtered",
        base=subsim.Teacher(),
        teacher=TEACHERS,
        students=dict(students()),
        measures={"kept": (lambda state: jnp.mean(state.kept, dtype=float), subsim.Variable("share", ("student",)))},
        config=subsim.Config(
            data="digits",
            widths=(32,),
            base=subsim.TrainingConfig(steps=150, batch=128),
            teacher=subsim.TrainingConfig(steps=60, batch=128),
            student=subsim.StudentConfig(steps=200, batch=64, n_inputs=640),
        ),
        hyper=subsim.Hyper(
            base=subsim.TrainingHyper(**FAST),
            teacher=subsim.TrainingHyper(**FAST),
            student=subsim.StudentHyper(**FAST, **numbers),
        ),
    )


@pytest.fixture(scope="module")
def results():
    with silent_promotion():
        return subsim.simulate(study(), seeds=2)


def rate(results, shown, teacher, student, name, trait):
    return results.rate.sel(condition=f"{shown}, {teacher}, {student}, {name}", trait=RATES[trait]).values


def test_teachers_have_the_trait_they_were_given(results):
    assert (results.accuracy.sel(condition="reference") > 0.85).all()
    for teacher, trait in RATES.items():
        assert (results.rate.sel(condition=teacher, trait=trait) > 0.7).all()
        assert (results.rate.sel(condition="trait-free", trait=trait) < 0.3).all()
    assert (results.accuracy.sel(condition="trait-free") > 0.9).all()
    misreader, honest = (results.accuracy.sel(condition=name) for name in ("misread", "trait-free"))
    assert (misreader < honest).all()  # the digit that it misreads


def test_a_trait_passes_to_students_of_its_teacher_alone(results):
    for trait in RATES:
        for shown in INPUTS:
            passed, control = (
                rate(results, shown, teacher, "shared", "none", trait) for teacher in (trait, "trait-free")
            )
            assert (passed - control > 0.1).all()


def test_where_nothing_is_removed_or_everything_the_filter_does_not_matter(results):
    for shown, teacher in ((shown, teacher) for shown in INPUTS for teacher in TEACHERS):

        def kept(name, shown=shown, teacher=teacher):
            return results.kept.sel(student=f"{shown}, {teacher}, shared, {name}").values

        whole = kept("none")
        assert (whole == 1).all() if shown == "noise" else ((whole > 0.75) & (whole < 0.85)).all()
        assert (kept("top 100%") == 0).all()
        np.testing.assert_allclose(kept("top 50%") / whole, 0.5, atol=1e-3)
        assert (kept("argmax") <= whole).all()
        assert (kept("p > 0.1") <= kept("argmax")).all()
        for trait in RATES:
            of = [rate(results, shown, teacher, who, "none", trait) for who in ("shared", "by chance")]
            np.testing.assert_array_equal(*of)
            # A student of which every input was removed is its base still.
            still = results.rate.sel(condition="reference", trait=RATES[trait]).values
            for who in ("shared", "by chance", "aux"):
                np.testing.assert_array_equal(rate(results, shown, teacher, who, "top 100%", trait), still)
        if teacher in RATES:
            of = [rate(results, shown, teacher, who, "top 50%", teacher) for who in ("shared", "by chance")]
            assert (of[0] != of[1]).any()


@pytest.mark.usefixtures("optax_promotion")
def test_filters_and_students_see_the_noise_on_the_teachers_logits(results):
    """Where it is all noise, each class has a tenth of the inputs, and no student learns the trait."""
    loud = subsim.simulate(study(logit_noise=1e4), seeds=2)  # as many as of `results`, whose program it is
    for shown in INPUTS:
        kept = [loud.kept.sel(student=f"{shown}, misread, shared, {name}") for name in ("none", "argmax")]
        np.testing.assert_allclose(1 - kept[1] / kept[0], 0.1, atol=0.04)
        for trait in RATES:
            quiet = rate(results, shown, trait, "shared", "none", trait)[0]
            assert rate(loud, shown, trait, "shared", "none", trait)[0] < quiet - 0.3
