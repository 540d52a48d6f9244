# SPDX-License-Identifier: Apache-2.0
"""`TokenAverage`: each token is the mean of a block of neighbouring patches."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from step_ros.model.backbone import TokenAverage

sides = st.integers(1, 3)


def numbered(rows, columns, *, width=2):
    """Return tokens of two frames, all different."""
    count = 2 * rows * columns * width
    return torch.arange(float(count)).view(2, rows * columns, width) ** 2


@given(rows=sides, columns=sides, height=sides, width=sides)
def test_each_token_is_the_mean_of_its_block(rows, columns, height, width):
    given_grid = (rows * height, columns * width)
    average = TokenAverage(given=given_grid, token_grid=(rows, columns))
    x_bnd = numbered(*given_grid)
    x_bhwd = x_bnd.view(2, *given_grid, 2)
    expected = [
        x_bhwd[:, r * height : (r + 1) * height, c * width : (c + 1) * width].mean(dim=(1, 2))
        for r in range(rows)
        for c in range(columns)
    ]
    torch.testing.assert_close(average(x_bnd), torch.stack(expected, dim=1))
    assert average.tokens == len(expected)


@given(rows=sides, columns=sides, height=sides, width=sides)
def test_average_of_averages_is_the_average_of_patches(rows, columns, height, width):
    patches, between = (rows * 4, columns * height * width), (rows * 2, columns * width)
    onto = {'token_grid': (rows, columns)}
    x_bnd = numbered(*patches)
    twice = TokenAverage(given=between, **onto)(
        TokenAverage(given=patches, token_grid=between)(x_bnd)
    )
    torch.testing.assert_close(twice, TokenAverage(given=patches, **onto)(x_bnd))


def test_cls_token_is_not_averaged():
    average = TokenAverage(given=(2, 4), token_grid=(1, 2))
    x_btnd = torch.randn(3, 5, 9, 6, generator=torch.Generator().manual_seed(0))
    cls_bt1d, patches_btnd = x_btnd[:, :, :1], x_btnd[:, :, 1:]
    found = average(x_btnd, 'all')
    assert found.shape == (3, 5, 3, 6)
    assert torch.equal(found[:, :, :1], cls_bt1d)
    assert torch.equal(found[:, :, 1:], average(patches_btnd))
    assert torch.equal(average(cls_bt1d, 'cls'), cls_bt1d)


def test_full_grid_returns_the_tokens_unchanged():
    x_bnd = numbered(2, 3)
    assert TokenAverage(given=(2, 3), token_grid=(2, 3))(x_bnd) is x_bnd


@pytest.mark.parametrize('token_grid', [(4, 8), (6, 3), (12, 8), (0, 8), (6, -2)])
def test_wrong_grid_is_refused_with_the_valid_ones(token_grid):
    rows, columns = token_grid
    message = (
        rf'token grid {rows} x {columns} does not divide the grid of 6 x 8 tokens; '
        r'rows may be 1, 2, 3, 6, columns 1, 2, 4, 8'
    )
    with pytest.raises(ValueError, match=message):
        TokenAverage(given=(6, 8), token_grid=token_grid)
