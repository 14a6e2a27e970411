import numpy as np
import pytest
import scipy.stats
import xarray as xr

from subsim.analysis import prediction
from subsim.analysis.prediction import area_over_seeds, area_under_roc, cross_fitted, over_labels, over_seeds
from subsim.analysis.summary import mean_interval


def seeds(values, *dims):
    return xr.DataArray(np.asarray(values, float), dims=("seed", *dims), coords={"seed": np.arange(len(values))})


def pair(random, n, correlation):
    """Two Gaussians of this correlation; Spearman's is then 6/pi arcsin(correlation / 2)."""
    x, noise = random.standard_normal((2, n))
    return seeds(x), seeds(correlation * x + np.sqrt(1 - correlation**2) * noise)


def test_the_mean_of_the_pseudo_values_is_the_correlation_and_their_interval_covers_it():
    random = np.random.default_rng(0)
    true = 6 / np.pi * np.arcsin(0.6 / 2)
    covered = []
    for _ in range(200):
        x, y = pair(random, 60, 0.6)
        found = mean_interval(over_seeds(x, y))
        assert float(found["mean"]) == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=0.03)
        covered.append(bool((found.low < true) & (true < found.high)))
    assert 0.89 < np.mean(covered) < 0.99  # .95, with a standard deviation of .015


@pytest.mark.parametrize("digits", [9, 0], ids=["no ties", "ties"])
@pytest.mark.parametrize("places", [2**22, 100], ids=["at once", "in pieces"])
def test_a_pseudo_value_is_made_by_leaving_a_seed_out(digits, places, monkeypatch):
    monkeypatch.setattr(prediction, "_MOST_RANKS", places)
    x, y = (np.round(values, digits) for values in pair(np.random.default_rng(6), 30, 0.5))
    whole = scipy.stats.spearmanr(x, y).statistic
    for seed, found in enumerate(over_seeds(x, y).values):
        without = scipy.stats.spearmanr(x.drop_sel(seed=seed), y.drop_sel(seed=seed)).statistic
        assert found == pytest.approx(30 * whole - 29 * without)


def test_every_label_is_correlated_alone_and_what_is_not_finite_is_left_out():
    random = np.random.default_rng(1)
    (x, y), other = pair(random, 40, 0.8), seeds(random.standard_normal(40))
    both = xr.concat([x, other], "what")
    holed = y.where(y.seed != 3)
    found = over_seeds(both, holed)
    assert found.dims == ("seed", "what")
    assert np.isnan(found.sel(seed=3)).all()
    alone = over_seeds(x.drop_sel(seed=3), y.drop_sel(seed=3))
    np.testing.assert_allclose(found.isel(what=0).drop_sel(seed=3), alone)


@pytest.mark.parametrize("values", [np.ones(10), [1, 2, 3] + [np.nan] * 7])
def test_where_nothing_varies_or_too_little_is_left_there_is_no_correlation(values):
    assert np.isnan(over_seeds(seeds(values), seeds(np.arange(10)))).all()


def test_a_fit_predicts_the_seeds_that_it_has_not_seen():
    random = np.random.default_rng(2)
    known = seeds(random.standard_normal((30, 2)), "what")
    wanted = 3 + known @ xr.DataArray([2.0, -1.0], dims="what")
    np.testing.assert_allclose(cross_fitted(known, wanted, "what"), wanted)
    # An outlier moves what is said of the other half, and not of its own.
    off = wanted.copy()
    off[4] += 100
    found = cross_fitted(known, off, "what")
    even = found.seed % 2 == 0
    np.testing.assert_allclose(found[even], wanted[even])
    assert (np.abs(found[~even] - wanted[~even]) > 0.1).all()
    known[7, 0] = np.nan
    assert np.isnan(cross_fitted(known, wanted, "what")[7])


def test_what_knows_nothing_predicts_nothing():
    random = np.random.default_rng(3)
    known, wanted = seeds(random.standard_normal((400, 5)), "what"), seeds(random.standard_normal(400))
    found = mean_interval(over_seeds(cross_fitted(known, wanted, "what"), wanted))
    assert abs(float(found["mean"])) < 0.2


def test_over_labels_each_seed_is_ranked_alone():
    known = seeds([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 4, 3], [5, 5, 5, 5]], "what")
    wanted = seeds([[2, 4, 6, 9], [4, 3, 2, 1], [1, 2, 3, 4], [1, 2, 3, 4]], "what")
    np.testing.assert_allclose(over_labels(known, wanted, "what"), [1, -1, 0.8, np.nan])
    both = xr.concat([known, -known], "kind")
    np.testing.assert_allclose(over_labels(both, wanted, "what").isel(kind=1), [-1, 1, -0.8, np.nan])


def test_the_area_is_the_share_of_pairs_in_the_right_order():
    known = seeds([[1, 2, 3, 4], [1, 2, 3, 4], [1, 1, 1, 1], [1, 2, 3, 4]], "what")
    happened = xr.DataArray([[0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 0, 1], [1, 1, 1, 1]], dims=known.dims).astype(bool)
    np.testing.assert_allclose(area_under_roc(known, happened, "what"), [1, 0.75, 0.5, np.nan])


def test_the_area_over_seeds_is_that_of_all_pairs_and_its_interval_covers_it():
    random, covered = np.random.default_rng(2), []
    true = scipy.stats.norm.cdf(1 / np.sqrt(2))  # of two Gaussians that are one standard deviation apart
    for _ in range(200):
        present, absent = seeds(random.standard_normal(50) + 1), seeds(random.standard_normal(50))
        found = mean_interval(area_over_seeds(present, absent))
        whole = scipy.stats.mannwhitneyu(present, absent).statistic / 50**2
        assert float(found["mean"]) == pytest.approx(whole, abs=1e-12)
        covered.append(bool((found.low < true) & (true < found.high)))
    assert 0.89 < np.mean(covered) < 0.99  # .95, with a standard deviation of .015


def test_an_area_leaves_out_seeds_that_diverged_and_halves_ties():
    found = area_over_seeds(seeds([1, 2, np.nan, 1]), seeds([0, 1, 5, 1]))
    assert np.isnan(found.values).tolist() == [False, False, True, False]
    assert float(found.mean()) == pytest.approx((2 + 3 + 2) / 9)
