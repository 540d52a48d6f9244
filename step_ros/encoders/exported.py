# SPDX-License-Identifier: Apache-2.0
"""An exported encoder: a folder with `encoder.yaml` and the files that a runtime loads.

`encoder.yaml` holds the fingerprint of the backbone from which the encoder was made, so that it
cannot run with the heads of another backbone. It also holds the digest of every file, so that a
damaged file is refused.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from step_ros.model.backbone import Backbone
from step_ros.model.bundle import BundleError, read_yaml
from step_ros.model.bundle_schema import Digest
from step_ros.model.weights import file_digest
from step_ros.schema import StrictModel

SPEC_FILE = 'encoder.yaml'
# The file that a runtime opens; the runtime then finds the other files.
MAIN_FILES = {'openvino': 'encoder.xml', 'onnx': 'encoder.onnx'}
# Folder of a bundle with its exported encoders, one subfolder each.
EXPORTS = 'exports'

Format = Literal['openvino', 'onnx']
_EXPORT_AGAIN = 'export it again: step_ros bundle export BUNDLE --format ...'


class ExportSpec(StrictModel):
    """All fields of `encoder.yaml`."""

    format: Format = Field(description='runtime that loads the files')
    precision: Literal['float32', 'int8'] = 'float32'
    backbone: str = Field(description="timm's name of the architecture")
    fingerprint: Digest = Field(description='digest of the exported backbone')
    files: dict[str, Digest] = Field(min_length=1, description='digest of each file')
    made_with: dict[str, str] = Field(default_factory=dict, description='packages and versions')
    calibration: dict[str, Any] = Field(
        default_factory=dict, description='images that int8 was calibrated on'
    )
    measured: dict[str, Any] = Field(
        default_factory=dict, description='accuracy and time, of float32 and of int8'
    )


@dataclass(frozen=True, kw_only=True)
class ExportedEncoder:
    """An exported encoder whose files were checked.

    Attributes:
        path: Its folder.
        spec: The content of its `encoder.yaml`.
    """

    path: Path
    spec: ExportSpec

    @property
    def main_file(self) -> Path:
        """The file that its runtime opens."""
        return self.path / MAIN_FILES[self.spec.format]

    @property
    def variant(self) -> str:
        """Empty for float32; else the precision and the first digits of its files' digest."""
        if self.spec.precision == 'float32':
            return ''
        digests = '\n'.join(f'{name} {digest}' for name, digest in sorted(self.spec.files.items()))
        return f'{self.spec.precision}:{hashlib.sha256(digests.encode()).hexdigest()[:12]}'


def export_name(runtime: str, precision: str) -> str:
    """Return the name of an exported encoder: its folder in `exports`, and its `runtime` value.

    The name is the runtime for float32, and `openvino-int8` for the quantised encoder.
    """
    return runtime if precision == 'float32' else f'{runtime}-{precision}'


def backbone_fingerprint(backbone: Backbone) -> str:
    """Return a digest of everything that affects a backbone's tokens, adapters included."""
    sha = hashlib.sha256()
    settings = (
        *(backbone.name, backbone.image_size, backbone.mean, backbone.std),
        *(backbone.consumed, backbone.token_grid, backbone.adapters),
    )
    sha.update(repr(settings).encode())
    for key, tensor in sorted(backbone.state_dict().items()):
        sha.update(f'{key} {tuple(tensor.shape)} {tensor.dtype}'.encode())
        sha.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return f'sha256:{sha.hexdigest()}'


def save_export(
    folder: Path, backbone: Backbone, *, runtime: Format, **about: Any
) -> ExportedEncoder:
    """Write `encoder.yaml` for the exported files in a folder.

    Args:
        folder: Folder with the exported files and no others.
        backbone: The exported backbone.
        runtime: Runtime that loads the files.
        about: Further fields of `ExportSpec`.
    """
    spec = ExportSpec(
        format=runtime,
        backbone=backbone.name,
        fingerprint=backbone_fingerprint(backbone),
        files={
            path.name: file_digest(path)
            for path in sorted(folder.iterdir())
            if path.name != SPEC_FILE
        },
        **about,
    )
    return _write(folder, spec)


def record_measured(exported: ExportedEncoder, measured: dict[str, Any]) -> ExportedEncoder:
    """Write measured accuracy and times into the `encoder.yaml` of an exported encoder."""
    return _write(exported.path, exported.spec.model_copy(update={'measured': measured}))


def _write(folder: Path, spec: ExportSpec) -> ExportedEncoder:
    text = yaml.safe_dump(spec.model_dump(mode='json'), sort_keys=False, width=99)
    (folder / SPEC_FILE).write_text(text, encoding='utf-8')
    return ExportedEncoder(path=folder, spec=spec)


def load_export(folder: Path, backbone: Backbone) -> ExportedEncoder:
    """Read an exported encoder; check its files, and that it was made from this backbone.

    Raises:
        BundleError: The encoder is missing, damaged, changed or made from another backbone.
    """
    path = folder / SPEC_FILE
    if not path.is_file():
        raise BundleError(
            path, '', f'no such file: the folder has no exported encoder; {_EXPORT_AGAIN}'
        )
    try:
        spec = ExportSpec.model_validate(read_yaml(path))
    except (BundleError, ValidationError) as error:
        raise BundleError(path, '', f'not an exported encoder: {error}') from error
    if spec.fingerprint != (found := backbone_fingerprint(backbone)):
        raise BundleError(
            path,
            'fingerprint',
            f'the encoder was made from a backbone {spec.backbone} with {spec.fingerprint}; the '
            f'backbone {backbone.name} of this bundle has {found}; {_EXPORT_AGAIN}',
        )
    for name in {MAIN_FILES[spec.format], *spec.files}:
        file = folder / name
        if name not in spec.files or Path(name).name != name or not file.is_file():
            raise BundleError(
                file, '', f'no such file, or a name that {SPEC_FILE} must not use; {_EXPORT_AGAIN}'
            )
        if file_digest(file) != spec.files[name]:
            raise BundleError(
                file, '', f'its digest differs from the one in {SPEC_FILE}; {_EXPORT_AGAIN}'
            )
    return ExportedEncoder(path=folder, spec=spec)
