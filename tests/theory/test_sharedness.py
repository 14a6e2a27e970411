import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from subsim.networks.initial import initial_variances
from subsim.networks.mlp import MLPConfig, make_mlp
from subsim.networks.parameters import rotated
from subsim.theory.sharedness import against_offset, small_angle_spread
from subsim.theory.single_step import single_step
from subsim.training.losses import IMITATION_LOSSES, imitated_logits

pytestmark = pytest.mark.usefixtures("x64")
N_CLASS, N_AUX, N_PIXELS = 4, 3, 6


class Setting:
    """A network, a stranger, a trait and inputs."""

    def __init__(self, seed=0, loss="kl"):
        own, other, task, noise = jax.random.split(jax.random.key(seed), 4)
        network = make_mlp(MLPConfig(widths=(8, 8), n_aux=N_AUX), N_PIXELS, N_CLASS)
        self.f, self.theta_0, self.stranger = network.apply, network.init(own), network.init(other)
        self.inputs = jax.random.uniform(noise, (16, N_PIXELS), minval=-1.0)
        self.task = jax.random.normal(task, (16, N_PIXELS))
        mask, _ = imitated_logits(N_CLASS, N_AUX)
        self.loss = lambda z, y: IMITATION_LOSSES[loss].value(z, y, mask)

    def trait_loss(self, params):
        log_p = jax.nn.log_softmax(jax.vmap(lambda x: self.f(params, x)[:N_CLASS])(self.task))
        return -jnp.mean(log_p[jnp.arange(16), jnp.arange(16) % N_CLASS])

    def step(self, angle, eps=1e-3, alpha=0.5):
        student = rotated(self.theta_0, self.stranger, angle)
        return against_offset(
            self.f, self.theta_0, self.trait_loss, self.loss, self.inputs, student, eps=eps, alpha=alpha
        )

    def reference(self, student, eps=1e-3, alpha=0.5):
        return single_step(
            self.f, self.theta_0, self.trait_loss, self.loss, self.inputs, eps=eps, alpha=alpha, student=student
        )


@pytest.mark.parametrize("loss", IMITATION_LOSSES)
def test_no_angle_is_a_shared_init(loss):
    setting = Setting(loss=loss)
    step, shared = setting.step(0.0), setting.reference(None)
    np.testing.assert_allclose(step.inner_product, shared.inner_product, rtol=1e-10)
    np.testing.assert_allclose(step.trait_change, shared.trait_change, rtol=1e-9)
    np.testing.assert_allclose(step.signal, shared.predicted, rtol=1e-12)
    np.testing.assert_allclose(1e-3 * step.slope, step.signal, rtol=1e-10)
    assert abs(step.offset) < 1e-15


@pytest.mark.parametrize("loss", IMITATION_LOSSES)
def test_a_right_angle_is_an_independent_init(loss):
    setting = Setting(loss=loss)
    step, independent = setting.step(jnp.pi / 2), setting.reference(setting.stranger)
    np.testing.assert_allclose(step.inner_product, independent.inner_product, rtol=1e-9)
    np.testing.assert_allclose(step.trait_change, independent.trait_change, rtol=1e-9)
    # Control: there the shared init's prediction is far off.
    assert abs(step.inner_product - step.signal) > 10 * abs(step.signal)


@pytest.mark.parametrize("angle", [0.3, jnp.pi / 2])
def test_offset_and_slope_leave_a_remainder_of_second_order(angle):
    eps = np.array([1e-4, 1e-3])
    steps = [Setting().step(angle, eps=size) for size in eps]
    rest = [abs(float(step.inner_product - step.offset - size * step.slope))
            for size, step in zip(eps, steps, strict=True)]  # fmt: skip
    np.testing.assert_allclose(np.diff(np.log(rest)) / np.diff(np.log(eps)), 2, atol=0.1)
    # Control: the shared init's slope leaves a remainder of first order.
    rest = [abs(float(step.inner_product - step.offset - step.signal)) for step in steps]
    np.testing.assert_allclose(np.diff(np.log(rest)) / np.diff(np.log(eps)), 1, atol=0.1)


def test_an_untrained_teacher_leaves_the_offset():
    step = Setting().step(0.7, eps=0.0)
    np.testing.assert_allclose(step.inner_product, step.offset, rtol=1e-12)
    assert step.offset != 0


def test_the_offset_begins_linearly_and_odd():
    setting = Setting()
    forth, back = (float(setting.step(angle).offset) for angle in (1e-4, -1e-4))
    np.testing.assert_allclose(forth, -back, rtol=1e-2)
    np.testing.assert_allclose(setting.step(1e-3).offset / forth, 10, rtol=1e-1)


@pytest.mark.parametrize("loss", IMITATION_LOSSES)
def test_the_small_angle_spread_is_that_of_many_strangers(loss):
    setting = Setting(loss=loss)
    network = make_mlp(MLPConfig(widths=(8, 8), n_aux=N_AUX), N_PIXELS, N_CLASS)

    @jax.jit
    def offsets(angle):
        def offset(key):
            student = rotated(setting.theta_0, network.init(key), angle)
            arguments = (setting.f, setting.theta_0, setting.trait_loss, setting.loss, setting.inputs, student)
            return against_offset(*arguments, eps=0.0, alpha=0.5).offset

        return jax.vmap(offset)(jax.random.split(jax.random.key(1), 1000))

    variances = initial_variances("lecun", setting.theta_0)
    arguments = (setting.f, setting.theta_0, setting.trait_loss, setting.loss, setting.inputs)
    spread = small_angle_spread(*arguments, variances)
    near = np.asarray(offsets(1e-3)) / 1e-3
    np.testing.assert_allclose(near.std(), spread, rtol=0.1)
    assert abs(near.mean()) < 4 * spread / np.sqrt(1000)
    assert scipy.stats.kstest(near / spread, "norm").pvalue > 1e-3
    # Controls: strangers are not at a small angle, and the variances matter.
    far = np.asarray(offsets(jnp.pi / 2))
    assert scipy.stats.kstest(far / spread, "norm").pvalue < 1e-3
    np.testing.assert_allclose(small_angle_spread(*arguments, jax.tree.map(lambda s: 4 * s, variances)), 2 * spread)
    assert small_angle_spread(*arguments, jax.tree.map(jnp.zeros_like, variances)) == 0
