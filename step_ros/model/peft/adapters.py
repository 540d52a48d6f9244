# SPDX-License-Identifier: Apache-2.0
"""Adapters for a frozen vision transformer: AdaptFormer, ST-Adapter, AIM.

Sources: Chen et al., "AdaptFormer: Adapting Vision Transformers for Scalable Visual Recognition",
2022; Pan et al., "ST-Adapter: Parameter-Efficient Image-to-Video Transfer Learning", 2022; Yang
et al., "AIM: Adapting Image Models for Efficient Video Action Recognition", 2023. Details that
the papers leave open follow the authors' public code.

The backbones of these papers have no LayerScale; DINOv2 has one. LayerScale can be folded into the
weights of the attention and the MLP. Adapters therefore stand after it: folded or not, the result
is the same.
"""

from typing import Any

import torch
from torch import Tensor, nn

from step_ros.model.backbone import AdaptedLayer

# Initial standard deviation of the first layer of an adapter in AIM.
AIM_STD = 0.02


class Bottleneck(nn.Module):
    """Linear, activation, dropout, Linear, with fewer channels inside and no skip.

    The output is zero at first. The first weight has the initialisation of `nn.Linear`, as in
    AdaptFormer; the biases and the second weight are zero.

    Args:
        width: Channels of a token (d).
        bottleneck: Channels inside.
        activation: Module between the two linear layers.
        dropout: Probability of dropping a channel inside.
    """

    def __init__(
        self, width: int, *, bottleneck: int, activation: nn.Module, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.down = nn.Linear(width, bottleneck)
        self.activation = activation
        self.dropout = nn.Dropout(dropout)
        self.up = nn.Linear(bottleneck, width)
        for tensor in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(tensor)

    def forward(self, x_bld: Tensor) -> Tensor:
        """Return the term to add to the tokens, `[b, l, d]`."""
        out: Tensor = self.up(self.dropout(self.activation(self.down(x_bld))))
        return out


class AdaptFormerBlock(AdaptedLayer):
    """A block with a bottleneck parallel to its MLP (AdaptFormer, Sec. 3.2).

    The input of the bottleneck is the tokens after the attention, before the norm of the MLP, as
    in the authors' code. The DropPath of the block does not apply to it.

    Args:
        frozen: A `Block` of timm's VisionTransformer.
        width: Channels of a token (d).
        bottleneck: Channels inside.
        dropout: Probability of dropping a channel inside.
        scale: Factor on the output of the bottleneck.
    """

    def __init__(
        self, frozen: nn.Module, *, width: int, bottleneck: int, dropout: float, scale: float
    ) -> None:
        super().__init__(frozen)
        self.scale = scale
        self.adapter = Bottleneck(
            width, bottleneck=bottleneck, activation=nn.ReLU(), dropout=dropout
        )

    def forward(self, x_bld: Tensor) -> Tensor:
        """Return the tokens after the block, `[b, l, d]`."""
        x_bld = run_attention(self.frozen, x_bld)
        out: Tensor = run_mlp(self.frozen, x_bld) + self.scale * self.adapter(x_bld)
        return out


class TemporalConvolution(nn.Module):
    """The ST-Adapter: Linear, depthwise 3 x 1 x 1 convolution, Linear, and a skip, on patches.

    It has no activation, as in the authors' code. The weights of the linear layers have the
    initialisation of `nn.Linear`; all biases and the weights of the convolution are zero. The
    adapter is therefore exactly the identity at first. A window is padded with zeros in time.

    Args:
        width: Channels of a token (d).
        bottleneck: Channels inside.
        frames: Frames in a window (t).
        grid_size: Rows and columns of patches.
        prefix: Number of tokens before the patches (CLS, registers), which stay unchanged.
    """

    def __init__(
        self, width: int, *, bottleneck: int, frames: int, grid_size: tuple[int, int], prefix: int
    ) -> None:
        super().__init__()
        self.frames, self.grid_size, self.prefix = frames, grid_size, prefix
        self.down = nn.Linear(width, bottleneck)
        self.convolution = nn.Conv3d(
            bottleneck, bottleneck, kernel_size=(3, 1, 1), padding=(1, 0, 0), groups=bottleneck
        )
        self.up = nn.Linear(bottleneck, width)
        for tensor in (*self.convolution.parameters(), self.down.bias, self.up.bias):
            nn.init.zeros_(tensor)

    def forward(self, x_bld: Tensor) -> Tensor:
        """Mix neighbouring frames at each patch, `[b, l, d]` to `[b, l, d]`.

        Args:
            x_bld: Tokens of images, window by window, oldest frame first.
        """
        count = count_windows(x_bld, self.frames)
        # [windows, t, rows, columns, channels]
        inside = self.down(x_bld[:, self.prefix :]).unflatten(1, self.grid_size)
        inside = inside.unflatten(0, (count, self.frames))
        inside = self.convolution(inside.movedim(-1, 1)).movedim(1, -1)
        patches_bnd = x_bld[:, self.prefix :] + self.up(inside.flatten(2, 3).flatten(0, 1))
        return torch.cat([x_bld[:, : self.prefix], patches_bnd], dim=1)


class StAdapterBlock(AdaptedLayer):
    """A block with an ST-Adapter before the norm of its MLP.

    Args:
        frozen: A `Block` of timm's VisionTransformer.
        before_attention: Whether another ST-Adapter stands before the norm of the attention.
        adapter: Arguments of `TemporalConvolution`.
    """

    def __init__(self, frozen: nn.Module, *, before_attention: bool, **adapter: Any) -> None:
        super().__init__(frozen)
        self.before_attention = TemporalConvolution(**adapter) if before_attention else None
        self.before_mlp = TemporalConvolution(**adapter)

    def forward(self, x_bld: Tensor) -> Tensor:
        """Return the tokens after the block, `[b, l, d]`."""
        if self.before_attention is not None:
            x_bld = self.before_attention(x_bld)
        return run_mlp(self.frozen, self.before_mlp(run_attention(self.frozen, x_bld)))


class AimBlock(AdaptedLayer):
    """A block that attends over time and then over space, with the same frozen attention.

    AIM, Sec. 3. The temporal attention runs over the frames at every token position, CLS and
    registers included, and ends in an adapter without skip. An adapter with skip follows the
    spatial attention. A third adapter is parallel to the MLP and has the same normed input. All
    adapters return zero at first, so the block first equals the frozen one exactly. The DropPath
    that AIM's authors add for training is left out.

    Args:
        frozen: A `Block` of timm's VisionTransformer.
        width: Channels of a token (d).
        frames: Frames in a window (t).
        bottleneck: Channels inside an adapter.
        scale: Factor on the output of the adapter that is parallel to the MLP.
        before_attention: Whether another adapter, with skip, precedes the temporal attention, as
            in some code derived from AIM's. ViT-B then has 14.2 M parameters, near the 14.3 and
            14.4 M with a classifier that the longer STEP paper lists for AIM.
    """

    def __init__(
        self,
        frozen: nn.Module,
        *,
        width: int,
        frames: int,
        bottleneck: int,
        scale: float,
        before_attention: bool,
    ) -> None:
        super().__init__(frozen)
        self.frames, self.scale = frames, scale

        def adapter() -> Bottleneck:
            made = Bottleneck(width, bottleneck=bottleneck, activation=nn.GELU())
            nn.init.trunc_normal_(made.down.weight, std=AIM_STD)
            return made

        self.before_attention = adapter() if before_attention else None
        self.temporal, self.spatial, self.joint = adapter(), adapter(), adapter()

    def forward(self, x_bld: Tensor) -> Tensor:
        """Return the tokens after the block, `[b, l, d]`."""
        block = self.frozen
        x_bld = x_bld + block.drop_path1(self._attend_over_time(x_bld))
        attended_bld = block.ls1(block.attn(block.norm1(x_bld)))
        x_bld = x_bld + block.drop_path1(attended_bld + self.spatial(attended_bld))
        normed_bld = block.norm2(x_bld)
        x_bld = x_bld + block.drop_path2(block.ls2(block.mlp(normed_bld)))
        out: Tensor = x_bld + self.scale * self.joint(normed_bld)
        return out

    def _attend_over_time(self, x_bld: Tensor) -> Tensor:
        count, length = count_windows(x_bld, self.frames), x_bld.shape[1]
        normed_bld = self.frozen.norm1(x_bld)
        if self.before_attention is not None:
            normed_bld = normed_bld + self.before_attention(normed_bld)
        # [windows, t, l, d] -> [windows * l, t, d]
        over_time = normed_bld.unflatten(0, (count, self.frames)).transpose(1, 2).flatten(0, 1)
        attended = self.temporal(self.frozen.ls1(self.frozen.attn(over_time)))
        out: Tensor = attended.unflatten(0, (count, length)).transpose(1, 2).flatten(0, 1)
        return out


class AimFramePositions(AdaptedLayer):
    """AIM's temporal embedding, added to all tokens of a frame.

    In CLIP it precedes the norm before the blocks, as in public code derived from AIM's. AIM's own
    code for CLIP was not available.

    Args:
        frozen: The layer before the first block (`norm_pre`): a norm in CLIP, else the identity.
        width: Channels of a token (d).
        frames: Frames in a window (t).

    Attributes:
        positions_td: The embedding, `[t, d]`, initially zero.
    """

    def __init__(self, frozen: nn.Module, *, width: int, frames: int) -> None:
        super().__init__(frozen)
        self.positions_td = nn.Parameter(torch.zeros(frames, width))

    def forward(self, x_bld: Tensor) -> Tensor:
        """Return the input of the first block, `[b, l, d]`."""
        count = count_windows(x_bld, len(self.positions_td))
        out: Tensor = self.frozen(x_bld + self.positions_td.repeat(count, 1)[:, None])
        return out


def insert_adaptformer(vit: Any, **options: Any) -> None:
    """Replace every block by an `AdaptFormerBlock` with these options."""
    for index, block in enumerate(vit.blocks):
        vit.blocks[index] = AdaptFormerBlock(block, width=vit.embed_dim, **options)


def insert_st_adapter(vit: Any, **options: Any) -> None:
    """Replace every block by a `StAdapterBlock` with these options."""
    for index, block in enumerate(vit.blocks):
        vit.blocks[index] = StAdapterBlock(
            block,
            width=vit.embed_dim,
            grid_size=tuple(vit.patch_embed.grid_size),
            prefix=vit.num_prefix_tokens,
            **options,
        )


def insert_aim(vit: Any, *, frames: int, **options: Any) -> None:
    """Replace every block by an `AimBlock` with these options, and add frame positions."""
    vit.norm_pre = AimFramePositions(vit.norm_pre, width=vit.embed_dim, frames=frames)
    for index, block in enumerate(vit.blocks):
        vit.blocks[index] = AimBlock(block, width=vit.embed_dim, frames=frames, **options)


def run_attention(block: Any, x_bld: Tensor) -> Tensor:
    """Run the first half of a frozen block: attention and skip, `[b, l, d]` to `[b, l, d]`."""
    out: Tensor = x_bld + block.drop_path1(block.ls1(block.attn(block.norm1(x_bld))))
    return out


def run_mlp(block: Any, x_bld: Tensor) -> Tensor:
    """Run the second half of a frozen block: MLP and skip, `[b, l, d]` to `[b, l, d]`."""
    out: Tensor = x_bld + block.drop_path2(block.ls2(block.mlp(block.norm2(x_bld))))
    return out


def count_windows(x_bld: Tensor, frames: int) -> int:
    """Return the number of windows in a batch of images.

    Raises:
        ValueError: The number of images is not a multiple of `frames`.
    """
    if len(x_bld) % frames:
        raise ValueError(
            f'got {len(x_bld)} images; adapters that mix the {frames} frames of a window need '
            f'whole windows, a multiple of {frames}'
        )
    return len(x_bld) // frames
