"""Many times in four figures."""

from collections.abc import Sequence

import numpy as np

SHARES = (50, 95, 99)


def percentiles(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Return p50, p95, p99 and the maximum; NaN where there are no values."""
    if not len(values):
        return {**{f'p{share}': float('nan') for share in SHARES}, 'max': float('nan')}
    found = {f'p{share}': float(np.percentile(values, share)) for share in SHARES}
    return {**found, 'max': float(np.max(values))}
