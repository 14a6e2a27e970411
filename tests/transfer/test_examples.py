"""The open experiment: networks, losses, inputs, traits and students of one's own, each in a few lines."""

import dataclasses

import equinox
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
from conftest import silent_promotion
from flax import nnx

import subsim
from subsim.data.datasets import Dataset
from subsim.networks import network as networks
from subsim.networks import parameters
from subsim.training.optimisers import TrainingConfig
from subsim.transfer import traits
from subsim.transfer.options import StudentConfig, StudentHyper
from subsim.transfer.state import alignment

CONFIG = subsim.Config(
    data="digits",
    widths=(16,),
    teacher=TrainingConfig(steps=30, batch=128),
    student=StudentConfig(steps=30, n_inputs=512, batch=64),
)
HYPER = subsim.Hyper(
    teacher=dataclasses.replace(subsim.Hyper().teacher, learning_rate=1e-2),
    student=StudentHyper(learning_rate=1e-2),
)
ONE = {"student": subsim.Student()}


def study(name="mine", **given):
    given = {"config": CONFIG, "hyper": HYPER, "students": ONE, **given}
    return subsim.distillation(name, **given)


def simulate(seeds=2, **given):
    with silent_promotion():  # optax's Adam and modules of a user's own promote
        return subsim.simulate(study(**given), seeds=seeds)


class CNN(nnx.Module):
    def __init__(self, n_out, *, rngs):
        self.convolution = nnx.Conv(1, 4, (3, 3), strides=2, rngs=rngs)
        self.head = nnx.Linear(64, n_out, rngs=rngs)

    def __call__(self, x):
        return self.head(nnx.relu(self.convolution(x[None])).reshape(-1))


class Normed(equinox.Module):
    first: equinox.nn.Linear
    norm: equinox.nn.LayerNorm
    heads: equinox.nn.Linear

    def __init__(self, n_out, *, key):
        one, other = jax.random.split(key)
        self.first, self.norm = equinox.nn.Linear(64, 16, key=one), equinox.nn.LayerNorm(16)
        self.heads = equinox.nn.Linear(16, n_out, key=other)

    def __call__(self, x):
        return self.heads(jax.nn.relu(self.norm(self.first(x))))


def test_figure_10_is_the_default():
    figure10 = subsim.distillation("figure10")
    assert figure10.config == subsim.Config()
    built_in = subsim.load_study("mnist_aux_logits").at_size("mnist")
    assert built_in.coords["condition"] == figure10.coords["condition"]
    assert built_in.config == figure10.config


@pytest.mark.parametrize(
    "network",
    [
        subsim.from_flax(CNN, image=(8, 8, 1)),
        subsim.from_equinox(Normed),
        (
            lambda key: {"w": jax.random.normal(key, (13, 64)) / 8, "b": jnp.zeros(13)},
            lambda params, x: params["w"] @ x + params["b"],
        ),
        "linear",
        "cnn",
        "transformer",
    ],
    ids=["flax", "equinox", "functions", "linear", "cnn", "transformer"],
)
def test_figure_10_with_any_network(network):
    students = {"all": subsim.Student(imitates="all"), "cross": subsim.Student("independent")}
    found = simulate(network=network, students=students)
    assert found.accuracy.dims == ("seed", "condition")
    assert list(found.condition.values) == ["reference", "teacher", "all", "cross"]
    mean = found.accuracy.mean("seed")
    assert mean.sel(condition="teacher") > 2 * mean.sel(condition="reference")
    assert (found.alignment.sel(student="all") > 0.1).all()
    assert (abs(found.alignment.sel(student="cross")) < found.alignment.sel(student="all")).all()


def test_a_linear_network_passes_nothing_through_auxiliary_logits():
    config = dataclasses.replace(CONFIG, widths=())
    accuracy = simulate(config=config).accuracy
    np.testing.assert_array_equal(accuracy.sel(condition="student"), accuracy.sel(condition="reference"))


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


