"""An exported encoder: a folder with `encoder.yaml` and the files that a runtime loads.

`encoder.yaml` says which backbone it was made from, so that it cannot be served with the heads of
another one, and carries the digest of every file, so that a damaged one is refused.
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
# The file that a runtime opens; it finds others that belong to it by itself.
MAIN_FILES = {'openvino': 'encoder.xml', 'onnx': 'encoder.onnx'}
# Where a bundle keeps what was exported of it, one folder each.
EXPORTS = 'exports'

Format = Literal['openvino', 'onnx']
_MEND = 'export it anew: step_ros bundle export BUNDLE --format ...'


class ExportSpec(StrictModel):
    """Everything in `encoder.yaml`."""

    format: Format = Field(description='which runtime loads it')
    precision: Literal['float32', 'int8'] = 'float32'
    backbone: str = Field(description="timm's name of the architecture")
    fingerprint: Digest = Field(description='of the backbone that it was made from')
    files: dict[str, Digest] = Field(min_length=1, description='digest of each file beside this')
    made_with: dict[str, str] = Field(default_factory=dict, description='packages and versions')
    calibration: dict[str, Any] = Field(
        default_factory=dict, description='images that int8 was calibrated on'
    )
    measured: dict[str, Any] = Field(
        default_factory=dict, description='what it costs in accuracy, and saves in time'
    )


@dataclass(frozen=True, kw_only=True)
class ExportedEncoder:
    """An exported encoder that is whole.

    Attributes:
        path: Its folder.
        spec: What its `encoder.yaml` says.
    """

    path: Path
    spec: ExportSpec

    @property
    def main_file(self) -> Path:
        """What its runtime opens."""
        return self.path / MAIN_FILES[self.spec.format]

    @property
    def variant(self) -> str:
        """Empty for an exact one; else its precision and the beginning of its files' digest."""
        if self.spec.precision == 'float32':
            return ''
        digests = '\n'.join(f'{name} {digest}' for name, digest in sorted(self.spec.files.items()))
        return f'{self.spec.precision}:{hashlib.sha256(digests.encode()).hexdigest()[:12]}'


def export_name(runtime: str, precision: str) -> str:
    """Return the folder's name within a bundle's exports, which is also the name to serve it by.

    An exact one goes by the runtime alone, a quantised one by `openvino-int8`.
    """
    return runtime if precision == 'float32' else f'{runtime}-{precision}'


def backbone_fingerprint(backbone: Backbone) -> str:
    """Return a digest of everything that decides a backbone's tokens, adapters included."""
    sha = hashlib.sha256()
    decisive = (
        *(backbone.name, backbone.image_size, backbone.mean, backbone.std),
        *(backbone.consumed, backbone.token_grid, backbone.adapters),
    )
    sha.update(repr(decisive).encode())
    for key, tensor in sorted(backbone.state_dict().items()):
        sha.update(f'{key} {tuple(tensor.shape)} {tensor.dtype}'.encode())
        sha.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return f'sha256:{sha.hexdigest()}'


def save_export(
    folder: Path, backbone: Backbone, *, runtime: Format, **about: Any
) -> ExportedEncoder:
    """Write `encoder.yaml` for the files that lie in a folder.

    Args:
        folder: With nothing else in it.
        backbone: What they were made from.
        runtime: Which runtime loads them.
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
    """Write what was measured into the `encoder.yaml` of an exported encoder."""
    return _write(exported.path, exported.spec.model_copy(update={'measured': measured}))


def _write(folder: Path, spec: ExportSpec) -> ExportedEncoder:
    text = yaml.safe_dump(spec.model_dump(mode='json'), sort_keys=False, width=99)
    (folder / SPEC_FILE).write_text(text, encoding='utf-8')
    return ExportedEncoder(path=folder, spec=spec)


def load_export(folder: Path, backbone: Backbone) -> ExportedEncoder:
    """Read an exported encoder and check that it is whole and was made from a backbone.

    Raises:
        BundleError: It is missing, damaged, altered or made from another backbone.
    """
    path = folder / SPEC_FILE
    if not path.is_file():
        raise BundleError(path, '', f'no such file: no encoder was exported there; {_MEND}')
    try:
        spec = ExportSpec.model_validate(read_yaml(path))
    except (BundleError, ValidationError) as error:
        raise BundleError(path, '', f'not an exported encoder: {error}') from error
    if spec.fingerprint != (found := backbone_fingerprint(backbone)):
        raise BundleError(
            path,
            'fingerprint',
            f'it was made from a backbone {spec.backbone} with {spec.fingerprint}; the '
            f'{backbone.name} of this bundle has {found}: {_MEND}',
        )
    for name in {MAIN_FILES[spec.format], *spec.files}:
        file = folder / name
        if name not in spec.files or Path(name).name != name or not file.is_file():
            raise BundleError(file, '', f'no such file, or not one that {SPEC_FILE} names')
        if file_digest(file) != spec.files[name]:
            raise BundleError(file, '', f'its digest is not the one in {SPEC_FILE}; {_MEND}')
    return ExportedEncoder(path=folder, spec=spec)
