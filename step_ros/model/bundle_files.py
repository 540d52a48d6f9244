"""Files of a bundle: what is wrong with them, and what is in them."""

from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from step_ros.model.weights import file_digest

# A bundle's YAML has a few hundred values; by aliases a page of it has more than memory can hold.
MOST_BYTES = 1 << 20
MOST_VALUES = 100_000


class BundleError(RuntimeError):
    """A bundle is damaged, incomplete or does not fit together.

    Args:
        path: The file at fault.
        field: The field or tensor at fault; empty for the file as a whole.
        why: What is wrong, and what was expected.
    """

    def __init__(self, path: Path, field: str, why: str) -> None:
        super().__init__(f'{path}: {field + ": " if field else ""}{why}')
        self.path, self.field = path, field


def read_yaml(path: Path) -> Any:
    """Read a YAML file of a bundle: plain values alone, and not too many.

    Raises:
        BundleError: It is no YAML, too large, or says the same thing too often by aliases.
    """
    if path.stat().st_size > MOST_BYTES:
        raise BundleError(path, '', f'larger than {MOST_BYTES} bytes')
    try:
        loader = yaml.SafeLoader(path.read_text(encoding='utf-8'))
        node = loader.get_single_node()
        if node is not None and _values(node, {}) > MOST_VALUES:
            raise BundleError(path, '', f'more than {MOST_VALUES} values, aliases counted')
        return None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(path, '', f'not readable as YAML: {error}') from error


def _values(node: yaml.Node, known: dict[int, int]) -> int:
    """Count the values of a node, those behind an alias each time; without end within itself."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = MOST_VALUES  # until it is known: where it holds itself, there is no end
        # A sequence has nodes, a mapping has pairs of them.
        parts = [each for part in node.value for each in (part if type(part) is tuple else [part])]
        known[id(node)] = 1 + sum(_values(part, known) for part in parts)
    return known[id(node)]


def read_tensors(path: Path, *, digest: str, field: str) -> dict[str, Tensor]:
    """Read a safetensors file that `bundle.yaml` names.

    Args:
        path: The file.
        digest: What its bytes must have.
        field: The part of `bundle.yaml` that names it, for messages.

    Raises:
        BundleError: The file is missing, altered or damaged.
    """
    if not path.is_file():
        raise BundleError(path, '', f'no such file; bundle.yaml names it in {field}.weights')
    found = file_digest(path)
    if found != digest:
        raise BundleError(
            path, f'{field}.digest', f'the file has {found}, bundle.yaml expects {digest}'
        )
    try:
        return load_file(path)
    except SafetensorError as error:
        raise BundleError(path, '', f'not a safetensors file: {error}') from error
