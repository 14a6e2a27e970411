import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from subsim import inputs


def everything(bank):
    return np.asarray(inputs.columns(bank, jnp.arange(bank.values.shape[0]))).T


def test_images_fill_minus_one_to_one():
    bank = inputs.image_bank(np.array([[0, 255], [51, 204]], np.uint8))
    np.testing.assert_allclose(everything(bank), [[-1, 1], [-0.6, 0.6]], atol=1e-6)
    np.testing.assert_allclose(everything(inputs.image_bank(np.array([[0, 8, 16]], np.uint8), 16)), [[-1, 0, 1]])


@pytest.mark.parametrize("n_pixels", [64, 63])  # four pixels share a draw: also where they do not divide the image
def test_uniform_noise_has_its_law(n_pixels):
    bank = inputs.uniform_noise(jax.random.key(0), 4000, n_pixels)
    assert bank.values.dtype == jnp.uint8
    values = everything(bank)
    assert values.shape == (4000, n_pixels)
    counts = np.bincount(np.asarray(bank.values).ravel(), minlength=256)
    assert scipy.stats.chisquare(counts).pvalue > 1e-3
    np.testing.assert_allclose((values.min(), values.max()), (-255 / 256, 255 / 256))
    levels = everything(bank._replace(values=jnp.arange(256, dtype=jnp.uint8).reshape(1, -1)))
    np.testing.assert_allclose(levels.mean(), 0, atol=1e-7)
    np.testing.assert_allclose(levels.var(), 1 / 3, atol=2e-5)
    # Neighbours come from one 32-bit draw and must still be independent.
    correlation = np.corrcoef(values[:, :8].T)
    assert np.abs(correlation - np.eye(8)).max() < 5 / np.sqrt(4000)


def test_gaussian_noise_has_its_law():
    values = everything(inputs.gaussian_noise(jax.random.key(0), 500, 64))
    assert scipy.stats.kstest(values.ravel(), "norm").pvalue > 1e-3


@pytest.mark.parametrize("name", inputs.NOISE)
def test_scaling_multiplies_every_pixel(name):
    bank = inputs.NOISE[name](jax.random.key(0), 10, 8)
    np.testing.assert_allclose(everything(inputs.scaled(bank, 0.3)), 0.3 * everything(bank), rtol=1e-5, atol=1e-7)


def test_noise_is_the_same_in_every_precision():
    single = inputs.uniform_noise(jax.random.key(0), 3, 8).values
    with jax.enable_x64(True):
        bank = inputs.uniform_noise(jax.random.key(0), 3, 8)
        assert everything(bank).dtype == np.float64
        assert (bank.values == single).all()


@pytest.mark.parametrize("structure", [0.0, 0.6, 1.0])
def test_labels_explain_their_share_of_the_inputs(structure):
    inputs_drawn, labels = inputs.labelled_clusters(jax.random.key(0), 20_000, 30, 5, structure)
    assert scipy.stats.chisquare(np.bincount(labels, minlength=5)).pvalue > 1e-3
    values = np.asarray(inputs_drawn)
    means = np.stack([values[np.asarray(labels) == label].mean(axis=0) for label in range(5)])
    # Between the labels lies structure^2 of the variance, within them the rest; centres are 150 draws of N(0, 1).
    np.testing.assert_allclose(np.mean(means**2), structure**2, atol=0.25 * structure**2 + 1e-3)
    within = np.mean((values - means[np.asarray(labels)]) ** 2)
    np.testing.assert_allclose(within, 1 - structure**2, atol=0.01)
