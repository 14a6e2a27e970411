"""Main effects, interactions and matched values against what they are made of."""

import numpy as np
import pytest
import xarray as xr

from subsim.engine.factorial import effects_table, main_effects, shares_table, variance_shares


@pytest.fixture
def made():
    """Values of two factors and their product, the first thrice as strong, in four seeds with a level of their own."""
    a, b = (xr.DataArray([-1.0, 1.0], dims=name) for name in ("a", "b"))
    c = xr.DataArray([0.0, 0.0, 0.0], dims="c")
    seed = xr.DataArray([0.0, 10.0, 20.0, 30.0], dims="seed")
    values = (3 * a + b + 2 * a * b + c + seed).transpose("seed", "a", "b", "c")
    return values.assign_coords(a=["low", "high"], b=[1, 2], c=[1, 2, 3])


def test_effects_are_those_that_were_put_in(made):
    for factor, size in (("a", 3.0), ("b", 1.0), ("c", 0.0)):
        effects = main_effects(made, factor)
        np.testing.assert_allclose(effects["mean"].values[[0, -1]], [-size, size], atol=1e-12)
        np.testing.assert_allclose(effects.high - effects.low, 0, atol=1e-12)  # a seed's own level is no noise


def test_shares_of_variance_add_up_and_are_those_that_were_put_in(made):
    shares = variance_shares(made)
    expected = {("a",): 9, ("b",): 1, ("a", "b"): 4}
    for group, share in shares.items():
        np.testing.assert_allclose(share["mean"], expected.get(group, 0) / 14, atol=1e-12)
    noise = xr.DataArray(np.random.default_rng(0).normal(size=(4, 2, 2, 3)), dims=("seed", "a", "b", "c"))
    noisy = variance_shares(noise)
    np.testing.assert_allclose(sum(float(share["mean"]) for share in noisy.values()), 1)
    assert float(noisy[()]["mean"]) > 0.01


def test_tables_name_factors_and_put_the_largest_first(made):
    made = made.rename(a="student.learning_rate")
    table = shares_table(made, "t")
    assert [row[0] for row in table.rows[:3]] == ["learning rate", "learning rate x b", "b"]
    assert table.rows[-1][0] == "larger interactions"
    rows = effects_table(made, "t").rows
    assert rows[1] == ("learning rate: high", "18.000", "+3.000 [+3.000, +3.000]", "4")


def test_a_seed_that_diverged_is_left_out_of_shares(made):
    values = made.copy()
    values[0, 0, 0, 0] = np.nan
    assert int(variance_shares(values)[("a",)].n) == 3
