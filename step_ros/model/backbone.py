# SPDX-License-Identifier: Apache-2.0
"""A frozen image foundation model: images in, patch tokens out.

Most vision transformers of timm work. The weights come from the Hugging Face hub or from a local
safetensors file. Random weights must be requested by name. Nothing is unpickled.

`TokenAverage` makes the grid of patch tokens coarser by averaging neighbours. The attention of a
head costs the square of the number of tokens: half the rows and half the columns leave a sixteenth
of its products. A head must be trained on the grid on which it is served.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from step_ros.model.tokens import TokenKind, check_choice
from step_ros.model.weights import checked_digest, download, load_weights, published_grid

HUB = 'hub'
RANDOM = 'random'

# Arguments with which timm would load other weights than the ones requested.
WEIGHT_OPTIONS = {
    'pretrained',
    'pretrained_cfg',
    'pretrained_cfg_overlay',
    'pretrained_strict',
    'checkpoint_path',
    'cache_dir',
    'num_classes',
}


class Backbone(nn.Module):
    """A timm vision transformer without its classifier; its weights stay frozen.

    Args:
        vit: A timm model whose `forward_features` returns tokens after the final norm, prefix
            tokens first.
        name: timm's name of the architecture.
        digest: Identifies the weights, for example `sha256:...`.

    Attributes:
        width: Channels of a token (d).
        consumed: The kind of tokens that `forward` returns.
        adapters: Name and options of the inserted adapters (`model/peft/registry.py`); None for
            the published backbone.
        image_size: Height and width in pixels.
        grid_size: Rows and columns of patches.
        mean: Channel means for normalising RGB in [0, 1].
        std: Channel standard deviations for normalising RGB in [0, 1].
        has_cls: Whether the architecture has a CLS token.
    """

    # timm's models are not typed.
    vit: Any
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __init__(self, vit: nn.Module, *, name: str, digest: str) -> None:
        super().__init__()
        if not hasattr(vit, 'patch_embed') or not hasattr(vit, 'num_prefix_tokens'):
            raise ValueError(f'backbone {name!r} is not a vision transformer with patch tokens')
        if not isinstance(getattr(vit, 'norm', None), nn.Module) or isinstance(
            vit.norm, nn.Identity
        ):
            raise ValueError(
                f'backbone {name!r} has no final norm on its tokens: it normalises pooled tokens; '
                "pass the argument global_pool='token' or choose another architecture"
            )
        self.vit = vit
        self.name = name
        self.digest = digest
        self.width = int(self.vit.num_features)
        height, width = (int(size) for size in self.vit.patch_embed.img_size)
        self.image_size = (height, width)
        rows, columns = (int(size) for size in self.vit.patch_embed.grid_size)
        patch_height, patch_width = (int(size) for size in self.vit.patch_embed.patch_size)
        if not rows * columns or (height, width) != (rows * patch_height, columns * patch_width):
            raise ValueError(
                f'backbone {name!r} has patches of {patch_height} x {patch_width} px, which do '
                f'not fill an image of {height} x {width} px; choose a multiple of the patch size'
            )
        self.grid_size = (rows, columns)
        self.average_onto(self.grid_size)
        self.has_cls = getattr(self.vit, 'cls_token', None) is not None
        self.consumed: TokenKind = 'patches'
        self.adapters: tuple[str, dict[str, Any]] | None = None
        self.mean = tuple(self.vit.pretrained_cfg['mean'])
        self.std = tuple(self.vit.pretrained_cfg['std'])
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> 'Backbone':
        """Set the mode of inserted adapters; the frozen layers stay in evaluation mode."""
        super().train(False)
        for module in self.modules():
            if isinstance(module, AdaptedLayer):
                module.train(mode)
        return self

    @property
    def learns(self) -> bool:
        """Whether the backbone has trainable parameters; only adapters add any."""
        return any(parameter.requires_grad for parameter in self.parameters())

    @property
    def token_grid(self) -> tuple[int, int]:
        """Rows and columns of patch tokens that `forward` returns."""
        return self._average.token_grid

    @property
    def coarser_grid(self) -> tuple[int, int] | None:
        """The token grid if patch tokens are averaged; None if each patch has its own token."""
        return None if self.token_grid == self.grid_size else self.token_grid

    @property
    def tokens(self) -> int:
        """Number of patch tokens that `forward` returns for an image (n)."""
        return self._average.tokens

    def average_onto(self, token_grid: tuple[int, int]) -> 'Backbone':
        """Set the grid onto which `forward` averages patch tokens; return the backbone.

        Args:
            token_grid: Rows and columns; `grid_size` gives every patch a token of its own.

        Raises:
            ValueError: The token grid does not divide the grid of patches; names both.
        """
        try:
            self._average = TokenAverage(given=self.grid_size, token_grid=token_grid)
        except ValueError as error:
            raise ValueError(f'backbone {self.name!r}: {error}') from error
        return self

    def give(self, kind: TokenKind) -> 'Backbone':
        """Set which tokens `forward` returns; return the backbone.

        Raises:
            ValueError: The architecture has no CLS token.
        """
        check_choice('tokens', kind, TokenKind)
        if kind != 'patches' and not self.has_cls:
            raise ValueError(
                f'backbone {self.name!r} has no CLS token, but tokens={kind!r} needs it; choose a '
                'head that consumes patches (step) or another backbone'
            )
        self.consumed = kind
        return self

    def forward(self, x_b3hw: Tensor) -> Tensor:
        """Encode images.

        Args:
            x_b3hw: Normalised RGB images at `image_size`.

        Returns:
            Tokens after the final norm, `[b, n, d]`, by `consumed`: `patches` averaged onto
            `token_grid`, row by row from the top left; `cls` alone (n=1); or `all`, the CLS token
            and then the patches. Register tokens are dropped.
        """
        x_bld: Tensor = self.vit.forward_features(x_b3hw)
        if self.consumed == 'cls':
            return x_bld[:, :1]
        patches_bnd = self._average(x_bld[:, self.vit.num_prefix_tokens :])
        if self.consumed == 'patches':
            return patches_bnd
        return torch.cat([x_bld[:, :1], patches_bnd], dim=1)


def create_backbone(
    name: str,
    *,
    weights: str | Path,
    image_size: tuple[int, int] | None = None,
    token_grid: tuple[int, int] | None = None,
    digest: str | None = None,
    seed: int = 0,
    arguments: dict[str, Any] | None = None,
) -> Backbone:
    """Build a frozen backbone.

    Args:
        name: timm's name, for example `vit_small_patch14_dinov2.lvd142m`.
        weights: `hub` (the Hugging Face hub, through timm's entry for `name`), `random` (seeded
            by `seed`), or the path of a safetensors file.
        image_size: Height and width in pixels; None for the architecture's default. Positional
            embeddings of loaded weights are resampled to this size.
        token_grid: Rows and columns onto which patch tokens are averaged after the final norm;
            None for one token per patch.
        digest: `sha256:...` that the weight file must have; None to accept any.
        seed: Seed of the random weights.
        arguments: Further arguments of timm's constructor, for a custom size of the architecture.

    Raises:
        ValueError: `name` is unknown to timm or is not a suitable vision transformer, or the token
            grid does not divide the grid of patches.
        WeightsError: The weights are missing, are damaged, do not fit or have another digest.
    """
    options = dict(arguments or {})
    for option in WEIGHT_OPTIONS & options.keys():
        raise ValueError(
            f'backbone {name!r}: argument {option!r} would load other weights; remove it and use '
            '`weights`'
        )
    if image_size is not None:
        options['img_size'] = tuple(image_size)
    vit = _create(name, options, seed=seed)
    if weights == RANDOM:
        backbone = Backbone(vit, name=name, digest=f'random:{seed}')
    else:
        path = download(name) if weights == HUB else Path(weights)
        backbone = Backbone(vit, name=name, digest=checked_digest(path, digest))
        grid = published_grid(vit, name) if weights == HUB else None
        load_weights(vit, path, name=name, grid=grid)
    return backbone if token_grid is None else backbone.average_onto(token_grid)


def _create(name: str, options: dict[str, Any], *, seed: int) -> nn.Module:
    architecture, _, tag = name.partition('.')
    if not timm.is_model(architecture):
        close = ', '.join(timm.list_models(f'*{name.split("_patch")[0]}*')[:5])
        raise ValueError(
            f'backbone {name!r} is unknown to timm {timm.__version__}; similar names: {close}'
        )
    known = timm.list_pretrained(f'{architecture}.*')
    if tag and name not in known:
        raise ValueError(f'backbone {name!r}: timm has no weights {tag!r}; it has {known}')
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            vit: nn.Module = timm.create_model(name, num_classes=0, **options)
    except (TypeError, ValueError, AssertionError, RuntimeError, ZeroDivisionError) as error:
        raise ValueError(f'backbone {name!r} does not accept {options}: {error}') from error
    return vit


@dataclass(frozen=True, kw_only=True)
class TokenAverage:
    """Averages blocks of neighbouring patch tokens; all blocks have the same size.

    Attributes:
        given: Rows and columns of the patch tokens before averaging.
        token_grid: Rows and columns afterwards; they divide those before. If both grids are
            equal, the tokens stay as they are.

    Raises:
        ValueError: `token_grid` does not divide `given`.
    """

    given: tuple[int, int]
    token_grid: tuple[int, int]

    def __post_init__(self) -> None:
        if any(
            wanted < 1 or there % wanted
            for there, wanted in zip(self.given, self.token_grid, strict=True)
        ):
            rows, columns = (_divisors(number) for number in self.given)
            raise ValueError(
                f'token grid {grid_text(self.token_grid)} does not divide the grid of '
                f'{grid_text(self.given)} tokens; rows may be {rows}, columns {columns}'
            )

    @property
    def tokens(self) -> int:
        """Patch tokens of a frame after averaging (n)."""
        rows, columns = self.token_grid
        return rows * columns

    def __call__(self, x_xnd: Tensor, kind: TokenKind = 'patches') -> Tensor:
        """Average the patches among the tokens of frames; a CLS token stays as it is.

        Args:
            x_xnd: Tokens after the final norm, patches row by row from the top left, with any
                leading dimensions.
            kind: The kind of the tokens.
        """
        if kind == 'cls' or self.token_grid == self.given:
            return x_xnd
        if kind == 'all':
            return torch.cat([x_xnd[..., :1, :], self(x_xnd[..., 1:, :])], dim=-2)
        rows, columns = self.token_grid
        height, width = self.given[0] // rows, self.given[1] // columns
        blocks = x_xnd.reshape(*x_xnd.shape[:-2], rows, height, columns, width, x_xnd.shape[-1])
        return blocks.mean(dim=(-4, -2)).flatten(-3, -2)


def grid_text(grid: tuple[int, int]) -> str:
    """Return a grid as text: `rows x columns`."""
    rows, columns = grid
    return f'{rows} x {columns}'


def _divisors(number: int) -> str:
    return ', '.join(str(each) for each in range(1, number + 1) if number % each == 0)


class AdaptedLayer(nn.Module):
    """A frozen layer of a backbone with trainable parts around it: every member but `frozen`.

    Args:
        frozen: The original layer.
    """

    # timm's layers are not typed.
    frozen: Any

    def __init__(self, frozen: nn.Module) -> None:
        super().__init__()
        self.frozen = frozen

    def train(self, mode: bool = True) -> 'AdaptedLayer':
        """Set the mode of the inserted parts; the frozen layer stays in evaluation mode."""
        super().train(mode)
        self.frozen.eval()
        return self
