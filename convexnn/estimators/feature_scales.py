"""Features of uneven scale: weight decay all but silences the small ones, which a user should know."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Features are said to differ in scale from this factor on. (A function of two features, R2 .98 where both have a
#: standard deviation of 1: .94 at a factor of 10, .76 at 30, .55 at 100. Pixels of digits differ by 16.)
UNEVEN = 100.0


class FeatureScaleWarning(UserWarning):
    """Features differ so much in scale that the weight decay makes light of the small ones: they want a StandardScaler.

    ``warnings.simplefilter("ignore", FeatureScaleWarning)`` silences it.
    """


def scale_factor(X: NDArray) -> float:
    """By what factor the scales of the features differ, in standard deviations or in ranges, whichever is less.

    Standard deviations alone are small for columns that are rarely not zero, ranges large for columns with outliers.
    Constant columns do not count.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
        Finite data.

    Returns
    -------
    factor : float
        At least 1; inf where it overflows.

    Examples
    --------
    >>> round(scale_factor(np.array([[20.0, 10_000.0], [40.0, 30_000.0], [60.0, 80_000.0]])))
    1750
    """
    size = np.abs(X).max(axis=0)
    unit = X / np.where(size > 0, size, 1.0)
    ranges = np.ptp(unit, axis=0)
    varies = ranges > 10 * np.finfo(float).eps
    if not varies.any():
        return 1.0
    size, unit = size[varies], unit[:, varies]
    with np.errstate(over="ignore"):
        scales = [np.log(size) + np.log(spread) for spread in (ranges[varies], unit.std(axis=0))]
        return float(np.exp(min(np.ptp(scale) for scale in scales)))
