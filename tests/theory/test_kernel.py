"""Nystroem's T and the learning curve of every mode, against dense linear algebra and against training itself."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from subsim.data.inputs import pixels, uniform_noise
from subsim.networks.mlp import MLPConfig, make_mlp
from subsim.networks.network import linearised
from subsim.theory import kernel as kernels
from subsim.theory.linearised import dense_jacobian, limit, sharpness, tangent_kernel
from subsim.training.losses import imitated_logits
from subsim.transfer import imitation
from subsim.transfer.options import StudentConfig, StudentHyper
from subsim.transfer.rule import Rule
from subsim.transfer.students import Distillation, Students, train_students

pytestmark = pytest.mark.usefixtures("x64")
N_CLASS, N_AUX, N_PIXELS, N_INPUTS = 4, 3, 6, 12


class Setting:
    """A network, noise whose auxiliary logits are imitated, and other inputs whose class logits are asked about."""

    def __init__(self):
        own, away, noise, asked = jax.random.split(jax.random.key(3), 4)
        self.network = make_mlp(MLPConfig(widths=(8,), n_aux=N_AUX), N_PIXELS, N_CLASS)
        self.theta_0 = self.network.init(own)
        self.bank = uniform_noise(noise, N_INPUTS, N_PIXELS)
        self.inputs = pixels(self.bank, self.bank.values)
        self.asked = jax.random.normal(asked, (5, N_PIXELS))
        self.r = jax.random.normal(away, (N_INPUTS * N_AUX,))
        self.kernel = tangent_kernel(self.aux, self.theta_0, self.inputs)
        self.jacobian_c = dense_jacobian(self.classes, self.theta_0, self.asked)

    def aux(self, theta, x):
        return self.network.apply(theta, x)[N_CLASS:]

    def classes(self, theta, x):
        return self.network.apply(theta, x)[:N_CLASS]

    def of(self, inputs, logits=slice(N_CLASS, None)):
        """T of a student that imitates these logits on these inputs."""
        kernel = tangent_kernel(lambda theta, x: self.network.apply(theta, x)[logits], self.theta_0, inputs)
        return kernels.nystroem(self.jacobian_c, kernel)

    def trained(self, steps, learning_rate, momentum):
        """The linearised student's displacement after full-batch steps of the loop of every other student."""
        targets = jnp.pad(self.r.reshape(N_INPUTS, N_AUX), ((0, 0), (N_CLASS, 0)))
        targets += imitation.logits(self.network, self.theta_0, self.bank)
        config = StudentConfig(steps=steps, batch=N_INPUTS, optimiser="momentum", loss="mse")
        rule = Rule(config, StudentHyper(learning_rate=learning_rate, momentum=momentum))
        data = imitation.recorded(jax.random.key(6), self.bank, targets)
        distillation = Distillation(jax.random.key(5), linearised(self.network, self.theta_0), data, rule)
        start = Students(imitation.stack(self.theta_0), imitated_logits(N_CLASS, N_AUX)[0][None])
        found = train_students(distillation, start)
        return optax.tree.sub(jax.tree.map(lambda leaf: leaf[0], found.params), self.theta_0), found.losses[0]


@pytest.fixture(scope="module")
def setting():
    with jax.enable_x64(True):
        return Setting()


def least(matrix):
    return np.linalg.eigvalsh(np.asarray(matrix)).min()


def test_t_is_the_nystroem_approximation_of_the_teachers_kernel(setting):
    a, c = np.asarray(setting.kernel.jacobian), np.asarray(setting.jacobian_c)
    expected = c @ a.T @ np.linalg.pinv(a @ a.T, hermitian=True) @ a @ c.T
    t = kernels.nystroem(setting.jacobian_c, setting.kernel)
    np.testing.assert_allclose(t, expected, rtol=1e-8, atol=1e-9)
    assert least(t) > -1e-9
    assert least(c @ c.T - t) > -1e-9
    assert np.trace(c @ c.T - t) > 0.1  # something is lost
    # All directions of the parameters on which C depends: nothing is lost.
    np.testing.assert_allclose(setting.of(setting.asked, slice(0, N_CLASS)), c @ c.T, rtol=1e-8, atol=1e-9)


def test_t_without_a_jacobian_is_the_dense_one(setting):
    c = jax.random.normal(jax.random.key(8), (len(setting.asked), N_CLASS))
    found = kernels.nystroem_product(
        setting.classes, setting.aux, setting.theta_0, setting.asked, setting.inputs, c, tolerance=1e-12
    )
    dense = kernels.nystroem(setting.jacobian_c, setting.kernel) @ c.ravel()
    assert float(found.residual) < 1e-10
    np.testing.assert_allclose(found.value.ravel(), dense, rtol=1e-6, atol=1e-6 * float(jnp.abs(dense).max()))
    stopped = kernels.nystroem_product(
        setting.classes, setting.aux, setting.theta_0, setting.asked, setting.inputs, c, iterations=1
    )
    assert float(stopped.residual) > 1e-2  # and says so


