"""Predict how often a signal outweighs an offset: rates of a sign over seeds, from the seeds' records.

The functions use NumPy, because they take results: arrays with one value a seed.
"""

from typing import NamedTuple

import numpy as np
import scipy.special
from jaxtyping import Float


class SignRate(NamedTuple):
    """P(offset + signal > 0) by the normal approximation, and the ratio that decides it.

    `ratio` is (mean signal + mean offset) / standard deviation of the offset. `predicted` is the standard normal
    distribution function, averaged over the seeds' signals.
    """

    predicted: float
    ratio: float


def sign_rate(signal: Float[np.ndarray, " seed"], offset: Float[np.ndarray, " seed"]) -> SignRate:
    """Predict P(offset + signal > 0) from the seeds' signals and the mean and standard deviation of the offset.

    The prediction is the mean over seeds of Phi((signal_i + mean offset) / standard deviation). It assumes that the
    offset is normal over seeds and independent of the signal. Without spread, the sign of signal + mean decides. Seeds
    with a value that is not finite are left out; if none is left, the result is NaN.
    """
    finite = np.isfinite(signal) & np.isfinite(offset)
    if not finite.any():
        return SignRate(np.nan, np.nan)
    signal, offset = signal[finite], offset[finite]
    mean, spread = offset.mean(), offset.std()
    with np.errstate(divide="ignore", invalid="ignore"):
        standardised = np.where(signal + mean == 0, 0.0, (signal + mean) / spread)
        return SignRate(
            predicted=float(scipy.special.ndtr(standardised).mean()),
            ratio=float((signal.mean() + mean) / spread),
        )


def conditional_sign_rate(signal: Float[np.ndarray, " seed"], spread: Float[np.ndarray, " seed"]) -> float:
    """Return P(offset + signal > 0) if seed i has the offset N(0, spread_i^2): the mean of Phi(signal_i / spread_i).

    Signal and spread may depend on each other over seeds. Without spread, the sign of the signal decides.
    """
    finite = np.isfinite(signal) & np.isfinite(spread)
    if not finite.any():
        return np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        standardised = np.where(signal[finite] == 0, 0.0, signal[finite] / spread[finite])
    return float(scipy.special.ndtr(standardised).mean())