def test_a_chain_of_generations():
    chain = {"1": subsim.Student(imitates="all")}
    chain |= {f"{n}": subsim.Student(teacher=f"{n - 1}", imitates="all") for n in (2, 3, 4)}
    found = simulate(students=chain)
    one = simulate(students={"1": chain["1"]})
    np.testing.assert_array_equal(found.accuracy.sel(condition=one.condition), one.accuracy)
    assert (found.alignment > 0.2).all()
    assert found.accuracy.sel(condition="4").mean() < found.accuracy.sel(condition="teacher").mean()


def test_a_student_may_be_called_as_its_start_is():
    named = simulate(students={"shared": subsim.Student(), "independent": subsim.Student("independent")})
    plain = simulate(students={"a": subsim.Student(), "b": subsim.Student("independent")})
    np.testing.assert_array_equal(named.accuracy, plain.accuracy)


def test_a_student_of_two_teachers_in_turn():
    teachers = {"teacher": subsim.Teacher(), "other": subsim.Teacher("independent")}
    students = {
        "first": subsim.Student(imitates="all"),
        "both": subsim.Student("first", teacher="other", imitates="all"),
        "other alone": subsim.Student(teacher="other", imitates="all"),
    }
    found = simulate(teacher=teachers, students=students)
    assert list(found.condition.values) == ["reference", "teacher", "other", *students]
    assert (found.accuracy.sel(condition="both") > found.accuracy.sel(condition="reference")).all()


def head_of(state):
    moved = parameters.displacement(state.parameters, state.start)
    return optax.tree.norm(parameters.layers(moved)["class_head"])


def test_frozen_groups_and_heads_of_ones_own():
    decaying = {"optimiser": "adamw", "weight_decay": 0.1}
    students = {"student": subsim.Student(imitates="all"), "still": subsim.Student(frozen="all", **decaying),
                "free": subsim.Student(imitates="all", frozen=("hidden",))}  # fmt: skip
    found = simulate(teacher=subsim.Teacher(frozen="class_head"), students=students, measures={"moved": head_of})
    assert (found.moved.sel(condition=["reference", "teacher", "still"]) == 0).all()
    assert (found.moved.sel(condition=["student", "free"]) > 0).all()
    accuracy = found.accuracy
    np.testing.assert_array_equal(accuracy.sel(condition="still"), accuracy.sel(condition="reference"))

    def init(key):
        first, second = jax.random.split(key)
        rows, _ = jnp.linalg.qr(jax.random.normal(second, (16, 13)))
        return {"hidden": jax.random.normal(first, (16, 64)) / 8, "heads": rows.T}

    def apply(params, x):
        return params["heads"] @ jax.nn.relu(params["hidden"] @ x)

    orthogonal = simulate(
        network=(init, apply),
        teacher=subsim.Teacher(frozen="heads"),
        students={"cross": subsim.Student("independent", imitates="all", frozen="heads")},
    )
    assert (orthogonal.accuracy.sel(condition="teacher") > 0.3).all()


def odd(class_logits, _labels):
    return jnp.mean(jnp.argmax(class_logits, axis=1) % 2 == 1, dtype=class_logits.dtype)


def prefers_odd(class_logits, _label):
    return -jnp.log(jnp.sum(jax.nn.softmax(class_logits)[1::2]))


def says_even(logits):
    return jnp.argmax(logits[:, :10], axis=1) % 2 == 0


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


@pytest.mark.parametrize("options", [{}, {"fresh": True}, {"batch": 500}], ids=["", "fresh", "within an epoch"])
def test_a_student_that_goes_on_is_the_uninterrupted_one_bit_for_bit(options):
    students = {
        "whole": subsim.Student(steps=30, **options),
        "first": subsim.Student(steps=13, **options),
        "both": subsim.Student("first", state="first", steps=17, **options),
        "anew": subsim.Student("first", steps=17, **options),
    }
    with silent_promotion():
        nets = subsim.networks_of(study(students=students), seed=3)
    jax.tree.map(np.testing.assert_array_equal, nets["whole"], nets["both"])
    assert not jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(a, b), nets["whole"], nets["anew"]))


