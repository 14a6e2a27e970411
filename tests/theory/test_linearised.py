import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from subsim.data.inputs import pixels, uniform_noise
from subsim.networks.mlp import MLPConfig, make_mlp
from subsim.networks.network import linearise, linearised
from subsim.theory.linearised import (
    after_steps,
    limit,
    limit_by_cg,
    project,
    recovered_fraction,
    sharpness,
    tangent_kernel,
)
from subsim.training.losses import imitated_logits
from subsim.transfer import imitation
from subsim.transfer.options import StudentConfig, StudentHyper
from subsim.transfer.rule import Rule
from subsim.transfer.students import Distillation, Students, train_students

pytestmark = pytest.mark.usefixtures("x64")
N_CLASS, N_AUX, N_PIXELS, N_INPUTS = 4, 3, 6, 12


class Setting:
    """A network of 119 parameters, and 12 inputs whose three auxiliary logits are imitated: 36 rows of J."""

    def __init__(self, seed=0):
        own, other, away, noise = jax.random.split(jax.random.key(seed), 4)
        self.network = make_mlp(MLPConfig(widths=(8,), n_aux=N_AUX), N_PIXELS, N_CLASS)
        self.theta_0, self.stranger = self.network.init(own), self.network.init(other)
        self.d_t = optax.tree.scale(0.3, optax.tree.random_like(away, self.theta_0))
        self.teacher = optax.tree.add(self.theta_0, self.d_t)
        self.tangent = linearised(self.network, self.theta_0)
        self.bank = uniform_noise(noise, N_INPUTS, N_PIXELS)
        self.inputs = pixels(self.bank, self.bank.values)
        self.jacobian = self.dense_jacobian(self.theta_0)

    def f(self, theta, x):
        return self.network.apply(theta, x)[N_CLASS:]

    def targets(self, network):
        return jax.vmap(lambda x: network.apply(self.teacher, x)[N_CLASS:])(self.inputs)

    def dense_jacobian(self, theta):
        """J input by input, by forward derivatives."""
        flat, unravel = ravel_pytree(theta)
        forward = jax.jit(jax.jacfwd(lambda flat, x: self.f(unravel(flat), x)))
        return np.concatenate([forward(flat, x) for x in self.inputs])

    def trained(self, network, targets, steps, learning_rate):
        """The displacement of a student of `network`, trained by the loop of every other student."""
        padded = jnp.pad(targets, ((0, 0), (N_CLASS, 0)))
        config = StudentConfig(steps=steps, batch=N_INPUTS, optimiser="sgd", loss="mse")
        mask, _ = imitated_logits(N_CLASS, N_AUX)
        data = imitation.recorded(jax.random.key(6), self.bank, padded)
        distillation = Distillation(
            jax.random.key(5), network, data, Rule(config, StudentHyper(learning_rate=learning_rate))
        )
        student = train_students(distillation, Students(imitation.stack(self.theta_0), mask[None]))
        return jax.tree.map(lambda leaf, start: leaf[0] - start, student.params, self.theta_0)


@pytest.fixture(scope="module")
def setting():
    with jax.enable_x64(True):
        return Setting()


def flat(tree):
    return np.asarray(ravel_pytree(tree)[0])


def close(a, b, rtol=1e-9):
    np.testing.assert_allclose(flat(a), flat(b), rtol=rtol, atol=rtol * np.linalg.norm(flat(b)))


def class_head_of(d):
    """A displacement with all but the class head set to zero."""

    def keep(path, leaf):
        return leaf * float("class_head" in jax.tree_util.keystr(path))

    return jax.tree_util.tree_map_with_path(keep, d)


def least_squares(jacobian, r):
    """J^+ r by a singular value decomposition, which forms no kernel."""
    return np.linalg.lstsq(np.asarray(jacobian), np.asarray(r).ravel(), rcond=1e-10)[0]


