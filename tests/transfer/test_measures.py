import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.linear_model import LogisticRegression

from subsim.networks import parameters
from subsim.networks.mlp import MLPConfig, make_mlp
from subsim.transfer import measures


def test_accuracy_counts_the_largest_logit():
    logits = jnp.array([[1.0, 2.0], [3.0, 0.0], [0.0, 1.0]])
    assert float(measures.accuracy(logits, jnp.array([1, 0, 0]))) == pytest.approx(2 / 3)


def test_a_diverged_network_has_no_accuracy():
    logits = jnp.array([[1.0, jnp.nan], [3.0, 0.0]])
    assert jnp.isnan(measures.accuracy(logits, jnp.array([0, 0])))


def test_alignment_is_the_cosine_over_all_parameters():
    a = {"w": jnp.array([[1.0, 2.0]]), "b": jnp.array([3.0])}
    b = jax.tree.map(lambda leaf: -2 * leaf + 1, a)
    x, y = (np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)]) for tree in (a, b))
    expected = x @ y / np.linalg.norm(x) / np.linalg.norm(y)
    np.testing.assert_allclose(parameters.alignment(a, b), expected, rtol=1e-6)
    np.testing.assert_allclose(parameters.alignment(a, jax.tree.map(jnp.negative, a)), -1, rtol=1e-6)
    assert parameters.alignment(a, parameters.displacement(a, a)) == 0
    assert jnp.isnan(parameters.alignment(a, jax.tree.map(lambda leaf: leaf * jnp.nan, a)))


def test_alignment_by_layer_adds_up_to_the_total_with_norms_as_weights(x64):
    network = make_mlp(MLPConfig((6, 5), init="torch"), 4, 3)
    a, b = (network.init(jax.random.key(seed)) for seed in (0, 1))
    cosines, products = (parameters.by_layer(measure, a, b) for measure in (parameters.alignment, optax.tree.vdot))
    assert list(cosines) == list(products) == ["aux_head", "class_head", "hidden.0", "hidden.1"]
    norms = [parameters.by_layer(lambda x, _: optax.tree.norm(x), each, each) for each in (a, b)]
    weighted = [cosine * norms[0][name] * norms[1][name] for name, cosine in cosines.items()]
    np.testing.assert_allclose(weighted, list(products.values()), rtol=1e-12)
    total = optax.tree.norm(a) * optax.tree.norm(b) * parameters.alignment(a, b)
    np.testing.assert_allclose(sum(weighted), total, rtol=1e-12)
    np.testing.assert_allclose(cosines["hidden.1"], parameters.alignment(a["hidden"][1], b["hidden"][1]), rtol=1e-12)


def test_a_layer_that_no_gradient_reaches_is_not_displaced_even_where_its_init_is_computed_anew():
    def moved(key):
        start = jax.random.normal(key, (50, 8)) * 0.3
        still = jax.lax.fori_loop(0, 3, lambda _, w: w + 0 * jnp.sin(w), start)
        return parameters.displacement(still, start), parameters.displacement(start * (1 + 1e-6), start)

    nothing, little = jax.jit(moved)(jax.random.key(0))
    assert (nothing == 0).all()
    assert (little != 0).all()


def gaussian(n, width, seed=0):
    return jax.random.normal(jax.random.key(seed), (n, width))


def rotation(width):
    return jnp.linalg.qr(gaussian(width, width, 7))[0]


@pytest.mark.parametrize("n", [12, 60])
def test_cka_is_one_and_blind_to_rotation_scale_and_shift(n, x64):
    a, b = gaussian(n, 20), gaussian(n, 30, 1) + gaussian(n, 1)
    np.testing.assert_allclose(measures.linear_cka(a, a), 1, rtol=1e-12)
    np.testing.assert_allclose(measures.linear_cka(a, -3 * a @ rotation(20) + 5), 1, rtol=1e-12)
    there = measures.linear_cka(a, b)
    assert 0 < there < 0.9
    np.testing.assert_allclose(measures.linear_cka(b @ rotation(30), 2 * a + 1), there, rtol=1e-12)
    # Control: another linear map, though invertible, is seen.
    assert measures.linear_cka(a, a * jnp.linspace(0.1, 3, 20)[None]) < 0.98


@pytest.mark.parametrize("n", [15, 50])
def test_cka_in_either_space_is_the_centred_kernels_alignment(n, x64):
    """The definition by kernels and the centring matrix, with fewer and with more examples than units."""
    a, b = np.asarray(gaussian(n, 20)), np.asarray(gaussian(n, 30, 1) ** 2)
    centring = np.eye(n) - 1 / n

    def hsic(x, y):
        return np.trace(x @ x.T @ centring @ y @ y.T @ centring)

    expected = hsic(a, b) / np.sqrt(hsic(a, a) * hsic(b, b))
    np.testing.assert_allclose(measures.linear_cka(jnp.asarray(a), jnp.asarray(b)), expected, rtol=1e-12)


