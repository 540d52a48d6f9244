"""Files of a bundle: what is wrong with them, and the tensors in them."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from step_ros.model.weights import file_digest


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
