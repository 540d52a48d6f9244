"""A coarser grid of patch tokens: neighbours averaged, so that heads have fewer tokens to look at.

The cost of attention grows with the square of the tokens: half the rows and half the columns leave
a sixteenth of its products. Heads must be trained on the grid they are served on.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from step_ros.model.tokens import TokenKind


@dataclass(frozen=True, kw_only=True)
class TokenAverage:
    """Averages blocks of neighbouring patch tokens, all blocks alike.

    Attributes:
        given: Rows and columns of the patch tokens there are.
        token_grid: Rows and columns of those wanted; they divide the given ones. With the same
            number of both nothing changes.

    Raises:
        ValueError: They do not divide them.
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
        """Patch tokens of a frame afterwards (n)."""
        rows, columns = self.token_grid
        return rows * columns

    def __call__(self, x_xnd: Tensor, kind: TokenKind = 'patches') -> Tensor:
        """Average the patches among the tokens of frames; a CLS token stays as it is.

        Args:
            x_xnd: Tokens after the final norm, patches row by row from the top left.
            kind: Which tokens of a frame these are.
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
    """Write a grid: rows x columns."""
    rows, columns = grid
    return f'{rows} x {columns}'


def _divisors(number: int) -> str:
    return ', '.join(str(each) for each in range(1, number + 1) if number % each == 0)
