"""The learning rate's course: a short linear warm-up, then a half cosine down to nothing."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

WARM_UP = 0.03


def cosine_schedule(optimiser: Optimizer, steps: int, *, done: int = 0) -> LambdaLR:
    """Return a schedule to be stepped once for each optimiser step.

    Args:
        optimiser: Its learning rates are the peaks.
        steps: Optimiser steps in all; the first 3 % warm up.
        done: Steps that were taken before.
    """
    warm_up = max(1, round(WARM_UP * steps))

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        done = (step - warm_up) / max(1, steps - warm_up)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return LambdaLR(optimiser, lambda step: factor(step + done))
