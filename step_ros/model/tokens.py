"""Which tokens of a frame a head consumes, and how many there are."""

from typing import Any, Literal, get_args

from torch import Tensor

TokenKind = Literal['patches', 'cls', 'all']


def tokens_per_frame(kind: TokenKind, patches: int) -> int:
    """Return how many tokens of a frame a head consumes, given the number of its patches."""
    return {'patches': patches, 'cls': 1, 'all': patches + 1}[kind]


def select_tokens(x_btnd: Tensor, *, given: TokenKind, wanted: TokenKind) -> Tensor:
    """Take from the tokens of windows those that a head consumes.

    Args:
        x_btnd: Tokens; the CLS token comes first where `all` are given.
        given: What they are.
        wanted: What the head consumes.

    Raises:
        ValueError: They are not among those given.
    """
    if given == wanted:
        return x_btnd
    if given != 'all':
        raise ValueError(f'a head wants the tokens {wanted!r}; there are only {given!r}')
    return x_btnd[:, :, :1] if wanted == 'cls' else x_btnd[:, :, 1:]


def check_choice(option: str, value: Any, choices: Any) -> None:
    """Refuse a value that is not among the choices of a `Literal` type.

    Raises:
        ValueError: It is not; lists the choices.
    """
    if value not in get_args(choices):
        raise ValueError(f'{option}={value!r}: expected one of {", ".join(get_args(choices))}')
