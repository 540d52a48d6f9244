"""Adapters for a frozen vision transformer: AdaptFormer, ST-Adapter, AIM.

Sources: Chen et al., "AdaptFormer: Adapting Vision Transformers for Scalable Visual Recognition",
2022; Pan et al., "ST-Adapter: Parameter-Efficient Image-to-Video Transfer Learning", 2022; Yang
et al., "AIM: Adapting Image Models for Efficient Video Action Recognition", 2023; for what these
leave open, their authors' public code.

Their backbones have no LayerScale, DINOv2's has. It could be folded into the weights of the
attention and the MLP; adapters therefore come after it, which gives the same either way.
"""

from typing import Any

import torch
from torch import Tensor, nn

from step_ros.model.backbone import AdaptedLayer

# AIM's initialisation of the first layer of an adapter.
AIM_STD = 0.02


class Bottleneck(nn.Module):
    """Linear, activation, dropout, Linear: fewer channels inside, no skip, zero at the start.

    The first weight starts as `nn.Linear` has it, as in AdaptFormer; all the rest is zero.

    Args:
        width: Channels of a token (d).
        bottleneck: Channels inside.
        activation: What makes it non-linear.
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
        """Return what is to be added to something, `[b, l, d]`."""
        out: Tensor = self.up(self.dropout(self.activation(self.down(x_bld))))
        return out


class AdaptFormerBlock(AdaptedLayer):
    """A block with a bottleneck parallel to its MLP (AdaptFormer, Sec. 3.2).

    The bottleneck sees the tokens after attention before the norm of the MLP, as in the authors'
    code, and is not subject to the block's DropPath.

    Args:
        frozen: A `Block` of timm's VisionTransformer.
        width: Channels of a token (d).
        bottleneck: Channels inside.
        dropout: Probability of dropping a channel inside.
        scale: Factor on what the bottleneck gives.
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
        x_bld = attend(self.frozen, x_bld)
        out: Tensor = feed_forward(self.frozen, x_bld) + self.scale * self.adapter(x_bld)
        return out


class TemporalConvolution(nn.Module):
    """The ST-Adapter: x plus Linear, depthwise 3 x 1 x 1 convolution, Linear, of patches alone.

    Without activation, as in the authors' code. The weights and biases of the convolution and the
    biases of both Linears are zero, so it is the identity at the start, exactly; the weights of
    the Linears have the initialisation of `nn.Linear`. Beyond the ends of a window are zeros.

    Args:
        width: Channels of a token (d).
        bottleneck: Channels inside.
        frames: Frames in a window (t).
        grid_size: Rows and columns of patches.
        prefix: Tokens before the patches (CLS, registers), which pass unchanged.
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
        """Mix neighbouring frames at each patch; images come window by window, oldest first."""
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
        before_attention: Whether there is one before the norm of the attention too.
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
        return feed_forward(self.frozen, self.before_mlp(attend(self.frozen, x_bld)))


class AimBlock(AdaptedLayer):
    """A block that attends over time first, with the same frozen attention, then over space.

    AIM, Sec. 3: the temporal attention runs over the frames at every token position, CLS and
    registers included, and ends in an adapter without skip; an adapter with skip follows the
    spatial attention; a third one is parallel to the MLP and sees the same normed tokens. All are
    zero at the start, so the block is the frozen one at the start, exactly. The DropPath that
    AIM's authors add for training is left out.

    Args:
        frozen: A `Block` of timm's VisionTransformer.
        width: Channels of a token (d).
        frames: Frames in a window (t).
        bottleneck: Channels inside an adapter.
        scale: Factor on what the adapter parallel to the MLP gives.
        before_attention: Whether one more adapter, with skip, precedes the temporal attention.
            (Seen in code derived from AIM's; 14.2 M parameters for ViT-B, near the 14.3 and 14.4 M
            with a classifier that the STEP paper's longer version lists for AIM.)
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


class FramePositions(AdaptedLayer):
    """AIM's temporal embedding, added to all tokens of a frame.

    In CLIP it precedes the norm before the blocks, as in public code derived from AIM's; we have
    not seen AIM's own.

    Args:
        frozen: What precedes the first block (`norm_pre`); the identity except in CLIP.
        width: Channels of a token (d).
        frames: Frames in a window (t).

    Attributes:
        positions_td: The embedding, `[t, d]`, zero at the start.
    """

    def __init__(self, frozen: nn.Module, *, width: int, frames: int) -> None:
        super().__init__(frozen)
        self.positions_td = nn.Parameter(torch.zeros(frames, width))

    def forward(self, x_bld: Tensor) -> Tensor:
        """Return the tokens for the first block, `[b, l, d]`."""
        count = count_windows(x_bld, len(self.positions_td))
        out: Tensor = self.frozen(x_bld + self.positions_td.repeat(count, 1)[:, None])
        return out


def insert_adaptformer(vit: Any, **options: Any) -> None:
    """Adapt every block; the options are those of `AdaptFormerBlock`."""
    for index, block in enumerate(vit.blocks):
        vit.blocks[index] = AdaptFormerBlock(block, width=vit.embed_dim, **options)


def insert_st_adapter(vit: Any, **options: Any) -> None:
    """Adapt every block; the options are those of `StAdapterBlock`."""
    for index, block in enumerate(vit.blocks):
        vit.blocks[index] = StAdapterBlock(
            block,
            width=vit.embed_dim,
            grid_size=tuple(vit.patch_embed.grid_size),
            prefix=vit.num_prefix_tokens,
            **options,
        )


def insert_aim(vit: Any, *, frames: int, **options: Any) -> None:
    """Adapt every block and what precedes the first; the options are those of `AimBlock`."""
    vit.norm_pre = FramePositions(vit.norm_pre, width=vit.embed_dim, frames=frames)
    for index, block in enumerate(vit.blocks):
        vit.blocks[index] = AimBlock(block, width=vit.embed_dim, frames=frames, **options)


def attend(block: Any, x_bld: Tensor) -> Tensor:
    """Do the first half of a frozen block: attention and its skip."""
    out: Tensor = x_bld + block.drop_path1(block.ls1(block.attn(block.norm1(x_bld))))
    return out


def feed_forward(block: Any, x_bld: Tensor) -> Tensor:
    """Do the second half of a frozen block: the MLP and its skip."""
    out: Tensor = x_bld + block.drop_path2(block.ls2(block.mlp(block.norm2(x_bld))))
    return out


def count_windows(x_bld: Tensor, frames: int) -> int:
    """Return how many windows the images are.

    Raises:
        ValueError: They are no whole windows.
    """
    if len(x_bld) % frames:
        raise ValueError(
            f'got {len(x_bld)} images; adapters that mix the {frames} frames of a window need '
            f'whole windows, a multiple of {frames}'
        )
    return len(x_bld) // frames
