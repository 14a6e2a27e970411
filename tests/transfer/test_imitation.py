import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subsim.data.inputs import Bank, columns, image_bank, uniform_noise
from subsim.networks.mlp import MLPConfig, make_mlp
from subsim.options import UserError
from subsim.training.loop import train
from subsim.training.losses import imitated_logits
from subsim.training.optimisers import TrainingConfig, TrainingHyper
from subsim.transfer import imitation
from subsim.transfer.imitation import Task
from subsim.transfer.options import StudentConfig, StudentHyper, check_student
from subsim.transfer.rule import Rule
from subsim.transfer.students import Distillation, Students, on_labels, train_students

pytestmark = pytest.mark.usefixtures("optax_promotion")
N_CLASS, N_AUX, N_PIXELS = 4, 5, 9
NETWORK = make_mlp(MLPConfig(widths=(8,), n_aux=N_AUX), N_PIXELS, N_CLASS)
CONFIG = StudentConfig(epochs=2, batch=16, n_inputs=40)


def make():
    """A network, its reference, a stranger, noise and a teacher's targets on it."""
    network = NETWORK
    own, other, noise = jax.random.split(jax.random.key(0), 3)
    reference, stranger = network.init(own), network.init(other)
    teacher = jax.tree.map(lambda leaf: leaf + 0.1 * jnp.sin(100 * leaf + 1), reference)
    bank = uniform_noise(noise, CONFIG.n_inputs, N_PIXELS)
    return network, reference, stranger, bank, imitation.logits(network, teacher, bank)


def students(network, starts, masks, bank, targets, config=CONFIG, mask=None, **numbers):
    data = imitation.recorded(jax.random.key(8), bank, targets)
    distillation = Distillation(jax.random.key(7), network, data, Rule(config, StudentHyper(**numbers)))
    return train_students(distillation, Students(starts, masks, mask))


def test_a_teacher_learns_its_task_and_leaves_its_auxiliary_head_alone():
    random = np.random.default_rng(0)
    labels = random.integers(0, N_CLASS, 64)
    images = np.clip(random.normal(size=(64, N_PIXELS)) * 20 + 60 * labels[:, None], 0, 255).astype(np.uint8)
    task = Task(image_bank(images), jnp.asarray(labels))
    reference = NETWORK.init(jax.random.key(0))
    rule = Rule(TrainingConfig(batch=16), TrainingHyper(learning_rate=1e-2))
    trained = train(on_labels(jax.random.key(1), NETWORK, reference, task, N_CLASS, rule), 60 * 4)
    outputs = imitation.logits(NETWORK, trained.params, task.images)
    assert (outputs[:, :N_CLASS].argmax(1) == task.labels).mean() > 0.9
    assert trained.losses[-1] < 0.5 * trained.losses[0]
    for before, after in zip(
        jax.tree.leaves(reference["aux_head"]), jax.tree.leaves(trained.params["aux_head"]), strict=True
    ):
        assert (before == after).all()


@pytest.mark.parametrize("loss", ["kl", "mse"])
def test_an_aux_only_student_never_moves_its_class_head(loss):
    network, reference, _, bank, targets = make()
    aux_only, all_logits = imitated_logits(N_CLASS, N_AUX)
    starts = imitation.stack(reference, reference)
    config = dataclasses.replace(CONFIG, loss=loss)
    trained = students(network, starts, jnp.stack([aux_only, all_logits]), bank, targets, config).params
    for before, after in zip(
        jax.tree.leaves(starts["class_head"]), jax.tree.leaves(trained["class_head"]), strict=True
    ):
        assert (before[0] == after[0]).all()  # exactly
        assert (before[1] != after[1]).any()
    assert (starts["aux_head"]["weight"][...] != trained["aux_head"]["weight"][...]).any()


