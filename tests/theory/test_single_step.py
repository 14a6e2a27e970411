import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from subsim.networks.mlp import MLPConfig, make_mlp
from subsim.theory.single_step import descent, imitate, leading_coefficient, quadratic_form, single_step
from subsim.training.losses import IMITATION_LOSSES, imitated_logits

pytestmark = pytest.mark.usefixtures("x64")
N_CLASS, N_AUX, N_PIXELS = 4, 3, 6


class Setting:
    """A network, a trait and inputs, small enough for dense Jacobians."""

    def __init__(self, seed=0, loss="kl", n_aux=N_AUX, activation="relu"):
        own, other, task, labels, noise = jax.random.split(jax.random.key(seed), 5)
        network = make_mlp(MLPConfig(widths=(8, 8), n_aux=n_aux, activation=activation), N_PIXELS, N_CLASS)
        self.f = network.apply
        self.theta_0, self.stranger = network.init(own), network.init(other)
        self.inputs = jax.random.uniform(noise, (16, N_PIXELS), minval=-1.0)
        self.task, self.labels = jax.random.normal(task, (16, N_PIXELS)), jax.random.randint(labels, (16,), 0, N_CLASS)
        self.mask, _ = imitated_logits(N_CLASS, n_aux)
        self.loss = functools.partial(self.masked, IMITATION_LOSSES[loss].value)

    def masked(self, value, z, y):
        return value(z, y, self.mask)

    def trait_loss(self, params):
        log_p = jax.nn.log_softmax(jax.vmap(lambda x: self.f(params, x)[:N_CLASS])(self.task))
        return -jnp.mean(log_p[jnp.arange(16), self.labels])

    def step(self, eps=1e-4, alpha=0.5, loss=None, student=None):
        return single_step(
            self.f, self.theta_0, self.trait_loss, loss or self.loss, self.inputs, eps=eps, alpha=alpha, student=student
        )


@pytest.mark.parametrize("loss", IMITATION_LOSSES)
def test_quadratic_form_is_the_papers_m(loss):
    setting = Setting(loss=loss)
    z, v = jax.random.normal(jax.random.key(1), (2, N_CLASS + N_AUX))
    on = np.flatnonzero(setting.mask)
    p = np.asarray(jax.nn.softmax(z[on]))
    m = {"kl": np.diag(p) - np.outer(p, p), "mse": 2 * np.eye(len(on)) / len(on)}[loss]
    np.testing.assert_allclose(quadratic_form(setting.loss, z, v), v[on] @ m @ v[on], rtol=1e-10)


@pytest.mark.parametrize("loss", IMITATION_LOSSES)
def test_leading_coefficient_agrees_with_the_dense_jacobian(loss):
    setting = Setting(loss=loss)
    flat, unravel = jax.flatten_util.ravel_pytree(setting.theta_0)
    d_t = -jax.grad(lambda theta: setting.trait_loss(unravel(theta)))(flat)
    a = 0.0
    for x in setting.inputs:
        jacobian = jax.jacobian(lambda theta, x=x: setting.f(unravel(theta), x))(flat)
        z = setting.f(setting.theta_0, x)
        m = -jax.jacobian(jax.grad(setting.loss), argnums=1)(z, z)
        a += (jacobian @ d_t) @ m @ (jacobian @ d_t) / len(setting.inputs)
    matrix_free = leading_coefficient(setting.f, setting.theta_0, unravel(d_t), setting.loss, setting.inputs)
    np.testing.assert_allclose(matrix_free, a, rtol=1e-10)


def test_leading_coefficient_is_the_slope_in_eps():
    setting = Setting()
    predicted = float(setting.step(eps=1.0).predicted)
    measured = [float(setting.step(eps=eps).inner_product) for eps in (-1e-5, 1e-5)]
    np.testing.assert_allclose((measured[1] - measured[0]) / 2e-5, predicted, rtol=1e-6)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("loss", IMITATION_LOSSES)
