import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.stats

from subsim.data import inputs
from subsim.options import UserError


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


SIDE, N = 8, 5000
PIXELS = SIDE**2


def images():
    """Smooth blobs, dark at the edges and brighter below: neither their mean nor their covariance is flat."""
    random = np.random.default_rng(0)
    smooth = scipy.ndimage.gaussian_filter(random.normal(size=(300, SIDE, SIDE)), (0, 1, 2), mode="nearest")
    window = np.outer(np.linspace(0.3, 1, SIDE), np.sin(np.pi * np.arange(SIDE) / SIDE))
    return inputs.image_bank(np.clip(255 * (0.3 + smooth) * window, 0, 255).astype(np.uint8).reshape(300, PIXELS))


def draw(kind, n=N, seed=1, *, blur_sigma=1.0, rank=10, real_share=0.5):
    numbers = {"blur_sigma": blur_sigma, "rank": rank, "real_share": real_share}
    return inputs.make_draw(jax.random.key(0), kind, images(), **numbers)(jax.random.key(seed), n)


def power(rows):
    """Mean |FFT|^2 of images in rows, by numpy."""
    return np.mean(np.abs(np.fft.fft2(rows.astype(np.float64).reshape(-1, SIDE, SIDE))) ** 2, axis=0)


@pytest.mark.parametrize("kind", ["bernoulli", "blurred", "subspace", "spectrum", "covariance", "mixture"])
def test_noise_takes_a_byte_a_pixel_and_is_scaled_as_a_whole(kind):
    bank = draw(kind, 50)
    assert bank.values.dtype == jnp.uint8
    assert bank.values.shape == (50, PIXELS)
    np.testing.assert_allclose(everything(inputs.scaled(bank, 0.3)), 0.3 * everything(bank), rtol=1e-4, atol=1e-6)


def test_bernoulli_noise_has_its_law():
    values = everything(inputs.bernoulli_noise(jax.random.key(0), 4000, 63))
    assert set(values.ravel()) == {-1, 1}
    assert scipy.stats.binomtest(int((values > 0).sum()), values.size).pvalue > 1e-3
    # 32 pixels come from one draw and must still be independent.
    assert np.abs(np.corrcoef(values.T) - np.eye(63)).max() < 5 / np.sqrt(4000)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
def test_blurred_noise_is_filtered_by_the_gaussian_and_keeps_its_variance(sigma):
    bank = draw("blurred", blur_sigma=sigma)
    white, blurred = everything(bank._replace(colour=None)), everything(bank)
    filtered = [scipy.ndimage.fourier_gaussian(np.fft.fft2(x.reshape(SIDE, SIDE)), sigma) for x in white[:20]]
    expected = np.fft.ifft2(filtered).real.reshape(20, PIXELS)
    gain = np.vdot(expected, blurred[:20]) / np.vdot(expected, expected)
    np.testing.assert_allclose(blurred[:20], gain * expected, atol=1e-5)
    np.testing.assert_allclose(np.sum(np.square(bank.colour.mix), axis=1), 1, rtol=1e-5)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE)))
    stated = np.exp(-4 * np.pi**2 * sigma**2 * frequency**2)
    stated *= PIXELS * inputs.UNIFORM_VARIANCE / stated.mean()
    # A periodogram's mean over N has the relative error N^-1/2; rounding leaves a floor.
    np.testing.assert_allclose(power(blurred), stated, rtol=6 / np.sqrt(N), atol=1e-6)


def test_no_blur_and_the_whole_space_change_nothing():
    for bank in (draw("blurred", blur_sigma=0.0), draw("subspace", rank=PIXELS), draw("subspace", rank=10**6)):
        np.testing.assert_allclose(everything(bank), everything(bank._replace(colour=None)), atol=1e-5)


@pytest.mark.parametrize("rank", [1, 10, 40])
def test_subspace_noise_has_its_rank_and_variance(rank):
    bank = draw("subspace", rank=rank)
    values = everything(bank)
    assert np.linalg.matrix_rank(values, tol=1e-3) == rank
    # Squared noise in a space of dimension k, averaged over N draws, spreads by less than (2 / N k)^1/2.
    np.testing.assert_allclose(values.var(axis=0).mean(), 1 / 3, rtol=5 * np.sqrt(2 / (N * rank)))
    # Inside its subspace the noise is alike in all directions, and a larger subspace contains it.
    inside = np.linalg.eigvalsh(np.asarray(bank.colour.mix))[-rank:]
    np.testing.assert_allclose(inside, np.sqrt(PIXELS / rank), rtol=1e-5)
    larger = draw("subspace", 1, rank=rank + 5).colour.mix
    np.testing.assert_allclose(larger @ bank.colour.mix, bank.colour.mix * np.sqrt(PIXELS / (rank + 5)), atol=1e-4)


def test_subspaces_are_the_keys_own_and_shared_by_draws_of_one_law():
    a, b = draw("subspace", 20, seed=1), draw("subspace", 20, seed=2)
    assert (a.colour.mix == b.colour.mix).all()
    assert (a.values != b.values).any()
    other = inputs.random_subspace(jax.random.key(5), 10, PIXELS)
    assert np.abs(other.mix - a.colour.mix).max() > 0.1