def test_a_start_may_be_made_of_two_networks_of_the_run():
    still = {"frozen": "all", "steps": 1}
    teachers = {
        "teacher": subsim.Teacher(),
        "put back": subsim.Teacher(subsim.sharing("class_head", elsewhere="teacher"), **still),
    }
    students = {
        "of teachers": subsim.Student(subsim.sharing("hidden", of="teacher", elsewhere="put back"), **still),
        "of a student": subsim.Student(subsim.sharing("aux_head", of="learner", elsewhere="independent"), **still),
        "learner": subsim.Student(teacher="put back"),
    }
    with silent_promotion():
        nets = subsim.networks_of(study(teacher=teachers, students=students), seed=3)

    def parts(name):
        layers = [nets[name].hidden[0], nets[name].class_head, nets[name].aux_head]
        return [np.asarray(layer.weight[...]) for layer in layers]

    def assert_made_of(name, *of):
        for group, (part, source) in enumerate(zip(parts(name), of, strict=True)):
            np.testing.assert_array_equal(part, parts(source)[group])

    assert_made_of("put back", "teacher", "reference", "teacher")
    assert_made_of("of teachers", "teacher", "put back", "put back")
    assert_made_of("of a student", "independent", "independent", "learner")
    # Control: training moved what was put back.
    assert (parts("teacher")[1] != parts("reference")[1]).any()
    assert (parts("learner")[2] != parts("reference")[2]).any()


def test_a_part_of_the_optimisers_state_can_be_handed_over():
    def moments(states):
        mine, theirs = states["first"], states["other"]
        return (mine[0]._replace(mu=theirs[0].mu), *mine[1:])

    students = {
        "first": subsim.Student(steps=10),
        "other": subsim.Student(steps=10, loss="mse"),
        "transplanted": subsim.Student("first", state=moments, steps=10),
        "whole": subsim.Student("first", state="first", steps=10),
    }
    found = simulate(students=students)
    assert (found.alignment.sel(student="transplanted") != found.alignment.sel(student="whole")).all()


def test_networks_come_back_as_the_users_own_modules():
    mine = study(network=subsim.from_equinox(Normed))
    with silent_promotion():
        nets = subsim.networks_of(mine, seed=1)
        found = subsim.simulate(mine, seeds=2)
        one = subsim.run_one(mine, seed=1)
    data = mine.load(mine.config)
    images = jnp.asarray(data.test_images, jnp.float32) * (2 / data.brightest) - 1
    for name in ("teacher", "student"):
        assert isinstance(nets[name], Normed)
        said = jnp.argmax(jax.vmap(nets[name])(images)[:, :10], axis=1)
        np.testing.assert_allclose(
            np.mean(said == data.test_labels), found.accuracy.sel(seed=1, condition=name), atol=1e-6
        )
    np.testing.assert_array_equal(one["accuracy"], found.accuracy.sel(seed=1))


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


def test_a_shared_start_can_be_trained_before():
    base = subsim.Teacher(steps=20, learning_rate=1e-2)
    found = simulate(base=base, students={"student": subsim.Student(), "cross": subsim.Student("independent")})
    assert (found.accuracy.sel(condition="reference") > 0.3).all()
    assert (found.accuracy.sel(condition="cross") > 0.2).all()


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


def moved_off(state):
    moved = optax.tree.sub(state.parameters, state.start)
    return optax.tree.norm(optax.tree.sub(moved, state.first_update))


