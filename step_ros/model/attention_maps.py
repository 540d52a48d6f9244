"""Where a head looks: attention of a window, laid out frame by frame."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class AttentionMaps:
    """Attention weights of the patches of a window, mean over attention heads.

    Fig. 5 of the human-robot interaction paper shows the like; it does not say which weights.

    Attributes:
        cls_btn: How much the global CLS token attends to each patch, `[b, t, n]`; with the token's
            weight on itself they sum to one. None for a head with per-frame CLS tokens.
        columns_btn: How much each patch is attended to, mean over all tokens, `[b, t, n]`: what a
            patch counts in the mean that STEP classifies. With the CLS tokens' they sum to one.
    """

    cls_btn: Tensor | None
    columns_btn: Tensor