def test_remainders_shrink_quadratically(loss, activation):
    setting = Setting(loss=loss, activation=activation)
    # Between rounding, of which a change of L_T at eps = 1e-5 is no more than that, and the first kink, near 1e-2.
    eps = np.array([2e-4, 2e-3])
    steps = [setting.step(eps=float(size)) for size in eps]
    for rest in (
        [abs(float(step.remainder)) for step in steps],
        [abs(float(step.trait_change - step.predicted_trait_change)) for step in steps],
    ):
        assert min(rest) > 100 * np.spacing(float(setting.trait_loss(setting.theta_0)))
        slope = np.diff(np.log(rest)) / np.diff(np.log(eps))
        np.testing.assert_allclose(slope, 2, atol=0.01)


@pytest.mark.parametrize("loss", IMITATION_LOSSES)
def test_no_violation_for_a_shared_init(loss):
    for seed in range(20):
        step = Setting(seed, loss).step()
        assert step.inner_product > 0
        assert step.trait_change < 0
        np.testing.assert_allclose(step.inner_product, step.predicted, rtol=0.02)


def test_broken_lemmas_are_seen():
    """Controls: the signs above are the theorem's doing, not the code's."""
    setting = Setting()
    # A loss whose minimum is not at the teacher's output, and a student that flees from its teacher.
    assert setting.step(loss=lambda z, y: -setting.loss(z, y)).inner_product < 0
    # Another initialisation: both signs occur, and the prediction is orders of magnitude off.
    strangers = [Setting(seed) for seed in range(20)]
    steps = [setting.step(student=setting.stranger) for setting in strangers]
    signs = {bool(step.inner_product > 0) for step in steps}
    assert signs == {True, False}
    assert all(abs(step.remainder) > 10 * abs(step.predicted) for step in steps)


def test_degenerate_branches_are_exactly_zero():
    one_logit = Setting(n_aux=1).step()  # softmax over a single logit is constant
    assert one_logit.inner_product == one_logit.predicted == one_logit.trait_change == 0
    setting = Setting()

    def class_head_only(params):  # a trait that cannot move the imitated logits
        return jnp.sum(params["class_head"]["weight"][...] ** 2)

    step = single_step(setting.f, setting.theta_0, class_head_only, setting.loss, setting.inputs, eps=1e-2, alpha=1.0)
    assert step.inner_product == step.predicted == step.trait_change == 0


def test_any_model_and_any_pytree():
    """A quadratic model with a closed form: f = (w . x)^2, squared error, L_T = b . w, one input."""
    w, b, x, eps = jnp.array([1.0, 2.0]), jnp.array([0.3, -0.1]), jnp.array([[0.5, 0.25]]), 1e-3
    step = single_step(
        lambda params, x: (params["w"] @ x)[None] ** 2,
        {"w": w},
        lambda params: params["w"] @ b,
        lambda z, y: jnp.sum((z - y) ** 2),
        x,
        eps=eps,
        alpha=0.1,
    )
    v = 2 * (w @ x[0]) * (x[0] @ -b)
    np.testing.assert_allclose(step.predicted, eps * 2 * v**2, rtol=1e-12)
    teacher = (w - eps * b) @ x[0]
    d_s = -2 * ((w @ x[0]) ** 2 - teacher**2) * 2 * (w @ x[0]) * x[0]
    np.testing.assert_allclose(step.inner_product, d_s @ -b, rtol=1e-9)
    np.testing.assert_allclose(step.trait_change, 0.1 * d_s @ b, rtol=1e-9)


@pytest.mark.parametrize("start", ["shared", "stranger"])
def test_the_imitation_step_is_the_gradient_of_the_mean_loss(start):
    """By one autodiff of the whole, where the code pulls the losses' gradients back through the outputs."""
    setting = Setting()
    student = setting.theta_0 if start == "shared" else setting.stranger
    d_t = descent(setting.trait_loss, setting.theta_0)
    theta_t = jax.tree.map(lambda theta, d: theta + 0.01 * d, setting.theta_0, d_t)

    def mean_loss(theta):
        return jnp.mean(jnp.stack([setting.loss(setting.f(theta, x), setting.f(theta_t, x)) for x in setting.inputs]))

    step = imitate(setting.f, setting.theta_0, d_t, setting.loss, setting.inputs, eps=0.01, student=student)
    jax.tree.map(
        lambda found, gradient: np.testing.assert_allclose(found, -gradient, atol=1e-14),
        step.d_s, jax.grad(mean_loss)(student),
    )  # fmt: skip
    assert max(float(abs(leaf).max()) for leaf in jax.tree.leaves(step.d_s)) > 1e-4