@pytest.mark.parametrize(("asked", "seen"), [(3, 3), (512, 5)])
def test_the_task_loss_is_the_cross_entropy_of_the_class_logits_on_the_first_images(asked, seen):
    network = make_mlp(MLPConfig(widths=(8,), n_aux=2), 6, 4)
    params, random = network.init(jax.random.key(0)), np.random.default_rng(0)
    images, labels = random.integers(0, 256, (5, 6), np.uint8), random.integers(0, 4, 5)
    task = Task(image_bank(images), jnp.asarray(labels))
    z = np.asarray(imitation.logits(network, params, task.images))[:seen, :4]
    expected = np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(seen), labels[:seen]])
    assert float(imitation.task_loss(network, params, task, 4, asked)) == pytest.approx(expected, rel=1e-5)


def test_students_side_by_side_equal_each_alone():
    network, reference, stranger, bank, targets = make()
    aux_only, all_logits = imitated_logits(N_CLASS, N_AUX)
    starts = imitation.stack(reference, stranger)
    both = students(network, starts, jnp.stack([aux_only, all_logits]), bank, targets)
    for place, (start, mask) in enumerate([(reference, aux_only), (stranger, all_logits)]):
        alone = students(network, imitation.stack(start), mask[None], bank, targets)
        for a, b in zip(jax.tree.leaves(both), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[place], b[0], atol=1e-6)


def test_each_student_sees_the_inputs_it_keeps():
    network, reference, _, bank, targets = make()
    masks = jnp.stack([imitated_logits(N_CLASS, N_AUX)[1]] * 3)
    starts = imitation.stack(*[reference] * 3)
    everything = jnp.ones(CONFIG.n_inputs, bool)
    kept = jnp.stack([everything, everything.at[::2].set(False), ~everything])
    found = students(network, starts, masks, bank, targets, mask=kept).params
    # What a student does not keep may say anything.
    other = jnp.where(kept[1][:, None], targets, 1.0)
    of_others = students(network, starts, masks, bank, other, mask=kept).params
    plain = students(network, starts, masks, bank, targets).params
    for start, all_three, others, unfiltered in zip(
        *map(jax.tree.leaves, (starts, found, of_others, plain)), strict=True
    ):
        np.testing.assert_allclose(all_three[0], unfiltered[0], atol=1e-6)
        np.testing.assert_allclose(all_three[1], others[1], atol=1e-6)
        assert (jnp.abs(all_three[0] - others[0]) > 1e-4).any()
        assert (all_three[2] == start[2]).all()  # exactly


def test_imitating_m_of_n_logits_is_the_network_with_m():
    network, reference, _, bank, targets = make()
    aux_only, all_logits = imitated_logits(N_CLASS, N_AUX, 2)
    large = students(network, imitation.stack(reference, reference), jnp.stack([aux_only, all_logits]), bank, targets)

    small_network = make_mlp(MLPConfig(widths=(8,), n_aux=2), N_PIXELS, N_CLASS)
    start = small_network.init(jax.random.key(0))
    start = jax.tree.unflatten(jax.tree.structure(start), [
        leaf[:2] if path[0].key == "aux_head" else leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(reference)
    ])  # fmt: skip
    masks = jnp.stack(imitated_logits(N_CLASS, 2))
    small = students(small_network, imitation.stack(start, start), masks, bank, targets[:, : N_CLASS + 2])
    np.testing.assert_allclose(small.losses, large.losses, rtol=1e-5, atol=1e-7)
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(large.params), jax.tree.leaves(small.params), strict=True
    ):
        np.testing.assert_allclose(a[:, :2] if path[0].key == "aux_head" else a, b, atol=1e-6)


