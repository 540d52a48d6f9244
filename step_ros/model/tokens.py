# SPDX-License-Identifier: Apache-2.0
"""The kinds of tokens that a head can consume, and their number in a frame."""

from typing import Any, Literal, get_args

from torch import Tensor

TokenKind = Literal['patches', 'cls', 'all']


def tokens_per_frame(kind: TokenKind, patches: int) -> int:
    """Return the number of tokens of this kind in a frame with this number of patches."""
    return {'patches': patches, 'cls': 1, 'all': patches + 1}[kind]


def select_tokens(x_btnd: Tensor, *, given: TokenKind, wanted: TokenKind) -> Tensor:
    """Return the tokens that a head consumes, out of the tokens of windows.

    Args:
        x_btnd: Tokens; in `all`, the CLS token of a frame comes first.
        given: The kind of `x_btnd`.
        wanted: The kind that the head consumes.

    Raises:
        ValueError: The wanted tokens are not among the given ones.
    """
    if given == wanted:
        return x_btnd
    if given != 'all':
        raise ValueError(f'the head consumes {wanted!r} tokens; only {given!r} tokens are given')
    return x_btnd[:, :, :1] if wanted == 'cls' else x_btnd[:, :, 1:]


def check_choice(option: str, value: Any, choices: Any) -> None:
    """Check that a value is among the choices of a `Literal` type.

    Raises:
        ValueError: The value is not among the choices; lists them.
    """
    if value not in get_args(choices):
        raise ValueError(f'{option}={value!r}: expected one of {", ".join(get_args(choices))}')
