# SPDX-License-Identifier: Apache-2.0
"""Streaming heads: STEP heads split so that a frame's share in them is computed once.

    a STEP head          e + t -> W_q, W_k, W_v -> softmax attention -> W_o -> mean -> classifier
    the streaming head   e -> `project`, once a frame;  t -> constants, once
                         attention cache: sum of the attended values
                         `classify`: W_o, mean and the first classifier layer as one matrix

1. `W(e + t) = We + Wt`: the queries, keys and values of a token are those of its content plus
   those of its slot's position. `project` computes the first for all tasks in one matrix product;
   the second are constants.
2. The mean over attended tokens commutes with the output projection and the classifier's first
   layer, so the sum of the attended values is all that `classify` needs. It follows from how much
   each token is attended to, without the attention matrix (`cache.py`).

A group (g) is one attention head of one task; all groups are computed together.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from step_ros.model.heads.base import Head
from step_ros.model.heads.step import StepHead


def find_not_streaming_reason(heads: Mapping[str, Head]) -> str:
    """Return why these heads cannot stream; empty if they can."""
    for task, head in heads.items():
        if not isinstance(head, StepHead):
            return f'the head of task {task!r} is {type(head).__name__}, not StepHead'
        if head.block.attention_norm is not None:
            return (
                f'the head of task {task!r} has a norm before its attention, which mixes contents '
                "and positions; train it with block='attn' to stream"
            )
    builds = {_build(head) for head in heads.values() if isinstance(head, StepHead)}
    return '' if len(builds) == 1 else 'the heads of the tasks are not built alike'


def _build(head: StepHead) -> tuple[object, ...]:
    """Return the properties that stacked heads must share."""
    positions = head.positions
    return (
        *(head.width, head.frames, head.pooling, head.cls_d is None),
        head.block.attention.attention_heads,
        None if positions is None else (positions.kind, positions.table().shape),
    )


class StreamingHeads:
    """The heads of all tasks, stacked by group.

    The weights are copies: later training of the heads does not change them.

    Args:
        heads: A head for each task, for which `find_not_streaming_reason` is empty.
        tokens: Tokens of a frame (n).

    Attributes:
        names: Names of the tasks, in the order of their groups.
        tasks: Number of tasks.
        tokens: Tokens of a frame (n).
        frames: Frames in a window (T).
        groups: Attention heads of all tasks (g).
        channels: Channels of an attention head (c).
        device: The device of the weights.
        positions_gsmc: Queries, keys and values of each slot's position; m is 1, or n with
            token-wise positions.
        frame_wise: Whether all tokens of a frame share their position (m is 1).
        cls_gc: Query, key and value of the global CLS token; None if there is none.
        cls_slots_gs: Scores of the CLS token's query with the key of each slot's position.
        cls_itself_g1: Score of the CLS token's query with its own key.
        rows: Which tokens of a frame are averaged.
        cls_row: Whether the global CLS token is averaged.
        row_count: How many tokens of a window are averaged.
        order_aware: Whether the order of the frames matters.

    Raises:
        ValueError: The heads cannot stream.
    """

    def __init__(self, heads: Mapping[str, Head], *, tokens: int) -> None:
        reason = find_not_streaming_reason(heads)
        if reason:
            raise ValueError(reason)
        self._heads = {task: head for task, head in heads.items() if isinstance(head, StepHead)}
        self.names = tuple(heads)
        self.tasks = len(heads)
        self.tokens = tokens
        with torch.inference_mode():
            self._stack()

    def _stack(self) -> None:
        """Copy the heads' weights into stacked tensors."""
        heads = list(self._heads.values())
        head = heads[0]
        attention = head.block.attention
        self.frames = head.frames
        self.channels = head.width // attention.attention_heads
        self.groups = len(heads) * attention.attention_heads
        weights = torch.stack([each.block.attention.qkv.weight.float() for each in heads])
        biases = torch.stack([each.block.attention.qkv.bias.float() for each in heads])
        # From [task, 3 * width] to [3 * task * width], so that `project` splits into q, k and v
        # of all groups. The scale 1 / sqrt(c) goes into the queries here, not into each score.
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
        """Return the projections of each task's own tokens, three tensors `[g, s, m, c]`."""
        tasks, slots, tokens, width = x_ksmd.shape
        weight = self._weight.view(3, tasks, 1, width, width)
        out = x_ksmd.float().flatten(1, 2)[None] @ weight[:, :, 0].mT
        if bias:
            out = out + self._bias.view(3, tasks, 1, width)
        out = out.view(3, tasks, slots, tokens, -1, self.channels)
        q, k, v = out.permute(0, 1, 4, 2, 3, 5).flatten(1, 2).contiguous().unbind(0)
        return q, k, v

    def _fold(self, heads: Sequence[StepHead], *, share: float) -> None:
        """Fold the output projection, the mean and the classifier's first layer into one matrix.

        Between the two layers there is only the mean, and perhaps positions that are added after
        the attention. Their mean is a constant. Only frame tokens have such positions, not the
        global CLS token; `share` is the share of frame tokens among the averaged tokens.
        """
        parts = [_split(each.classifier) for each in heads]
        firsts, self._rest = [part[0] for part in parts], [part[1] for part in parts]
        # Tasks differ in their number of outputs: pad to the greatest.
        self._outputs = [first.out_features for first in firsts]
        size = (len(heads), max(self._outputs), heads[0].width)
        # float64, because the fold must not cost precision; it happens once.
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
        outputs_kvo = torch.baddbmm(self._folded_k1o, parts_kvd, self._folded_kdo)
        logits: dict[str, Tensor] = {}
        for task, outputs_vo, size, rest in zip(
            self._heads, outputs_kvo, self._outputs, self._rest, strict=True
        ):
            logits[task] = outputs_vo[:, :size]
            if rest is not None:
                logits[task] = rest(logits[task])
        return logits


def _split(classifier: nn.Module) -> tuple[nn.Linear, nn.Sequential | None]:
    """Return a classifier's first layer, and the layers after it if there are any."""
    if not isinstance(classifier, nn.Sequential):
        assert isinstance(classifier, nn.Linear)
        return classifier, None
    first = classifier[0]
    assert isinstance(first, nn.Linear)
    return first, classifier[1:]
