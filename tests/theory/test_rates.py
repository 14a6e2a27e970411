import numpy as np

from subsim.theory.rates import conditional_sign_rate, sign_rate


def test_the_rate_of_normal_offsets_is_met():
    random = np.random.default_rng(0)
    signal, offset = random.gamma(2.0, 1.0, 100_000), random.normal(-1.0, 2.0, 100_000)
    measured = np.mean(signal + offset > 0)
    assert abs(sign_rate(signal, offset).predicted - measured) < 0.01
    # Control: the offset's mean matters, and so does its spread.
    assert abs(sign_rate(signal, offset + 1).predicted - measured) > 0.1
    assert abs(sign_rate(signal, 4 * offset + 3).predicted - measured) > 0.05


def test_the_rate_without_spread_is_the_signals_sign():
    signal = np.array([1.0, 2.0, -1.0, 3.0])
    assert sign_rate(signal, np.zeros(4)).predicted == 0.75
    assert sign_rate(np.zeros(4), np.zeros(4)).predicted == 0.5
    assert sign_rate(np.ones(4), np.zeros(4)).ratio == np.inf


def test_seeds_that_diverged_are_left_out():
    signal, offset = np.array([1.0, 2.0, np.nan, 1.0]), np.array([0.5, -0.5, 0.0, np.inf])
    assert sign_rate(signal, offset) == sign_rate(signal[:2], offset[:2])
    assert np.isnan(sign_rate(np.full(2, np.nan), offset[:2]).predicted)


def test_signal_and_spread_that_go_together_need_the_conditional_rate():
    random = np.random.default_rng(0)
    scale = random.lognormal(0.0, 1.5, 100_000)
    signal, offset = scale, scale * random.normal(size=scale.size)
    measured = np.mean(signal + offset > 0)
    assert abs(conditional_sign_rate(signal, scale) - measured) < 0.01
    # Control: the spread over seeds alone misses it.
    assert abs(sign_rate(signal, offset).predicted - measured) > 0.1
    assert conditional_sign_rate(np.array([1.0, -1.0, 0.0, np.nan]), np.zeros(4)) == 0.5
    assert np.isnan(conditional_sign_rate(np.full(2, np.nan), np.ones(2)))
