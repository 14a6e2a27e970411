"""Main effects, interactions and matched values against what they are made of."""

import itertools

import numpy as np
import pytest
import xarray as xr

from subsim.analysis.factorial import main_effects, split, variance_shares
from subsim.analysis.summary import mean_interval


@pytest.fixture
def made():
    """Values of two factors and their product, the first thrice as strong, in four seeds with a level of their own."""
    a, b = (xr.DataArray([-1.0, 1.0], dims=name) for name in ("a", "b"))
    c = xr.DataArray([0.0, 0.0, 0.0], dims="c")
    seed = xr.DataArray([0.0, 10.0, 20.0, 30.0], {"seed": range(4)})
    values = (3 * a + b + 2 * a * b + c + seed).transpose("seed", "a", "b", "c")
    return values.assign_coords(a=["low", "high"], b=[1, 2], c=[1, 2, 3])


def test_effects_are_those_that_were_put_in(made):
    effects = main_effects(made)
    for factor, size in (("a", 3.0), ("b", 1.0), ("c", 0.0)):
        first, last = (f"{factor}: {made[factor].values[place]}" for place in (0, -1))
        # A seed's own level is no noise: every seed has the same effect.
        np.testing.assert_allclose(effects.sel(level=first), -size, atol=1e-12)
        np.testing.assert_allclose(effects.sel(level=last), size, atol=1e-12)


def test_shares_of_variance_add_up_and_are_those_that_were_put_in(made):
    shares = variance_shares(made)
    expected = {"a": 9, "b": 1, "a x b": 4}
    for name in shares.explained_by.values:
        np.testing.assert_allclose(shares.sel(explained_by=name), expected.get(str(name), 0) / 14, atol=1e-12)
    noise = xr.DataArray(
        np.random.default_rng(0).normal(size=(4, 2, 2, 3)),
        {"seed": range(4), "a": range(2), "b": range(2), "c": range(3)},
    )
    noisy = variance_shares(noise)
    np.testing.assert_allclose(noisy.sum("explained_by"), 1)
    assert (noisy.sel(explained_by="larger interactions") > 0).all()


def test_factors_are_named_by_their_option_and_the_largest_comes_first(made):
    made = made.rename(a="student.learning_rate")
    shares = variance_shares(made)
    assert shares.explained_by.values[:3].tolist() == ["learning rate", "learning rate x b", "b"]
    assert shares.explained_by.values[-1] == "larger interactions"
    assert main_effects(made).level.values[1] == "learning rate: high"


def test_a_seed_that_diverged_is_left_out_of_shares(made):
    values = made.copy()
    values[0, 0, 0, 0] = np.nan
    assert int(mean_interval(variance_shares(values)).n.min()) == 3


def test_the_cells_of_a_factorial_get_a_dimension_for_each_factor():
    labels = ["b, z", "other", "a, y", "a, z", "b, y"]
    values = xr.DataArray(
        np.arange(20.0).reshape(2, 5, 2),
        {"seed": [0, 1], "cell": labels, "trait": ["t", "u"]},
        ("seed", "cell", "trait"),
        attrs={"description": "numbers"},
    )
    found = split(values, "cell", {"first": ["a", "b"], "second": ["y", "z"]})
    assert found.dims == ("seed", "first", "second", "trait")
    assert found.attrs == values.attrs
    for first, second in itertools.product("ab", "yz"):
        cell = found.sel(first=first, second=second, drop=True)
        np.testing.assert_array_equal(cell, values.sel(cell=f"{first}, {second}"))
    with pytest.raises(KeyError, match="not all values found"):
        split(values, "cell", {"first": ["c"], "second": ["y"]})
