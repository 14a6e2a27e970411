import numpy as np
import pytest
import scipy.stats
import xarray as xr

from subsim.analysis.summary import (
    contrasts,
    lowest_common,
    matched,
    mean_interval,
    median_interval,
    minimum_detectable_effect,
    paired_contrast,
    positive_rate,
    rank_correlation,
    rate_interval,
)


@pytest.fixture
def values():
    numbers = np.random.default_rng(0).normal(loc=(0.0, 5.0), size=(12, 2))
    return xr.DataArray(numbers, dims=("seed", "condition"), coords={"condition": ["a", "b"]})


def test_mean_interval_is_students_t(values):
    summary = mean_interval(values)
    for label in ("a", "b"):
        column = values.sel(condition=label).values
        expected = scipy.stats.t.interval(0.95, 11, column.mean(), scipy.stats.sem(column))
        row = summary.sel(condition=label)
        np.testing.assert_allclose((row.low, row.high), expected)
        assert (int(row.n), int(row.dropped)) == (12, 0)


def test_diverged_seeds_are_dropped_and_counted(values):
    values[3, 0], values[7, 0] = np.nan, np.inf
    summary = mean_interval(values)
    kept = np.delete(values.values[:, 0], [3, 7])
    np.testing.assert_allclose(summary["mean"].sel(condition="a"), kept.mean())
    assert summary.n.values.tolist() == [10, 12]
    assert summary.dropped.values.tolist() == [2, 0]


def test_one_seed_has_no_interval(values):
    summary = mean_interval(values[:1])
    assert np.isfinite(summary["mean"]).all()
    assert np.isnan(summary.low).all()
    assert np.isnan(summary.high).all()


@pytest.mark.parametrize(("n", "power"), [(12, 0.8), (200, 0.8), (30, 0.5)])
def test_the_minimum_detectable_effect_is_detected_with_its_power(n, power):
    """Of 4,000 repetitions in which the difference is just that large, this share has an interval without 0."""
    noise = xr.DataArray(np.random.default_rng(1).normal(size=(n, 4_000)), dims=("seed", "repetition"))
    difference = minimum_detectable_effect(mean_interval(noise), power).mean()
    seen = (mean_interval(noise + difference).low > 0).mean()
    assert float(seen) == pytest.approx(power, abs=0.03)


def test_contrasts_are_paired():
    common = np.random.default_rng(1).normal(size=50) * 100
    both = xr.DataArray(np.stack([common, common + 1], 1), dims=("seed", "condition"), coords={"condition": ["a", "b"]})
    contrast = paired_contrast(both.sel(condition="b"), both.sel(condition="a"))
    np.testing.assert_allclose((contrast.low, contrast["mean"], contrast.high), 1)  # their common spread cancels


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (3, 10), (713, 1000)])
def test_rate_interval_is_clopper_and_pearsons(successes, n):
    expected = scipy.stats.binomtest(successes, n).proportion_ci(method="exact")
    np.testing.assert_allclose(rate_interval(successes, n), expected, rtol=1e-8)


def test_the_mean_of_truths_is_a_rate_with_its_exact_interval():
    yes = np.array([[True] * 20, [True] * 3 + [False] * 17, [False] * 20]).T
    found = mean_interval(xr.DataArray(yes, dims=("seed", "what"), coords={"what": ["all", "some", "none"]}))
    np.testing.assert_allclose(found["mean"], [1, 0.15, 0])
    wanted = [rate_interval(count, 20) for count in (20, 3, 0)]
    np.testing.assert_allclose(np.transpose([found.low, found.high]), wanted)
    assert found.n.values.tolist() == [20] * 3
    assert found.dropped.values.tolist() == [0] * 3
    assert float(mean_interval(xr.DataArray([True], dims="seed"))["low"]) == pytest.approx(0.025)


@pytest.mark.parametrize("n", [9, 20])
def test_median_interval_is_the_sign_tests(n):
    numbers = np.random.default_rng(n).normal(size=n)
    summary = median_interval(xr.DataArray(numbers, dims="seed"))
    expected = scipy.stats.quantile_test(numbers, q=0, p=0.5).confidence_interval(0.95)
    np.testing.assert_allclose((summary["median"], summary.low, summary.high), (np.median(numbers), *expected))
    assert (int(summary.n), int(summary.dropped)) == (n, 0)


def test_median_interval_keeps_infinities_and_drops_nan(values):
    values[:4, 0], values[4:7, 1] = np.inf, np.nan
    summary = median_interval(values)
    assert summary.n.values.tolist() == [12, 9]
    assert summary.dropped.values.tolist() == [0, 3]
    assert np.isfinite(summary["median"]).all()
    assert np.isposinf(summary.high.sel(condition="a"))
    alone = median_interval(values.sel(condition="b").dropna("seed"))
    assert [float(summary[name].sel(condition="b")) for name in ("low", "median", "high")] == [
        float(alone[name]) for name in ("low", "median", "high")
    ]


def test_too_few_values_have_no_median_interval():
    summary = median_interval(xr.DataArray(np.arange(5.0), dims="seed"))
    assert (float(summary.low), float(summary["median"]), float(summary.high)) == (-np.inf, 2.0, np.inf)
    for nothing in (np.full(3, np.nan), np.zeros(0)):
        summary = median_interval(xr.DataArray(nothing, dims="seed"))
        assert np.isnan(summary["median"])
        assert int(summary.n) == 0


