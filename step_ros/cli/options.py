"""Options that several verbs take."""

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
