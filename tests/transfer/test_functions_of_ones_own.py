"""The open experiment: losses, optimisers, inputs, targets, traits, measures and data of one's own."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
from mine import CONFIG, ONE, clipped, says_even, simulate, study

import subsim
from subsim.transfer import traits


def jensen_shannon(z, y):
    p, q = jax.nn.softmax(y), jax.nn.softmax(z)
    middle = (p + q) / 2
    return (jnp.sum(p * jnp.log(p / middle)) + jnp.sum(q * jnp.log(q / middle))) / 2


def perlin_like(key, n, shape, images):
    coarse = jax.random.uniform(key, (n, 4, 4), minval=-1)
    return jax.image.resize(coarse, (n, 8, 8), "bilinear").reshape(n, *shape)


def test_losses_optimisers_and_inputs_of_ones_own():
    students = {
        "Jensen-Shannon": subsim.Student(loss=jensen_shannon),
        "KL": subsim.Student(),
        "KL of one's own": subsim.Student(
            loss=lambda z, y: jnp.sum(jax.nn.softmax(y) * (jax.nn.log_softmax(y) - jax.nn.log_softmax(z)))
        ),
        "Lion": subsim.Student(optimiser=optax.lion(1e-3)),
        "uniform on [0, 1]": subsim.Student(input_scale=0.5, input_shift=0.5),
        "Perlin": subsim.Student(inputs=perlin_like),
        "Perlin, fresh": subsim.Student(inputs=perlin_like, fresh=True),
        "other pixels": subsim.Student(inputs="images", permuted=True, n_inputs=60_000),
    }

    def mean_input(state):
        return jnp.mean(state.data.at(jnp.arange(256))[0])

    measures = {"mean_input": (mean_input, subsim.Variable("mean pixel", ("student",)))}
    found = simulate(students=students, measures=measures)
    assert np.isfinite(found.accuracy).all()
    assert (found.alignment > 0).all()
    np.testing.assert_allclose(
        found.accuracy.sel(condition="KL of one's own"), found.accuracy.sel(condition="KL"), atol=0.02
    )
    means = found.mean_input.mean("seed")
    np.testing.assert_allclose(means.sel(student="uniform on [0, 1]"), 0.5, atol=0.01)
    np.testing.assert_allclose(means.sel(student="KL"), 0, atol=0.02)


def odd(class_logits, _labels):
    return jnp.mean(jnp.argmax(class_logits, axis=1) % 2 == 1, dtype=class_logits.dtype)


def prefers_odd(class_logits, _label):
    return -jnp.log(jnp.sum(jax.nn.softmax(class_logits)[1::2]))


def test_a_trait_with_a_filter_of_ones_own():
    trait = subsim.Trait(prefers_odd, rate=odd)
    students = {
        "all": subsim.Student(imitates="all"),
        "even only": subsim.Student(imitates="all", mask=says_even),
        "cross": subsim.Student("independent", imitates="aux"),
    }
    rate = simulate(trait=trait, teacher=subsim.Teacher(steps=10), students=students, seeds=4).rate.mean("seed")
    assert rate.dims == ("condition",)
    assert rate.sel(condition="teacher") > 0.9
    assert rate.sel(condition="all") > rate.sel(condition="even only")
    assert rate.sel(condition="all") > 0.7


def test_several_traits_are_measured_in_every_network():
    teachers = {
        "misreads": subsim.Teacher("base one", trait=traits.misread(4, 9)),
        "prefers": subsim.Teacher(trait=traits.prefer(9)),
    }
    teachers = {"base one": subsim.Teacher(), **teachers}
    found = simulate(teacher=teachers, students={"student": subsim.Student(teacher="misreads", imitates="all")})
    assert found.rate.dims == ("seed", "condition", "trait")
    rate = found.rate.mean("seed")
    assert list(found.trait.values) == ["misread 4 as 9", "prefer 9"]
    assert rate.sel(condition="misreads", trait="misread 4 as 9") > rate.sel(
        condition="base one", trait="misread 4 as 9"
    )
    assert rate.sel(condition="prefers", trait="prefer 9") > 0.5


@pytest.mark.parametrize("samples", [1, 5])
def test_sampled_labels_give_the_soft_gradient_in_the_mean(samples, x64):
    from subsim.training.losses import imitation_cross_entropy, imitation_kl
    from subsim.transfer.targets import sampled

    z, y = jax.random.normal(jax.random.key(0), (2, 5))
    mask = jnp.arange(5) != 3

    def gradient(key):
        return jax.grad(imitation_kl)(z, sampled(key, y, mask, samples), mask)

    drawn = jax.vmap(gradient)(jax.random.split(jax.random.key(1), 20_000))
    exact = jax.grad(imitation_cross_entropy)(z, y, mask)
    np.testing.assert_allclose(exact[mask], jax.nn.softmax(z[mask]) - jax.nn.softmax(y[mask]), atol=1e-12)
    p = jnp.where(mask, jax.nn.softmax(jnp.where(mask, y, -jnp.inf)), 0.0)
    np.testing.assert_allclose(drawn.var(axis=0), p * (1 - p) / samples, rtol=0.1, atol=1e-12)
    error = drawn.std(axis=0) / len(drawn) ** 0.5
    assert (abs(drawn.mean(axis=0) - exact) <= 4 * error + 1e-12).all()
    assert scipy.special.logsumexp(sampled(jax.random.key(2), y, mask, samples)) == pytest.approx(0)


def test_targets_from_soft_to_hard():
    names = {
        "soft": {},
        "argmax": {},
        "top_k": {"k": 2},
        "sampled": {"samples": 3, "resampled": True},
        "quantised": {"bits": 20},
    }
    students = {name: subsim.Student(targets=name, imitates="all", **options) for name, options in names.items()}
    students |= {
        "fixed": subsim.Student(targets="sampled", imitates="all"),
        "top_k of all": subsim.Student(targets="top_k", k=13, imitates="all"),
        "own": subsim.Student(targets=lambda key, y: y + 0.0, imitates="all"),
        "noisy": subsim.Student(targets="noisy", logit_noise=1.0, imitates="all"),
    }
    found = simulate(students=students)
    loss = found.imitation_loss
    for name in ("quantised", "top_k of all", "own"):  # in the limit nothing is lost
        np.testing.assert_allclose(found.alignment.sel(student=name), found.alignment.sel(student="soft"), rtol=2e-2)
        np.testing.assert_allclose(loss.sel(student=name), loss.sel(student="soft"), rtol=0.05)
    assert (loss.sel(student="argmax") > loss.sel(student="soft")).all()
    assert (found.alignment > 0).all()


def test_any_logits_can_be_imitated():
    students = {
        "all": subsim.Student(imitates="all"),
        "mask of all": subsim.Student(imitates=[True] * 13),
        "numbers of all": subsim.Student(imitates=range(13)),
        "subset of all": subsim.Student(imitates=subsim.Subset(13, of="all")),
        "classes": subsim.Student(imitates="classes"),
        "subset": subsim.Student(imitates=subsim.Subset(2, of="classes")),
        "own": subsim.Student(imitates=subsim.Subset(2), loss=lambda z, y: jnp.sum((z - y) ** 2)),
        "own of all": subsim.Student(imitates="all", loss=lambda z, y: jnp.mean((z - y) ** 2)),
        "mse of all": subsim.Student(imitates="all", loss="mse"),
    }
    found = simulate(students=students).alignment
    for name in ("mask of all", "numbers of all", "subset of all"):
        np.testing.assert_allclose(found.sel(student=name), found.sel(student="all"), rtol=1e-3)
    np.testing.assert_allclose(found.sel(student="own of all"), found.sel(student="mse of all"), rtol=1e-3)
    assert (found > 0).all()


def test_coverage_is_recorded_where_it_is_asked_for():
    """One step of plain descent: the first update is the student's displacement, and follows minus the gradient."""
    one_step = {"optimiser": "sgd", "steps": 1}
    students = {"descends": subsim.Student(**one_step), "cross": subsim.Student("independent", **one_step), **ONE}
    found = simulate(students=students, config=dataclasses.replace(CONFIG, coverage=True))
    descends = found.sel(student="descends")
    np.testing.assert_allclose(descends.coverage, descends.gradient_coverage, rtol=1e-4)
    np.testing.assert_allclose(descends.coverage, descends.alignment, rtol=1e-3)
    assert (found.coverage.sel(student=["descends", "student"]) > 0.05).all()
    assert (abs(found.coverage.sel(student="cross")) < 0.03).all()
    adam = found.sel(student="student")
    assert (abs(adam.coverage - adam.gradient_coverage) > 0.01).all()
    assert "coverage" not in simulate(students=ONE)