def test_a_positive_rate_leaves_out_what_is_not_finite_and_says_its_interval():
    values = xr.DataArray([1.0, 2.0, -1.0, 0.0, np.nan, np.inf], dims="seed")
    found = positive_rate(values)
    assert (found.rate, found.n) == (0.5, 4)
    assert (found.low, found.high) == rate_interval(2, 4)
    assert found.in_words(2) == f"0.50 [{found.low:.2f}, {found.high:.2f}]"
    assert found.bars == [[0.5 - found.low], [found.high - 0.5]]
    nothing = positive_rate(values[4:5])
    assert nothing.n == 0
    assert np.isnan(nothing.rate)
    assert (nothing.low, nothing.high) == (0, 1)


def test_values_are_matched_between_moments():
    along = xr.DataArray([[4.0, 2.0, 1.0, 3.0], [4.0, 3.0, 3.0, 3.0], [0.5, 0.4, 0.3, 0.2]], dims=("seed", "moment"))
    values = xr.DataArray([[0.0, 1.0, 3.0, 9.0]] * 3, dims=("seed", "moment"))
    found = matched(values, along, "moment", xr.DataArray(1.5))
    assert found.dims == ("seed",)
    np.testing.assert_array_equal(found, [2.0, np.nan, np.nan])  # halfway; never; before the first
    of_each = matched(values.T, along, "moment", xr.DataArray([1.5, 3.5, 0.25], dims="seed"))
    np.testing.assert_array_equal(of_each, [2.0, 0.5, 6.0])


def test_rank_correlation_is_spearmans_over_one_dimension_and_its_mean_over_others():
    random = np.random.default_rng(3)
    a = xr.DataArray(random.integers(0, 6, (4, 15, 2)).astype(float), dims=["seed", "condition", "m"])  # with ties
    measures = [a + random.normal(size=a.shape), -a]
    b = xr.concat(measures, xr.Variable("measure", ["noisy", "opposite"])).copy()
    b[0, 0, 1, 0] = np.nan
    found = rank_correlation(a, b.transpose("condition", "seed", "m", "measure"), within=["m"])
    assert set(found.dims) == {"seed", "measure"}
    np.testing.assert_allclose(found.sel(measure="opposite"), -1)
    for seed in range(4):
        of_each = []
        for m in range(2):
            x, y = a[seed, :, m].values, b[0, seed, :, m].values
            kept = np.isfinite(y)
            of_each.append(scipy.stats.spearmanr(x[kept], y[kept])[0])
        np.testing.assert_allclose(found.sel(measure="noisy")[seed], np.mean(of_each), rtol=1e-12)


def test_what_tells_settings_apart_alone_has_no_rank_correlation_within_them():
    accuracy = xr.DataArray([[[0.1, 0.2, 0.3], [0.7, 0.8, 0.9]]], dims=["seed", "m", "condition"])
    of_setting = xr.DataArray([[[1.2, 1.1, 1.3], [5.2, 5.1, 5.3]]], dims=["seed", "m", "condition"])
    np.testing.assert_allclose(rank_correlation(accuracy, of_setting, within=["m"]), 0.5)
    pooled = [values.stack(all=["m", "condition"]) for values in (accuracy, of_setting)]
    assert (rank_correlation(*pooled, over="all") > 0.8).all()


def test_rank_correlation_with_a_constant_is_no_number():
    a = xr.DataArray(np.arange(6.0).reshape(2, 3), dims=["seed", "condition"])
    assert np.isnan(rank_correlation(a, xr.zeros_like(a))).all()
    assert np.isnan(rank_correlation(a, a * np.nan)).all()
    np.testing.assert_allclose(rank_correlation(a, -a), -1)


def test_contrasts_are_paired_and_leave_out_what_is_not_there():
    values = xr.DataArray(
        [[[1.0, 2.0], [3.0, 5.0]], [[0.0, 4.0], [1.0, 1.0]]],
        dims=("seed", "m", "condition"),
        coords={"seed": [0, 1], "m": [1, 2], "condition": ["a", "b"]},
    )
    places = {(m, c): {"m": m, "condition": c} for m in (1, 2, 9) for c in "ab"}
    pairs = {"b less a": (places[1, "b"], places[1, "a"]), "not there": (places[9, "a"], places[1, "a"])}
    found = contrasts(values, pairs, "difference")
    assert found.contrast.values.tolist() == ["b less a"]
    np.testing.assert_array_equal(found.sel(contrast="b less a"), [1.0, 4.0])
    assert contrasts(values, {"not there": pairs["not there"]}, "difference").shape == (2, 0)


def test_the_lowest_common_level_is_reached_by_every_curve_of_those_alike():
    curves = [[4.0, 2.0, 1.0, 3.0], [4.0, 3.5, 3.0, 3.25]], [[4.0, 2.0, 0.5, 1.0], [4.0, 2.0, 2.5, 2.0]]
    shapes = ["narrow", "deep", "wide"]
    along = xr.DataArray([*curves, curves[0]], {"shape": shapes}, ("shape", "seed", "step"))
    alike = xr.DataArray([1, 2, 1], {"shape": shapes}, ("shape",))
    level = lowest_common(along, "step", alike)
    assert level.sel(shape=shapes).values.tolist() == [[1.0, 0.5, 1.0], [3.0, 2.0, 3.0]]
    assert np.isfinite(matched(along, along, "step", level)).all()
    short = matched(along, along, "step", level - 0.1)
    assert np.isfinite(short).sum("seed").values.tolist() == [0, 0, 0]