@pytest.mark.parametrize("n", [100, 2000])
def test_cka_of_independent_gaussians_is_what_chance_gives(n, x64):
    p, q = 40, 160
    expected = np.sqrt(p * q / ((n + p) * (n + q)))
    np.testing.assert_allclose(measures.linear_cka(gaussian(n, p), gaussian(n, q, 1)), expected, rtol=0.05)


def test_constant_features_are_like_nothing_and_diverged_ones_like_nan():
    a = gaussian(9, 4)
    assert measures.linear_cka(a, jnp.ones((9, 4))) == 0
    assert measures.feature_cosine(a, jnp.zeros((9, 4))) == 0
    assert jnp.isnan(measures.linear_cka(a, a * jnp.nan))
    assert jnp.isnan(measures.feature_cosine(a, a * jnp.nan))


def test_feature_cosine_is_the_mean_over_examples(x64):
    a, b = jnp.array([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]]), jnp.array([[5.0, 0.0], [-1.0, 0.0], [4.0, 4.0]])
    np.testing.assert_allclose(measures.feature_cosine(a, b), (1 - 1 + 0.5**0.5) / 3, rtol=1e-12)
    np.testing.assert_allclose(measures.feature_cosine(a, 3 * a), 1, rtol=1e-12)
    # Strangers' rectified units: alike as they are, not when centred.
    c, d = (jnp.maximum(gaussian(4000, 50, seed), 0) for seed in (2, 3))
    # Means 1/sqrt(2 pi), mean squares 1/2: a cosine of 1/pi.
    np.testing.assert_allclose(measures.feature_cosine(c, d), 1 / np.pi, atol=0.01)
    np.testing.assert_allclose(measures.feature_cosine(measures.centred(c), measures.centred(d)), 0, atol=0.01)


def clusters(n=300, width=12, n_class=4):
    """Rectified features of overlapping classes, far from centred."""
    labels = jax.random.randint(jax.random.key(1), (n,), 0, n_class)
    centres = gaussian(n_class, width, 2)
    return jnp.maximum(gaussian(n, width) + centres[labels] + 1, 0), labels


@pytest.mark.parametrize("penalty", [1e-4, 1e-2, 1.0])
def test_probe_is_scikit_learns(penalty, x64):
    features, labels = clusters()
    found = jax.jit(lambda penalty: measures.linear_probe(features, labels, 4, penalty, tolerance=1e-10))(penalty)
    inverse = 1 / (len(labels) * penalty)
    theirs = LogisticRegression(C=inverse, solver="newton-cg", tol=1e-12, max_iter=10_000)
    theirs.fit(np.asarray(features), np.asarray(labels))
    assert found.slope <= 1e-10
    np.testing.assert_allclose(found.weight, theirs.coef_, atol=1e-6)
    np.testing.assert_allclose(found.bias, theirs.intercept_ - theirs.intercept_.mean(), atol=1e-6)
    fresh, answers = clusters(n=301)
    np.testing.assert_array_equal(np.argmax(found.logits(fresh), axis=1), theirs.predict(np.asarray(fresh)))
    accuracy = theirs.score(np.asarray(fresh), np.asarray(answers))
    np.testing.assert_allclose(measures.accuracy(found.logits(fresh), answers), accuracy, rtol=1e-12)


def test_probe_converges_in_single_precision_and_side_by_side():
    features, labels = clusters()
    scales = jnp.array([0.1, 1.0, 10.0])
    probes = jax.vmap(lambda scale: measures.linear_probe(scale * features, labels, 4, 1e-3 * scale**2))(scales)
    assert (probes.slope <= 1e-5).all()
    # Scaled features with a penalty scaled alike are the same problem.
    for probe, scale in zip(probes.weight, scales, strict=True):
        np.testing.assert_allclose(probe * scale, probes.weight[1], atol=0.02)


def test_a_probe_that_runs_out_of_steps_says_so():
    features, labels = clusters()
    assert measures.linear_probe(features, labels, 4, 1e-3, max_steps=3).slope > 1e-5
    assert jnp.isnan(measures.linear_probe(features * jnp.nan, labels, 4, 1e-3).slope)


def test_effective_rank_counts_directions():
    turned, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))
    for variances, rank, share in (
        ([1, 1, 1, 0, 0, 0], 3, 1 / 3),
        ([2, 0, 0, 0, 0, 0], 1, 1),
        ([4, 1, 1, 0, 0, 0], 2, 2 / 3),
    ):
        covariance = jnp.asarray(turned * np.array(variances) @ turned.T, jnp.float32)
        np.testing.assert_allclose(measures.effective_rank(covariance), rank, rtol=1e-5)
        np.testing.assert_allclose(measures.top_share(covariance), share, rtol=1e-5)
