"""Column sums of attention in blocks of rows: no N x N matrix, any scores.

Source: `mean_i(A_i V) = (mean_i A_i) V`: a head that averages its attended tokens needs no more of
the attention than how much each token is attended to.
"""

import torch
from torch import Tensor

from step_ros.stream.native import NativePasses

# Scores held at once, in elements: small enough for a processor's caches, large enough to be
# worth a matrix product.
_BLOCK_ELEMENTS = 1 << 20


def column_sums(
    q_grd: Tensor, k_gld: Tensor, weights_r: Tensor, *, native: NativePasses | None = None
) -> Tensor:
    """Sum the rows of `softmax(q k^T)`, each times its weight, `[g, l]`.

    Args:
        q_grd: Queries, already divided by the root of their channels.
        k_gld: Keys.
        weights_r: What each query counts.
        native: Compiled passes, for tensors of the CPU; None for torch.
    """
    groups, length, _ = k_gld.shape
    sums_gl = q_grd.new_zeros(groups, length)
    if native is not None:
        rows = max(16, _BLOCK_ELEMENTS // length)
        for q_rd, k_ld, sums_l in zip(q_grd, k_gld, sums_gl, strict=True):
            for start in range(0, len(q_rd), rows):
                scores_rl = q_rd[start : start + rows] @ k_ld.T
                native.softmax_sums(
                    scores_rl, weights=weights_r[start : start + rows], sums=sums_l
                )
        return sums_gl
    rows = max(16, _BLOCK_ELEMENTS // (length * groups))
    for start in range(0, q_grd.shape[1], rows):
        attention_grl = (q_grd[:, start : start + rows] @ k_gld.mT).softmax(dim=-1)
        sums_gl += torch.matmul(weights_r[start : start + rows], attention_grl)
    return sums_gl
