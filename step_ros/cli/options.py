"""Options that several verbs take."""

import re

import typer


def split_options(
    option: str,
    given: list[str] | None,
    *,
    expected: str = 'KEY=VALUE, each key once',
    empty: bool = True,
) -> dict[str, str]:
    """Take KEY=VALUE apart.

    Args:
        option: Its name, for the reader of an error.
        given: What was given for it.
        expected: What an error says that it takes.
        empty: Whether a value may be empty.

    Raises:
        BadParameter: One is something else, or a key stands there twice.
    """
    found: dict[str, str] = {}
    for text in given or ():
        key, separator, value = (part.strip() for part in text.partition('='))
        if not separator or not key or not (value or empty) or key in found:
            raise typer.BadParameter(f'{option} {text}: expected {expected}')
        found[key] = value
    return found


def grid_of(option: str, text: str) -> tuple[int, int]:
    """Read a grid of tokens, ROWSxCOLUMNS.

    Raises:
        BadParameter: It is something else.
    """
    found = re.fullmatch(r'([1-9]\d*)x([1-9]\d*)', text)
    if found is None:
        raise typer.BadParameter(f'{option} {text}: expected ROWSxCOLUMNS, for example 8x8')
    return int(found[1]), int(found[2])