def test_more_inputs_and_more_logits_never_lower_t(setting):
    few, more = setting.of(setting.inputs[:4]), setting.of(setting.inputs)
    one, two = setting.of(setting.inputs, slice(4, 5)), setting.of(setting.inputs, slice(4, 6))
    for less, larger in ((few, more), (one, two), (two, more)):
        assert least(larger - less) > -1e-9
        assert np.trace(larger - less) > 1e-3
    # Control: one logit and another are not in order.
    other = setting.of(setting.inputs, slice(5, 6))
    assert least(one - other) < -1e-3
    assert least(other - one) < -1e-3


def test_a_linearised_student_ends_at_t_times_what_its_teacher_was_taught(setting):
    c = jax.random.normal(jax.random.key(9), (5 * N_CLASS,))
    _, unravel = ravel_pytree(setting.theta_0)
    d_t = unravel(setting.jacobian_c.T @ c)
    targets = (setting.kernel.jacobian @ ravel_pytree(d_t)[0]).reshape(N_INPUTS, N_AUX)
    targets += jax.vmap(setting.aux, (None, 0))(setting.theta_0, setting.inputs)
    ends = limit(setting.aux, setting.theta_0, setting.inputs, targets)
    changed = setting.jacobian_c @ ravel_pytree(ends)[0]
    np.testing.assert_allclose(changed, kernels.nystroem(setting.jacobian_c, setting.kernel) @ c, rtol=1e-7)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_every_step_of_training_is_where_the_curve_says(setting, momentum):
    rate = 0.3 * float(kernels.stable_step(setting.kernel.eigenvalues, momentum=momentum))
    progress = kernels.momentum_progress(setting.kernel.eigenvalues, rate, 40, momentum=momentum)
    for steps in (1, 2, 7, 40):
        d, losses = setting.trained(steps, rate, momentum)
        predicted = kernels.displaced(setting.kernel, setting.theta_0, progress[steps], setting.r)
        for a, b in zip(jax.tree.leaves(d), jax.tree.leaves(predicted), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-10)
        outputs = kernels.learned(setting.jacobian_c, setting.kernel, progress[steps], setting.r)
        np.testing.assert_allclose(outputs, setting.jacobian_c @ ravel_pytree(d)[0], rtol=1e-6, atol=1e-9)
    missing = np.asarray(1 - progress[:-1]) * np.asarray(setting.kernel.eigenvectors.T @ setting.r)
    np.testing.assert_allclose(losses, (missing**2).mean(axis=1), rtol=1e-7)  # what is left is the loss


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_stable_step_is_where_training_turns(setting, momentum):
    values = setting.kernel.eigenvalues
    stable = float(kernels.stable_step(values, momentum=momentum))
    for share, settles in ((0.99, True), (1.01, False)):
        far = kernels.momentum_progress(values, share * stable, 4000, momentum=momentum)[-1, -1]
        assert (abs(1 - float(far)) < 1e-3) == settles
    f = linearised(setting.network, setting.theta_0).apply
    sharp = sharpness(
        lambda theta: jnp.mean(jax.vmap(lambda x: f(theta, x)[N_CLASS:] ** 2)(setting.inputs)),
        setting.theta_0, jax.random.key(0), iterations=300,
    )  # fmt: skip
    assert 2 * (1 + momentum) / float(sharp) == pytest.approx(stable, rel=1e-6)


def test_small_steps_are_the_flow(setting):
    values = setting.kernel.eigenvalues
    for steps, off in ((100, 1e-1), (10_000, 1e-3)):
        rate = 3.0 / steps
        descent = kernels.momentum_progress(values, rate, steps)[-1]
        flow = kernels.flow_progress(values, 3.0)
        error = float(jnp.max(jnp.abs(descent - flow)))
        assert 1e-3 * off < error < off


def test_masked_rows_count_for_nothing(setting):
    """A mask of logits is rows of zeros: with the number of those that are left, the curves are those without them."""
    kept = setting.kernel.jacobian.reshape(N_INPUTS, N_AUX, -1).at[:, 1:].set(0).reshape(N_INPUTS * N_AUX, -1)
    values = jnp.linalg.eigvalsh(kept @ kept.T)
    alone = tangent_kernel(lambda theta, x: setting.aux(theta, x)[:1], setting.theta_0, setting.inputs).eigenvalues
    masked = kernels.momentum_progress(values, 0.1, 9, momentum=0.5, n_outputs=N_INPUTS)[:, -N_INPUTS:]
    expected = kernels.momentum_progress(alone, 0.1, 9, momentum=0.5)
    np.testing.assert_allclose(masked, expected, atol=1e-10)
    assert float(kernels.stable_step(values, n_outputs=N_INPUTS)) == pytest.approx(float(kernels.stable_step(alone)))