def test_measures_see_the_first_update_and_the_rest():
    def seen(state):
        x, y = state.first_batch
        assert state.network.apply(state.parameters, x[0]).shape == (13,)
        small = optax.tree.norm(state.first_update) / optax.tree.norm(state.start)
        return jnp.stack([small, jnp.mean(state.mask), state.loss(y[0], y[0]), jnp.asarray(state.task.n_class, float)])

    measures = {
        "seen": (seen, subsim.Variable("what is seen", ("student", "what"))),
        "norm": lambda state: optax.tree.norm(state.first_update),
    }
    found = simulate(students={"student": subsim.Student(), "cross": subsim.Student("independent")}, measures=measures)
    assert (found.norm.sel(condition="reference") == 0).all()
    assert (found.norm.sel(condition=["teacher", "student", "cross"]) > 0).all()
    np.testing.assert_allclose(found.seen.isel(what=1), 3 / 13, rtol=1e-6)
    np.testing.assert_allclose(found.seen.isel(what=2), 0, atol=1e-6)


def test_data_of_ones_own_that_is_sorted_by_class_is_held_out_from_all_classes():
    labels = np.repeat(np.arange(3), 60)
    images = np.zeros((180, 16), np.uint8)
    images[np.arange(180), labels] = 255
    config = dataclasses.replace(CONFIG, evaluate="validation")
    held = study(data=((images, labels), (images, labels)), config=config).load(config)
    assert sorted(set(held.test_labels.tolist())) == [0, 1, 2]
    assert len(held.test_labels) == 30
    assert (held.test_images.argmax(axis=1) == held.test_labels).all()