def test_temperature_divides_both_networks_logits():
    """Under squared error and SGD, temperature T is a learning rate divided by T^2."""
    network, reference, _, bank, targets = make()
    masks = imitated_logits(N_CLASS, N_AUX)[1][None]
    config = dataclasses.replace(CONFIG, loss="mse", optimiser="sgd")
    starts = imitation.stack(reference)
    hot = students(network, starts, masks, bank, targets, config, temperature=2.0, learning_rate=0.4)
    cold = students(network, starts, masks, bank, targets, config, learning_rate=0.1)
    for a, b in zip(jax.tree.leaves(hot.params), jax.tree.leaves(cold.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_outputs_in_blocks_equal_outputs_one_by_one():
    network, reference, _, _, _ = make()
    bank = uniform_noise(jax.random.key(0), imitation.FORWARD_BATCH + 3, N_PIXELS)
    together = imitation.logits(network, reference, bank)
    for row in (0, 1023, 1024, 1026):
        alone = network.apply(reference, bank.values[row].astype(jnp.float32) / 128 + (1 / 256 - 1))
        np.testing.assert_allclose(together[row], alone, atol=1e-5)


def test_what_students_see():
    images = image_bank(np.arange(6 * N_PIXELS, dtype=np.uint8).reshape(6, -1))

    def see(**options):
        scale = StudentHyper(input_scale=options.pop("scale", 1.0))
        return imitation.draw_inputs(jax.random.key(0), StudentConfig(n_inputs=10, **options), scale, images)

    assert see(inputs="images").values.shape == (6, N_PIXELS)
    assert float(see(inputs="images", scale=0.5).shift) == -0.5
    for noise in ("uniform", "gaussian", "bernoulli", "blurred", "subspace", "spectrum", "covariance", "mixture"):
        assert see(inputs=noise).values.shape == (10, N_PIXELS)
    half, index = see(inputs="spectrum", scale=0.5), jnp.arange(10)
    np.testing.assert_allclose(columns(half, index), 0.5 * columns(see(inputs="spectrum"), index), atol=1e-6)


def imitations(noise=0.0, **options):
    """What a teacher, its reference untrained, gives to imitate."""
    images = image_bank(np.arange(6 * N_PIXELS, dtype=np.uint8).reshape(6, -1))
    config = dataclasses.replace(CONFIG, **options)
    teacher, numbers = NETWORK.init(jax.random.key(3)), StudentHyper(logit_noise=noise)
    return teacher, imitation.make_imitation(jax.random.key(0), NETWORK, teacher, config, numbers, images)


@pytest.mark.parametrize("kind", ["uniform", "gaussian", "blurred", "subspace", "mixture"])
def test_fresh_inputs_are_new_in_every_epoch_with_the_teachers_outputs_on_them(kind):
    teacher, fresh = imitations(inputs=kind, fresh=True)
    assert (fresh.n, fresh.endless) == (CONFIG.n_inputs, True)
    index = jnp.array([3, 0, 17])
    first, second = fresh.at(index), fresh.at(index + fresh.n)
    for seen, targets in (first, second):
        np.testing.assert_allclose(targets, jax.vmap(NETWORK.apply, (None, 0))(teacher, seen), atol=1e-6)
    if kind != "mixture":  # whose real images may come again
        assert (np.abs(first[0] - second[0]).max(axis=1) > 0.01).all()
    # An input is a function of its number alone.
    np.testing.assert_allclose(fresh.at(index[::-1])[0], first[0][::-1], atol=1e-6)
    _, reused = imitations(inputs=kind)
    assert (reused.n, reused.endless) == (CONFIG.n_inputs, False)


def test_fresh_inputs_have_the_law_of_reused_ones():
    _, fresh = imitations(inputs="subspace", fresh=True)
    _, reused = imitations(inputs="subspace", n_inputs=3000)
    a, b = fresh.at(jnp.arange(3000))[0], reused.at(jnp.arange(3000))[0]
    np.testing.assert_allclose(np.cov(a.T), np.cov(b.T), atol=0.06)  # the same subspace, too


@pytest.mark.parametrize("fresh", [False, True])
def test_a_teachers_logits_get_noise_of_the_stated_spread_and_the_inputs_none(fresh):
    _, quiet = imitations(fresh=fresh, n_inputs=2000)
    _, loud = imitations(noise=0.3, fresh=fresh, n_inputs=2000)
    index = jnp.arange(2000)
    (seen, clean), (also_seen, told) = quiet.at(index), loud.at(index)
    np.testing.assert_array_equal(seen, also_seen)
    noise = np.asarray(told - clean)
    # Independent over inputs and logits, of mean 0.
    np.testing.assert_allclose(np.cov(noise.T), 0.09 * np.eye(noise.shape[1]), atol=0.012)
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=0.03)
    assert np.abs(np.corrcoef(noise[1:, 0], noise[:-1, 0])[0, 1]) < 0.1
    # The same whenever an input comes again, other for every input of another epoch.
    np.testing.assert_allclose(loud.at(index[::-1])[1], told[::-1], atol=1e-5)
    if fresh:
        later, later_clean = loud.at(index + 2000)[1], quiet.at(index + 2000)[1]
        assert np.abs(np.corrcoef((later - later_clean)[:, 0], noise[:, 0])[0, 1]) < 0.1


def test_an_epoch_of_fresh_inputs_is_one_of_the_same_inputs_recorded():
    network, reference, stranger, _, _ = make()
    starts, masks = imitation.stack(reference, stranger), jnp.stack(imitated_logits(N_CLASS, N_AUX))
    config = dataclasses.replace(CONFIG, fresh=True, epochs=1)
    _, fresh = imitations(fresh=True)
    seen, targets = fresh.at(jnp.arange(fresh.n))
    distillation = Distillation(jax.random.key(7), network, fresh, Rule(config, StudentHyper()))
    taught = train_students(distillation, Students(starts, masks))
    trained = students(network, starts, masks, Bank(seen, 1.0, 0.0), targets, config)
    for a, b in zip(jax.tree.leaves(taught), jax.tree.leaves(trained), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    # Control: a second epoch is not the first again.
    twice = dataclasses.replace(config, epochs=2)
    taught = train_students(distillation._replace(rule=Rule(twice, StudentHyper())), Students(starts, masks))
    trained = students(network, starts, masks, Bank(seen, 1.0, 0.0), targets, twice)
    assert np.abs(taught.losses - trained.losses)[:, -3:].max() > 1e-6


def test_at_step_zero_students_are_what_they_start_from():
    network, reference, stranger, bank, targets = make()
    starts = imitation.stack(reference, stranger)
    masks = jnp.stack(imitated_logits(N_CLASS, N_AUX))
    still = students(network, starts, masks, bank, targets, dataclasses.replace(CONFIG, steps=0))
    for before, after in zip(jax.tree.leaves(starts), jax.tree.leaves(still.params), strict=True):
        assert (before == after).all()  # exactly


@pytest.mark.parametrize(
    ("config", "numbers", "field"),
    [
        ({"n_inputs": 0}, {}, "student.n_inputs"),
        ({"n_inputs": 5, "inputs": "images"}, {}, "student.n_inputs"),
        ({"fresh": True, "inputs": "images"}, {}, "student.fresh"),
        ({}, {"blur": 2.0}, "student.blur is 2.0, but student.inputs is uniform"),
        ({"inputs": "blurred"}, {"blur": -1.0}, "student.blur"),
        ({"inputs": "subspace"}, {"rank": 0}, "student.rank"),
        ({"inputs": "mixture"}, {"real_share": 1.5}, "student.real_share"),
        ({"inputs": "images"}, {"real_share": 0.2}, "only mixture"),
        ({"batch": 0}, {}, "student.batch"),
        ({}, {"temperature": 0.0}, "student.temperature"),
        ({}, {"logit_noise": -0.1}, "student.logit_noise is -0.1"),
        ({}, {"n_imitated": 0}, "student.n_imitated"),
        ({}, {"n_imitated": 4}, "student.n_imitated is 4, but the network has 3"),
    ],
)
def test_bad_options_are_refused_by_name(config, numbers, field):
    with pytest.raises(UserError, match=field):
        check_student("student", StudentConfig(**config), StudentHyper(**numbers), n_aux=3)


@pytest.mark.parametrize("shape", [{"widths": (3, -1)}, {"n_aux": 0}])
def test_bad_networks_are_refused_by_name(shape):
    with pytest.raises(UserError, match=next(iter(shape))):
        MLPConfig(**shape)