def test_the_linearisation_is_the_model_where_the_model_is_affine(setting):
    def affine(theta, x):
        return theta["w"] @ x + theta["b"]

    keys = jax.random.split(jax.random.key(0), 5)
    theta_0, theta = ({"w": jax.random.normal(key, (3, 4)), "b": jax.random.normal(key, (3,))} for key in keys[:2])
    x = jax.random.normal(keys[2], (4,))
    np.testing.assert_allclose(linearise(affine, theta_0)(theta, x), affine(theta, x), rtol=1e-12)
    # In the class head alone a multi-layer perceptron is affine.
    heads = optax.tree.add(setting.theta_0, class_head_of(setting.d_t))
    np.testing.assert_allclose(
        setting.tangent.batched(heads, setting.inputs), setting.network.batched(heads, setting.inputs), rtol=1e-12
    )


def test_examples_side_by_side_are_examples_one_by_one(setting):
    together = setting.tangent.batched(setting.teacher, setting.inputs)
    alone = [setting.tangent.apply(setting.teacher, x) for x in setting.inputs]
    np.testing.assert_allclose(together, np.stack(alone), rtol=1e-12)


def test_the_linearisation_is_tangent(setting):
    """Where no ReLU changes sign the error is of second order; the wrong tangent, another point's, is off by eps."""
    eps = np.array([1e-5, 1e-4])

    def error(network, size):
        theta = optax.tree.add_scale(setting.theta_0, size, setting.d_t)
        return float(
            jnp.linalg.norm(network.batched(theta, setting.inputs) - setting.network.batched(theta, setting.inputs))
        )

    errors = [error(setting.tangent, size) for size in eps]
    np.testing.assert_allclose(np.diff(np.log(errors)) / np.diff(np.log(eps)), 2, atol=0.01)
    start = setting.network.batched(setting.theta_0, setting.inputs)
    wrong = linearise(setting.network.batched, setting.stranger)

    def elsewhere(theta, x):
        return start + wrong(theta, x) - wrong(setting.theta_0, x)

    broken = [error(setting.network._replace(batched=elsewhere), size) for size in eps]
    np.testing.assert_allclose(np.diff(np.log(broken)) / np.diff(np.log(eps)), 1, atol=0.01)


