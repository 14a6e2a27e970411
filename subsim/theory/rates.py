"""How often a signal outweighs an offset: rates of a sign over seeds, predicted from the seeds' records.

Plain numpy, because what it takes are results: arrays with one value a seed.
"""

from typing import NamedTuple

import numpy as np
import scipy.special
from jaxtyping import Float


class SignRate(NamedTuple):
    """P(offset + signal > 0) by the normal approximation, and the number that it depends on.

    `ratio` is (mean signal + mean offset) / spread of the offset, and `predicted` the standard normal's distribution
    function, averaged over the seeds' signals.
    """

    predicted: float
    ratio: float


def sign_rate(signal: Float[np.ndarray, " seed"], offset: Float[np.ndarray, " seed"]) -> SignRate:
    """Predict P(offset + signal > 0) from the seeds' signals and the offset's mean and standard deviation alone.

    Assumes that over seeds the offset is normal and independent of the signal, whose spread is kept: the prediction
    is the mean over seeds of Phi((signal_i + mean offset) / spread). An offset without spread leaves the sign of
    signal + mean. Seeds where either is not finite are left out; with none left the result is NaN.
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
    """P(offset + signal > 0) where every seed's offset is N(0, spread_i^2): the mean of Phi(signal_i / spread_i).

    Assumes nothing of how signal and spread go together over seeds. Without spread the sign is the signal's.
    """
    finite = np.isfinite(signal) & np.isfinite(spread)
    if not finite.any():
        return np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        standardised = np.where(signal[finite] == 0, 0.0, signal[finite] / spread[finite])
    return float(scipy.special.ndtr(standardised).mean())