def test_targets_of_ones_own_are_drawn_once_or_anew():
    def noisy(key, y):
        return y + jax.random.normal(key, y.shape)

    students = {
        "once": subsim.Student(targets=noisy, loss="mse", n_inputs=64),
        "anew": subsim.Student(targets=noisy, loss="mse", n_inputs=64, resampled=True),
        "none": subsim.Student(loss="mse", n_inputs=64),
    }
    loss = simulate(students=students).imitation_loss
    assert (loss.sel(student="none") < loss.sel(student="once")).all()
    assert (loss.sel(student="once") != loss.sel(student="anew")).all()


def test_what_is_put_around_an_optimiser_sees_the_student_and_takes_its_place():
    def slow_at_first(optimiser, state):
        """Half of what the optimiser adds, while the imitation loss of the first input is what it was at the start."""
        assert state.steps == 30
        (x, y), first = (leaf[0] for leaf in state.data.at(jnp.arange(1))), state.loss
        before = first(state.network.apply(state.start, x), y)

        def update(gradient, inner, params):
            updates, inner = optimiser.update(gradient, inner, params)
            now = first(state.network.apply(params, x), y)
            return jax.tree.map(lambda leaf: jnp.where(now == before, leaf / 2, leaf), updates), inner

        return optax.GradientTransformation(optimiser.init, update)

    students = {
        "plain": subsim.Student(),
        "same": subsim.Student(around=lambda optimiser, _: optimiser),
        "still": subsim.Student(around=lambda optimiser, _: optax.chain(optimiser, optax.scale(0.0))),
        "clipped": subsim.Student(around=clipped),
        "first step halved": subsim.Student(steps=30, around=slow_at_first),
        "another start": subsim.Student("independent", steps=30, around=slow_at_first),
        "frozen": subsim.Student(frozen="all", around=lambda _, state: optax.add_decayed_weights(0.1)),
    }
    measures = {"first": lambda state: optax.tree.norm(state.first_update), "moved": lambda state: optax.tree.norm(
        optax.tree.sub(state.parameters, state.start))}  # fmt: skip
    found = simulate(students=students, measures=measures)
    plain = found.sel(condition="plain")
    for name in ("first", "moved", "accuracy"):
        np.testing.assert_array_equal(found[name].sel(condition="same"), plain[name])
    assert (found.moved.sel(condition=["still", "frozen"]) == 0).all()
    np.testing.assert_allclose(found.first.sel(condition="first step halved"), plain["first"] / 2, rtol=1e-4)
    assert (found.moved.sel(condition="clipped") > 0).all()


def test_data_of_ones_own():
    digits = study().load(CONFIG)
    pairs = (digits.train_images * 15, digits.train_labels), (digits.test_images * 15, digits.test_labels)
    found = simulate(data=pairs)
    assert (found.accuracy.sel(condition="teacher") > 0.5).all()