def test_moments_are_numpys():
    bank = draw("gaussian", 2 * inputs.BLOCK + 7)
    found, values = inputs.moments(bank), everything(bank).astype(np.float64)
    np.testing.assert_allclose(found.mean, values.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.covariance, np.cov(values.T, bias=True), atol=2e-6)


def test_spectrum_matched_noise_has_the_images_spectrum_and_mean_grey():
    real, bank = everything(images()), draw("spectrum")
    values = everything(bank)
    wanted = power(real)
    # In expectation, exactly: of unit white noise, and of the grey level at frequency zero.
    exact = np.abs(np.fft.fft2(np.asarray(bank.colour.mix)[:, 0].reshape(SIDE, SIDE))) ** 2 * PIXELS
    exact[0, 0] += (PIXELS * real.mean()) ** 2
    np.testing.assert_allclose(exact, wanted, rtol=1e-3)
    np.testing.assert_allclose(power(values), wanted, rtol=6 / np.sqrt(N))
    np.testing.assert_allclose(values.mean(), real.mean(), atol=0.01)
    np.testing.assert_allclose(values.var(), np.mean((real - real.mean()) ** 2), rtol=0.05)
    # Control: the images' covariance is not theirs.
    assert np.abs(inputs.moments(bank).covariance - inputs.moments(images()).covariance).max() > 0.01


def test_covariance_matched_noise_has_the_images_mean_and_covariance():
    of, bank = inputs.moments(images()), draw("covariance")
    np.testing.assert_allclose(bank.colour.mix @ bank.colour.mix, of.covariance, atol=1e-5)
    found = inputs.moments(bank)
    np.testing.assert_allclose(found.mean, of.mean, atol=5 * np.sqrt(float(of.covariance.max()) / N))
    scale = float(of.covariance.max())
    np.testing.assert_allclose(found.covariance, of.covariance, atol=6 * scale / np.sqrt(N))


def test_mixtures_have_their_share_of_real_images():
    real = everything(images())
    before = np.zeros(N, bool)
    for share in (0.0, 0.3, 1.0):
        bank = draw("mixture", real_share=share)
        values, which = everything(bank), np.asarray(bank.real.which)
        is_real = which >= 0
        assert scipy.stats.binomtest(int(is_real.sum()), N, share).pvalue > 1e-3
        np.testing.assert_array_equal(values[is_real], real[which[is_real]])
        np.testing.assert_array_equal(values[~is_real], everything(bank._replace(real=None))[~is_real])
        assert is_real[before].all()  # what is real at a smaller share stays so
        before = is_real
    assert scipy.stats.chisquare(np.bincount(which, minlength=len(real))).pvalue > 1e-3


def test_numbers_of_noise_are_traced():
    """One compiled program serves every number, side by side as one by one."""

    def see(kind):
        def pixels_of(blur_sigma, rank, real_share):
            bank = draw(kind, 6, blur_sigma=blur_sigma, rank=rank, real_share=real_share)
            return inputs.columns(bank, jnp.arange(6))

        return pixels_of

    numbers = jnp.array([0.2, 1.5]), jnp.array([3, 30]), jnp.array([0.1, 0.9])
    for kind in ("blurred", "subspace", "mixture"):
        together = jax.jit(jax.vmap(see(kind)))(*numbers)
        assert np.abs(together[0] - together[1]).max() > 0.1
        for place in range(2):
            np.testing.assert_allclose(together[place], see(kind)(*(each[place] for each in numbers)), atol=1e-5)


@pytest.mark.parametrize("kind", ["blurred", "spectrum"])
def test_noise_with_neighbours_needs_square_images(kind):
    flat = inputs.image_bank(np.zeros((4, 12), np.uint8))
    with pytest.raises(UserError, match=f"{kind}.*square.*12 pixels"):
        inputs.make_draw(jax.random.key(0), kind, flat, blur_sigma=1.0, rank=1, real_share=0.5)


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


@pytest.mark.parametrize("kind", ["white", "coloured", "mixture"])
def test_a_shift_is_added_to_every_pixel_and_a_permutation_is_one_for_all(kind):
    bank = inputs.uniform_noise(jax.random.key(0), 40, 9)
    if kind == "coloured":
        bank = bank._replace(colour=inputs.blur(1.0, 9))
    if kind == "mixture":
        bank = inputs.mixture(jax.random.key(1), bank, inputs.image_bank(np.full((3, 9), 7, np.uint8)), 0.5)
    index = jnp.arange(40)
    plain = np.asarray(inputs.examples(bank, index))
    np.testing.assert_allclose(inputs.examples(inputs.shifted(bank, 0.3), index), plain + 0.3, atol=1e-6)
    twice = inputs.scaled(inputs.shifted(bank, 0.3), 2.0)
    np.testing.assert_allclose(inputs.examples(twice, index), 2 * plain + 0.6, atol=1e-6)
    permuted = inputs.permuted(jax.random.key(2), bank)
    np.testing.assert_array_equal(inputs.examples(permuted, index), plain[:, permuted.order])
    assert sorted(permuted.order.tolist()) == list(range(9))
    assert permuted.order.tolist() != list(range(9))
