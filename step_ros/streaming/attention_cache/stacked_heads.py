"""STEP heads of all tasks taken apart, so that a frame's share in them is computed once.

`W(e + t) = We + Wt`: queries, keys and values of a token are those of its content plus those of
its slot's position. The first are projected when a frame arrives, for all tasks in one matrix
product; the second are constants. What the classifier sees is a mean of attended tokens, so it
follows from how much each token is attended to (`column_sums.py`, `cache_tensors.py`).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from step_ros.model.heads.base import Head
from step_ros.model.heads.step import StepHead


def find_not_streaming_reason(heads: Mapping[str, Head]) -> str:
    """Say why these heads cannot be taken apart; empty where they can."""
    for task, head in heads.items():
        if not isinstance(head, StepHead):
            return f'the head of task {task!r} is {type(head).__name__}, not StepHead'
        if head.block.attention_norm is not None:
            return (
                f'the head of task {task!r} has a norm before its attention, which mixes contents '
                "and positions; block='attn' streams"
            )
    made = {_build(head) for head in heads.values() if isinstance(head, StepHead)}
    return '' if len(made) == 1 else 'the heads of the tasks are not built alike'


def _build(head: StepHead) -> tuple[object, ...]:
    """Return what must be the same for heads that are stacked."""
    positions = head.positions
    return (
        *(head.width, head.frames, head.pooling, head.cls_d is None),
        head.block.attention.attention_heads,
        None if positions is None else (positions.kind, positions.table().shape),
    )


class StreamingHeads:
    """The heads of all tasks, stacked: a group is one attention head of one task.

    Weights are those of the heads at the time of making.

    Args:
        heads: A head for each task, of which `find_not_streaming_reason` has nothing to say.
        tokens: Tokens of a frame (n).

    Attributes:
        names: Tasks, in the order of their groups.
        tasks: Number of tasks.
        groups: Attention heads of all tasks (g).
        channels: Channels of an attention head (c).
        positions_gsmc: Positional parts of queries, keys and values of each slot; m is 1, or n
            with token-wise positions.
        cls_gc: Query, key and value of the global CLS token; None without.
        rows: Which tokens of a frame are averaged.
        cls_slots_gs: Scores of the CLS token's query with the positional part of each slot's keys.
        cls_itself_g1: Its score with its own key.
        row_count: How many tokens of a window are averaged.
        cls_row: Whether the global CLS token is averaged.
        order_aware: Whether the order of the frames matters.

    Raises:
        ValueError: The heads cannot be taken apart.
    """

    def __init__(self, heads: Mapping[str, Head], *, tokens: int) -> None:
        why = find_not_streaming_reason(heads)
        if why:
            raise ValueError(why)
        self._heads = {task: head for task, head in heads.items() if isinstance(head, StepHead)}
        self.names = tuple(heads)
        self.tasks = len(heads)
        self.tokens = tokens
        with torch.inference_mode():
            self._stack()

    def _stack(self) -> None:
        heads = list(self._heads.values())
        head = heads[0]
        attention = head.block.attention
        self.frames = head.frames
        self.channels = head.width // attention.attention_heads
        self.groups = len(heads) * attention.attention_heads
        weights = torch.stack([each.block.attention.qkv.weight.float() for each in heads])
        biases = torch.stack([each.block.attention.qkv.bias.float() for each in heads])
        # From [task, 3 * width] to [3 * task * width]; queries are scaled once and for all.
        weights = weights.view(len(heads), 3, head.width, head.width).transpose(0, 1).clone()
        biases = biases.view(len(heads), 3, head.width).transpose(0, 1).clone()
        weights[0] *= self.channels**-0.5
        biases[0] *= self.channels**-0.5
        self._weight, self._bias = weights.flatten(0, 2), biases.flatten()
        self.device = self._weight.device

        positions = head.positions
        self.order_aware = head.order_aware
        self.frame_wise = positions is None or positions.kind == 'after' or positions.frame_wise
        self.rows, self.cls_row = slice(0, self.tokens), False
        if head.cls_d is not None:
            self.cls_row = head.pooling in ('both', 'cls')
            if head.pooling == 'cls':
                self.rows = slice(0, 0)
        elif head.pooling != 'both':
            self.rows = slice(0, 1) if head.pooling == 'cls' else slice(1, self.tokens)
        pooled = self.frames * len(range(self.tokens)[self.rows])
        self.row_count = pooled + self.cls_row

        self.positions_gsmc = tuple(
            torch.zeros(self.groups, self.frames, 1, self.channels, device=self.device)
            for _ in range(3)
        )
        self._fold(heads, share=pooled / self.row_count)
        if positions is not None and positions.kind != 'after':
            tables = [each.positions.table() for each in heads if each.positions is not None]
            self.positions_gsmc = self._constants(torch.stack(tables), bias=False)
        self.cls_gc: tuple[Tensor, Tensor, Tensor] | None = None
        if head.cls_d is not None:
            tokens_kd = torch.stack([each.cls_d for each in heads if each.cls_d is not None])
            q, k, v = self._constants(tokens_kd[:, None, None], bias=True)
            self.cls_gc = q[:, 0, 0], k[:, 0, 0], v[:, 0, 0]
            self.cls_slots_gs = (self.positions_gsmc[1][:, :, 0] @ q[:, 0, 0, :, None])[..., 0]
            self.cls_itself_g1 = (q[:, 0, 0] * k[:, 0, 0]).sum(dim=-1, keepdim=True)

    def _constants(self, x_ksmd: Tensor, *, bias: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Project each task's own tokens with its own weights: three of `[g, s, m, c]`."""
        tasks, slots, tokens, width = x_ksmd.shape
        weight = self._weight.view(3, tasks, 1, width, width)
        out = x_ksmd.float().flatten(1, 2)[None] @ weight[:, :, 0].mT
        if bias:
            out = out + self._bias.view(3, tasks, 1, width)
        out = out.view(3, tasks, slots, tokens, -1, self.channels)
        q, k, v = out.permute(0, 1, 4, 2, 3, 5).flatten(1, 2).contiguous().unbind(0)
        return q, k, v

    def _fold(self, heads: Sequence[StepHead], *, share: float) -> None:
        """Make one linear layer of the output projection and the classifier's first layer.

        Between them is nothing but the mean, and positions added after the attention: a constant,
        of which `share` of the averaged tokens have one.
        """
        parts = [_split(each.classifier) for each in heads]
        firsts, self._rest = [part[0] for part in parts], [part[1] for part in parts]
        self._outputs = [first.out_features for first in firsts]
        size = (len(heads), max(self._outputs), heads[0].width)
        weight_kod = torch.zeros(size, dtype=torch.float64, device=self.device)
        bias_ko = weight_kod.new_zeros(size[:2])
        for index, (each, first) in enumerate(zip(heads, firsts, strict=True)):
            out, outputs = each.block.attention.out, self._outputs[index]
            first_od, bias_d = first.weight.double(), out.bias.double()
            if each.positions is not None and each.positions.kind == 'after':
                bias_d = bias_d + each.positions.table().mean(dim=(0, 1)) * share
            weight_kod[index, :outputs] = first_od @ out.weight.double() / self.row_count
            bias_ko[index, :outputs] = first_od @ bias_d + first.bias.double()
        self._folded_kdo = weight_kod.mT.float().contiguous()
        self._folded_k1o = bias_ko[:, None].float()

    @torch.inference_mode()
    def project(self, x_bnd: Tensor) -> Tensor:
        """Return queries, keys and values of frames for all groups, `[b, 3, g, n, c]`.

        Raises:
            ValueError: The frames do not have `tokens` tokens of the heads' width.
        """
        width = self._weight.shape[1]
        if tuple(x_bnd.shape[1:]) != (self.tokens, width):
            raise ValueError(
                f'got frames of shape {list(x_bnd.shape[1:])}; these heads take '
                f'{self.tokens} tokens of width {width}'
            )
        projected = F.linear(x_bnd.float(), self._weight, self._bias)
        shape = (len(x_bnd), self.tokens, 3, self.groups, self.channels)
        return projected.view(shape).permute(0, 2, 3, 1, 4)

    def classify(self, sums_vgc: Tensor) -> dict[str, Tensor]:
        """Return the logits of each task, `[v, k]`.

        Args:
            sums_vgc: The attended values, summed over the averaged rows.
        """
        parts_kvd = sums_vgc.reshape(len(sums_vgc), self.tasks, -1).transpose(0, 1)
        said_kvo = torch.baddbmm(self._folded_k1o, parts_kvd, self._folded_kdo)
        logits: dict[str, Tensor] = {}
        for task, said_vo, outputs, rest in zip(
            self._heads, said_kvo, self._outputs, self._rest, strict=True
        ):
            logits[task] = said_vo[:, :outputs]
            if rest is not None:
                logits[task] = rest(logits[task])
        return logits


def _split(classifier: nn.Module) -> tuple[nn.Linear, nn.Sequential | None]:
    """Return a classifier's first layer, and what comes after it."""
    if not isinstance(classifier, nn.Sequential):
        assert isinstance(classifier, nn.Linear)
        return classifier, None
    first = classifier[0]
    assert isinstance(first, nn.Linear)
    return first, classifier[1:]