def test_the_kernel_is_that_of_the_gradients(setting):
    kernel = tangent_kernel(setting.f, setting.theta_0, setting.inputs)
    np.testing.assert_allclose(kernel.jacobian, setting.jacobian, rtol=1e-10, atol=1e-12)
    u = np.asarray(kernel.eigenvectors)
    np.testing.assert_allclose(
        u * np.asarray(kernel.eigenvalues) @ u.T, setting.jacobian @ setting.jacobian.T, rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("teacher", ["real", "linearised"])
def test_dense_and_matrix_free_limits_are_the_least_squares_solution(setting, teacher):
    targets = setting.targets(setting.network if teacher == "real" else setting.tangent)
    r = targets - jax.vmap(setting.f, (None, 0))(setting.theta_0, setting.inputs)
    exact = least_squares(setting.jacobian, r)
    close(limit(setting.f, setting.theta_0, setting.inputs, targets), exact, rtol=1e-7)
    solved = limit_by_cg(setting.f, setting.theta_0, setting.inputs, targets, tolerance=1e-13)
    close(solved.displacement, exact, rtol=1e-7)
    assert solved.residual < 1e-12
    # Stopped early, it says so.
    assert limit_by_cg(setting.f, setting.theta_0, setting.inputs, targets, iterations=2).residual > 1e-3


def test_the_projection_is_idempotent_and_symmetric(setting):
    p = functools.partial(project, setting.f, setting.theta_0, setting.inputs)
    once, other = p(setting.d_t), optax.tree.random_like(jax.random.key(9), setting.theta_0)
    close(p(once), once)
    np.testing.assert_allclose(optax.tree.vdot(other, once), optax.tree.vdot(p(other), setting.d_t), rtol=1e-9)
    # It is no identity: what is left is orthogonal to every gradient of an imitated logit.
    left = flat(optax.tree.sub(setting.d_t, once))
    assert np.linalg.norm(left) > 0.1 * np.linalg.norm(flat(setting.d_t))
    np.testing.assert_allclose(setting.jacobian @ left, 0, atol=1e-9)


def test_the_student_of_a_linearised_teacher_ends_at_the_projection(setting):
    limit_of_it = limit(setting.f, setting.theta_0, setting.inputs, setting.targets(setting.tangent))
    close(limit_of_it, project(setting.f, setting.theta_0, setting.inputs, setting.d_t))
    of_real = limit(setting.f, setting.theta_0, setting.inputs, setting.targets(setting.network))
    assert np.linalg.norm(flat(optax.tree.sub(of_real, limit_of_it))) > 0.01 * np.linalg.norm(flat(limit_of_it))


def largest_step(setting):
    return 2 * N_INPUTS * N_AUX / (2 * np.linalg.norm(setting.jacobian, 2) ** 2)


@pytest.mark.parametrize("teacher", ["real", "linearised"])
def test_the_training_loop_takes_the_linearised_student_where_the_closed_form_says(setting, teacher):
    targets = setting.targets(setting.network if teacher == "real" else setting.tangent)
    rate = 0.9 * largest_step(setting)
    for steps in (1, 300):
        trained = setting.trained(setting.tangent, targets, steps, rate)
        predicted = after_steps(setting.f, setting.theta_0, setting.inputs, targets, learning_rate=rate, steps=steps)
        close(trained, predicted, rtol=1e-8)
    end = limit(setting.f, setting.theta_0, setting.inputs, targets)
    close(setting.trained(setting.tangent, targets, 100_000, rate), end, rtol=1e-4)
    # Control: the real student, trained alike, goes elsewhere.
    real = setting.trained(setting.network, targets, 300, rate)
    assert np.linalg.norm(flat(real) - flat(predicted)) > 0.01 * np.linalg.norm(flat(predicted))


@pytest.mark.parametrize(("activation", "exponent"), [(jax.nn.relu, 0.5), (jnp.tanh, 1.0)])
def test_the_student_leaves_its_linearisation_by_the_root_of_the_displacement_where_there_are_kinks(
    activation, exponent
):
    keys = jax.random.split(jax.random.key(0), 5)
    theta_0 = [jax.random.normal(key, shape) / shape[1] ** 0.5
               for key, shape in zip(keys, [(32, 16), (32, 32), (3, 32)], strict=False)]  # fmt: skip
    inputs = jax.random.uniform(keys[3], (16, 200), minval=-1.0)
    d_t = optax.tree.random_like(keys[4], theta_0)
    d_t = optax.tree.scale(optax.tree.norm(theta_0) / optax.tree.norm(d_t), d_t)

    def f(theta, x):
        for weight in theta[:-1]:
            x = activation(weight @ x)
        return theta[-1] @ x

    f_lin = linearise(f, theta_0)
    rate = 1 / sharpness(lambda theta: jnp.mean(f_lin(theta, inputs) ** 2), theta_0, keys[4])

    @jax.jit
    def distance(eps):
        targets = f(optax.tree.add_scale(theta_0, eps, d_t), inputs)

        def trained(model):
            loss = jax.grad(lambda theta: jnp.mean((model(theta, inputs) - targets) ** 2))
            return jax.lax.fori_loop(0, 30, lambda _, theta: optax.tree.add_scale(theta, -rate, loss(theta)), theta_0)

        linear = trained(f_lin)
        apart = optax.tree.norm(optax.tree.sub(trained(f), linear))
        return apart / optax.tree.norm(optax.tree.sub(linear, theta_0))

    near, far = (float(distance(eps)) for eps in (0.003, 0.1))
    np.testing.assert_allclose(np.log(far / near) / np.log(0.1 / 0.003), exponent, atol=0.12)


def test_many_steps_are_the_limit_and_one_step_is_the_gradient(setting):
    targets = setting.targets(setting.network)
    one = functools.partial(after_steps, setting.f, setting.theta_0, setting.inputs, targets)
    rate = 0.5 * largest_step(setting)
    close(one(learning_rate=rate, steps=10**9), limit(setting.f, setting.theta_0, setting.inputs, targets), rtol=1e-5)

    def loss(theta):
        return jnp.mean(jnp.square(jax.vmap(setting.f, (None, 0))(theta, setting.inputs) - targets))

    close(one(learning_rate=rate, steps=1), optax.tree.scale(-rate, jax.grad(loss)(setting.theta_0)))


def test_never_against_the_teacher_however_large_its_step(setting):
    """d_S . d_T >= 0 after any number of steps for a linearised teacher; for a real one some sign is negative."""
    kernel = tangent_kernel(setting.f, setting.theta_0, setting.inputs)
    rate = 0.9 * largest_step(setting)

    @functools.partial(jax.jit, static_argnames=("teacher", "steps"))
    def recovered(key, teacher, steps):
        d_t = optax.tree.scale(3.0, optax.tree.random_like(key, setting.theta_0))
        theta_t = optax.tree.add(setting.theta_0, d_t)
        targets = getattr(setting, teacher).batched(theta_t, setting.inputs)[:, N_CLASS:]
        d = after_steps(
            setting.f, setting.theta_0, setting.inputs, targets, learning_rate=rate, steps=steps, kernel=kernel
        )
        return recovered_fraction(d, d_t)

    keys = jax.random.split(jax.random.key(0), 50)
    for steps in (1, 10, 1000):
        assert min(float(recovered(key, "tangent", steps)) for key in keys) > 0
        assert min(float(recovered(key, "network", steps)) for key in keys) < 0


def test_all_is_recovered_where_the_logits_determine_everything():
    """A model whose every parameter moves an output, on more inputs than parameters."""

    def f(theta, x):
        return jnp.tanh(theta["w"] @ x + theta["b"])

    keys = jax.random.split(jax.random.key(1), 3)
    theta_0 = {"w": jax.random.normal(keys[0], (2, 4)), "b": jnp.array([0.1, -0.2])}
    inputs = jax.random.normal(keys[1], (30, 4))
    d_t = optax.tree.random_like(keys[2], theta_0)
    np.testing.assert_allclose(recovered_fraction(project(f, theta_0, inputs, d_t), d_t), 1, rtol=1e-9)
    # With a single input it is two rows of J against ten parameters.
    few = recovered_fraction(project(f, theta_0, inputs[:1], d_t), d_t)
    assert 0 < few < 0.9


def test_nothing_is_recovered_in_the_degenerate_branch(setting):
    class_head_only, zero = class_head_of(setting.d_t), optax.tree.zeros_like(setting.d_t)
    projected = project(setting.f, setting.theta_0, setting.inputs, class_head_only)
    assert not flat(projected).any()
    assert recovered_fraction(projected, class_head_only) == 0
    targets = jax.vmap(lambda x: setting.f(optax.tree.add(setting.theta_0, class_head_only), x))(setting.inputs)
    solved = limit_by_cg(setting.f, setting.theta_0, setting.inputs, targets)
    assert not flat(solved.displacement).any()
    assert solved.residual == 0
    assert recovered_fraction(zero, zero) == 0


def test_a_strangers_span_recovers_less(setting):
    """Control: of a displacement in the span of theta_0's own gradients nothing is lost, of a stranger's span much."""
    d_t = project(setting.f, setting.theta_0, setting.inputs, setting.d_t)
    own = recovered_fraction(project(setting.f, setting.theta_0, setting.inputs, d_t), d_t)
    other = recovered_fraction(project(setting.f, setting.stranger, setting.inputs, d_t), d_t)
    np.testing.assert_allclose(own, 1, rtol=1e-9)
    assert other < 0.8


def test_sharpness_is_the_largest_eigenvalue(setting):
    def loss(theta):
        return jnp.mean(jnp.square(jax.vmap(lambda x: setting.tangent.apply(theta, x)[N_CLASS:])(setting.inputs)))

    exact = 2 * np.linalg.norm(setting.jacobian, 2) ** 2 / (N_INPUTS * N_AUX)
    found = sharpness(loss, setting.theta_0, jax.random.key(3), iterations=300)
    np.testing.assert_allclose(found, exact, rtol=1e-6)
    # Elsewhere the linearised loss bends alike.
    np.testing.assert_allclose(sharpness(loss, setting.teacher, jax.random.key(3), iterations=300), exact, rtol=1e-6)
