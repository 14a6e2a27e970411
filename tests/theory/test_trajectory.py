"""What is watched is what happens, watching changes nothing, and interventions do what they say."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from subsim.networks import network as networks
from subsim.networks import parameters
from subsim.networks.mlp import MLPConfig, make_mlp
from subsim.theory import trajectory
from subsim.training.loop import Training, train

pytestmark = pytest.mark.usefixtures("x64", "optax_promotion")
STEPS = 12
NETWORK = make_mlp(MLPConfig((6, 5)), 4, 3)


class Setting:
    """A student that imitates fixed targets, and a trait of another kind."""

    def __init__(self, seed=0):
        keys = jax.random.split(jax.random.key(seed), 5)
        self.start = NETWORK.init(keys[0])
        self.x, self.others = jnp.swapaxes(jax.random.normal(keys[1], (2, 4, 16)), 1, 2)
        self.targets = jax.random.normal(keys[2], (16, 6))
        self.key = keys[3]

    def trait_loss(self, params):
        return jnp.mean(jnp.square(networks.logits(NETWORK, params, self.others)[:, :3] - 1.0))

    def train(self, optimiser, steps=STEPS):
        def losses(params, chosen):
            return jnp.mean(jnp.square(networks.logits(NETWORK, params, chosen[0]) - chosen[1]), axis=1)

        def examples(index, _step):
            return self.x[index], self.targets[index]

        return train(Training(self.key, self.start, losses, examples, 16, 4, optimiser), steps)

    def watched(self, optimiser, every=1, steps=STEPS):
        return self.train(trajectory.watched(optimiser, self.trait_loss, every, steps), steps)


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


OPTIMISERS = {"sgd": lambda rate: optax.sgd(rate), "adam": lambda rate: optax.adam(rate)}


@pytest.mark.parametrize("every", [1, 5])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_watching_changes_nothing(name, every):
    setting = Setting()
    plain, seen = setting.train(OPTIMISERS[name](0.1)), setting.watched(OPTIMISERS[name](0.1), every)
    equal(plain.params, seen.params)
    equal(plain.losses, seen.losses)
    assert seen.state.moments.cosines.shape == (-(-STEPS // every), 4)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(seen.state.moments))


def test_rarer_moments_are_some_of_the_frequent_ones():
    setting = Setting()
    often, rarely = (setting.watched(optax.sgd(0.1), every).state.moments for every in (1, 3))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[::3], b, rtol=1e-12), often, rarely)


@pytest.mark.parametrize("name", OPTIMISERS)
def test_the_running_sum_becomes_the_measured_change_as_steps_shrink(name):
    setting = Setting()

    def off(rate):
        moments = setting.watched(OPTIMISERS[name](rate)).state.moments
        measured = moments.trait_loss[-1] - moments.trait_loss[0]
        return abs(float(moments.running_sum[-1] / measured) - 1)

    assert off(1e-6) < 1e-4
    assert off(1e-6) < 0.05 * off(1e-3)
    # Control: a running sum of the wrong sign would be off by two.
    assert off(1e-3) < 0.5


def test_moments_are_what_their_names_say():
    setting = Setting()
    moments = setting.watched(optax.adam(0.1)).state.moments
    gradient, update = jax.tree.map(jnp.sin, setting.start), jax.tree.map(jnp.cos, setting.start)
    value, trait = jax.value_and_grad(setting.trait_loss)(setting.start)
    now = trajectory.moment(value, trait, gradient, update, jnp.array(7.0))
    assert now.running_sum == 7
    np.testing.assert_allclose(now.cosine, parameters.alignment(gradient, trait), rtol=1e-12)
    np.testing.assert_allclose(now.update_cosine, -parameters.alignment(update, trait), rtol=1e-12)
    np.testing.assert_allclose(now.update_product, -optax.tree.vdot(update, trait), rtol=1e-12)
    np.testing.assert_allclose(moments.trait_loss[0], setting.trait_loss(setting.start), rtol=1e-12)
    assert list(parameters.layers(setting.start)) == ["aux_head", "class_head", "hidden.0", "hidden.1"]
    np.testing.assert_allclose(now.products.sum(), now.inner_product, rtol=1e-12)
    np.testing.assert_allclose(now.inner_product, optax.tree.vdot(gradient, trait), rtol=1e-12)
    last = gradient["hidden"][1], trait["hidden"][1]
    np.testing.assert_allclose(now.products[3], optax.tree.vdot(*last), rtol=1e-12)
    np.testing.assert_allclose(now.cosines[3], parameters.alignment(*last), rtol=1e-12)
    # A trait of the class logits has no gradient in the auxiliary head.
    assert now.cosines[0] == 0 != now.cosines[1]


def test_for_sgd_the_updates_metric_is_the_gradients():
    moments = Setting().watched(optax.sgd(0.1)).state.moments
    np.testing.assert_allclose(moments.update_cosine, moments.cosine, rtol=1e-9)
    moments = Setting().watched(optax.adam(0.1)).state.moments
    assert (abs(moments.update_cosine - moments.cosine) > 1e-3).any()


@pytest.mark.parametrize("only_while_positive", [False, True])
def test_projection(only_while_positive):
    setting = Setting()
    trait = jax.grad(setting.trait_loss)(setting.start)
    without = functools.partial(trajectory.without, trait, only_while_positive=only_while_positive)
    toward = jax.tree.map(lambda leaf, t: jnp.sin(leaf) + t, setting.start, trait)
    away = jax.tree.map(lambda leaf, t: jnp.sin(leaf) - 9 * t, setting.start, trait)
    assert optax.tree.vdot(toward, trait) > 0 > optax.tree.vdot(away, trait)
    left = without(toward)
    assert abs(float(optax.tree.vdot(left, trait))) < 1e-12
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), without(left), left)
    if only_while_positive:
        equal(without(away), away)
    else:
        assert abs(float(optax.tree.vdot(without(away), trait))) < 1e-12
    zero = jax.tree.map(jnp.zeros_like, trait)
    equal(trajectory.without(zero, toward, only_while_positive=only_while_positive), toward)


def test_a_projected_student_does_not_change_the_trait_to_first_order():
    setting = Setting()
    project = trajectory.trait_projected_out(setting.trait_loss)

    def fall(optimiser):
        moments = setting.watched(optimiser).state.moments
        return abs(float(moments.trait_loss[-1] - moments.trait_loss[0]))

    assert fall(optax.chain(project, optax.sgd(1e-4))) < 1e-3 * fall(optax.sgd(1e-4))


def test_liminal_training_without_weight_or_steps_is_plain():
    setting = Setting()

    def pull(params):
        return optax.tree.norm(optax.tree.sub(params, setting.start), squared=True)

    plain = setting.train(optax.sgd(0.1))
    for weight, steps in ((0.0, 5), (1.0, 0)):
        equal(setting.train(optax.chain(trajectory.liminal(pull, weight, steps), optax.sgd(0.1))).params, plain.params)
    # A strong pull that lasts holds the student at its start.
    held = setting.train(optax.chain(trajectory.liminal(pull, 4.0, STEPS), optax.sgd(0.1)))
    moved = [float(optax.tree.norm(optax.tree.sub(each.params, setting.start))) for each in (held, plain)]
    assert moved[0] < 0.5 * moved[1]
    # It ends: with a single step of it the student goes on.
    briefly = setting.train(optax.chain(trajectory.liminal(pull, 4.0, 1), optax.sgd(0.1)))
    equal(briefly.params, plain.params)  # at the start, the pull is least: its first step pulls nowhere
