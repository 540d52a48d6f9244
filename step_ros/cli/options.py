"""Options that several verbs take."""

import typer


def split_options(option: str, given: list[str] | None) -> dict[str, str]:
    """Take KEY=VALUE apart.

    Raises:
        BadParameter: One is something else, or a key stands there twice.
    """
    found: dict[str, str] = {}
    for text in given or ():
        key, separator, value = (part.strip() for part in text.partition('='))
        if not separator or not key or key in found:
            raise typer.BadParameter(f'{option} {text}: expected KEY=VALUE, each key once')
        found[key] = value
    return found
