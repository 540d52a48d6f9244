# SPDX-License-Identifier: Apache-2.0
"""Percentiles of measured values."""

from collections.abc import Sequence

import numpy as np

SHARES = (50, 95, 99)


def percentiles(
    values: Sequence[float] | np.ndarray, shares: Sequence[int] = SHARES
) -> dict[str, float]:
    """Return the percentiles as `p50`, `p95` and so on; NaN if there are no values.

    Args:
        values: The values, in any order.
        shares: The percentiles, in percent.
    """
    if not len(values):
        return {f'p{share}': float('nan') for share in shares}
    return {f'p{share}': float(np.percentile(values, share)) for share in shares}


def percentiles_and_max(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Return p50, p95, p99 and the maximum; NaN if there are no values."""
    return {**percentiles(values), 'max': float(np.max(values)) if len(values) else float('nan')}