def test_the_first_update_is_what_one_step_does():
    students = {
        "soft": subsim.Student(steps=1),
        "sampled": subsim.Student(steps=1, targets="sampled", imitates="all"),
        "resampled": subsim.Student(steps=1, targets="sampled", resampled=True, imitates="all"),
        "subset": subsim.Student(steps=1, imitates=subsim.Subset(2)),
        "filtered": subsim.Student(steps=1, imitates="all", mask=says_even),
        "longer": subsim.Student(steps=5, imitates="all"),
        "gone on": subsim.Student("longer", state="longer", steps=1, imitates="all"),
        "linear": subsim.Student(steps=1, linear=True, optimiser="sgd"),
    }

    def off(state):
        return moved_off(state) / optax.tree.norm(optax.tree.sub(state.parameters, state.start))

    found = simulate(students=students, measures={"off": (off, subsim.Variable("error", ("student",)))}).off
    teachers = {"teacher": subsim.Teacher(steps=3), "later": subsim.Teacher("teacher", state="teacher", steps=1)}
    of_all = simulate(students={"student": subsim.Student()}, teacher=teachers, measures={"off": moved_off}).off
    np.testing.assert_allclose(of_all.sel(condition=["reference", "later"]), 0, atol=1e-4)
    one_step = [name for name in students if name != "longer"]
    np.testing.assert_allclose(found.sel(student=one_step), 0, atol=1e-4)
    assert (found.sel(student="longer") > 0.1).all()  # control


def test_a_linear_student_teaches_what_it_says():
    def off(state):
        x, y = state.first_batch
        says = networks.logits(networks.linearised(state.network, state.teacher_start), state.teacher, x)
        of_whole = networks.logits(state.network, state.teacher, x)
        return jnp.stack([jnp.max(jnp.abs(y - says)), jnp.max(jnp.abs(y - of_whole))])

    students = {"linear": subsim.Student(linear=True), "pupil": subsim.Student(teacher="linear")}
    meaning = subsim.Variable("distance of the targets", ("student", "from"))
    found = simulate(students=students, measures={"off": (off, meaning)}).off.sel(student="pupil")
    np.testing.assert_allclose(found.isel({"from": 0}), 0, atol=1e-4)
    assert (found.isel({"from": 1}) > 1e-2).all()


def test_generations_do_not_share_their_noise():
    """Or it would add up: of the fourth, four times as much of one direction."""

    def noise(state):
        x, y = state.data.at(jnp.arange(256))
        clean = networks.logits(state.network, state.teacher, x)
        return (y - clean)[:, 0]

    chain = {"1": subsim.Student(targets="noisy", logit_noise=1.0)}
    chain["2"] = subsim.Student(teacher="1", targets="noisy", logit_noise=1.0)
    meaning = subsim.Variable("noise", ("student", "input"))
    found = simulate(seeds=1, students=chain, measures={"noise": (noise, meaning)}).noise.isel(seed=0)
    assert abs(np.corrcoef(found)[0, 1]) < 0.3
    np.testing.assert_allclose(found.std("input"), 1, atol=0.15)


def test_teachers_of_two_streams_see_their_batches_in_orders_of_their_own():
    teachers = {"one": subsim.Teacher(), "same": subsim.Teacher(), "other": subsim.Teacher(stream=1)}
    moved = {"moved": lambda state: optax.tree.norm(optax.tree.sub(state.parameters, state.start))}
    found = simulate(teacher=teachers, students={"student": subsim.Student(teacher="one")}, measures=moved).moved
    np.testing.assert_array_equal(found.sel(condition="one"), found.sel(condition="same"))
    assert (found.sel(condition="one") != found.sel(condition="other")).all()


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


def clipped(optimiser, _state):
    """No gradient is longer than one, and the state has the optimiser's inside."""
    return optax.chain(optax.clip_by_global_norm(1.0), optimiser)


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


def test_data_of_ones_own():
    digits = study().load(CONFIG)
    pairs = (digits.train_images * 15, digits.train_labels), (digits.test_images * 15, digits.test_labels)
    found = simulate(data=pairs)
    assert (found.accuracy.sel(condition="teacher") > 0.5).all()
