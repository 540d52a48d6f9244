"""A model bundle: a folder with `bundle.yaml`, `heads.safetensors`, maybe backbone weights."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml
from pydantic import ValidationError
from safetensors.torch import save

from step_ros.model.backbone import HUB, RANDOM, Backbone, create_backbone
from step_ros.model.bundle_adapters import load_adapters, refuse_temporal, save_adapters
from step_ros.model.bundle_files import BundleError, read_tensors, read_yaml
from step_ros.model.bundle_schema import BackboneSpec, BundleSpec, HeadsSpec, ImageSpec, TaskSpec
from step_ros.model.head import Head
from step_ros.model.heads import HEADS, create_head
from step_ros.model.multitask import MultiTaskModel
from step_ros.model.peft import frozen_state
from step_ros.model.weights import WeightsError, file_digest, save_weights

SPEC_FILE = 'bundle.yaml'
HEADS_FILE = 'heads.safetensors'
BACKBONE_FILE = 'backbone.safetensors'


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A loaded bundle.

    Attributes:
        path: Its folder.
        spec: What its `bundle.yaml` says.
        model: Backbone and heads, in evaluation mode.
    """

    path: Path
    spec: BundleSpec
    model: MultiTaskModel

    @property
    def model_id(self) -> str:
        """Name and digest of everything that decides an answer."""
        return model_id(self.spec)


def model_id(spec: BundleSpec) -> str:
    """Return the bundle's name and a digest of everything that decides an answer."""
    decisive = spec.model_dump_json(
        exclude={'description', 'license', 'provenance', 'metrics', 'name'}, exclude_none=True
    )
    return f'{spec.name}@{hashlib.sha256(decisive.encode()).hexdigest()[:12]}'


class HeadKind(Protocol):
    """What says which heads to build."""

    @property
    def name(self) -> str:
        """Kind of head, as in docs/heads.md."""

    @property
    def options(self) -> dict[str, Any]:
        """Options of that kind."""


def create_heads(
    kind: HeadKind, tasks: Sequence[TaskSpec], *, width: int, frames: int, tokens: int
) -> dict[str, Head]:
    """Build a fresh head for each task.

    Args:
        kind: Name and options of the heads, in a bundle or in a recipe.
        tasks: What they decide.
        width: Channels of a token.
        frames: Frames in a window.
        tokens: Patches of a frame.

    Raises:
        ValueError: The kind or an option is unknown or does not fit; lists what would.
    """
    return {
        task.name: create_head(
            kind.name,
            width=width,
            frames=frames,
            tokens=tokens,
            classes=len(task.labels),
            **kind.options,
        )
        for task in tasks
    }


def read_spec(folder: Path) -> BundleSpec:
    """Read and validate `bundle.yaml` alone.

    Raises:
        BundleError: The file is missing, is no YAML, is too large or breaks the schema.
    """
    path = folder / SPEC_FILE
    if not folder.is_dir():
        raise BundleError(folder, '', 'no such folder; a bundle is a folder with bundle.yaml')
    if not path.is_file():
        raise BundleError(path, '', 'no such file; a bundle is a folder with bundle.yaml')
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise BundleError(path, '', f'expected a mapping, found {type(content).__name__}')
    try:
        return BundleSpec.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = '.'.join(str(part) for part in first['loc'])
        given = repr(first['input'])[:80]
        more = f' (and {error.error_count() - 1} more)' if error.error_count() > 1 else ''
        raise BundleError(path, field, f'{first["msg"]}; found {given}{more}') from error


def load_bundle(folder: Path) -> Bundle:
    """Load a bundle and check that it is whole.

    Raises:
        BundleError: A file is missing, damaged or altered, or the parts do not fit together.
    """
    folder = Path(folder)
    spec = read_spec(folder)
    backbone = _load_backbone(folder, spec)
    try:
        heads = create_heads(
            spec.heads,
            spec.tasks,
            width=backbone.width,
            frames=spec.frames,
            tokens=backbone.tokens,
        )
    except ValueError as error:
        field = 'heads.options' if spec.heads.name in HEADS else 'heads.name'
        raise BundleError(folder / SPEC_FILE, field, str(error)) from error
    try:
        model = MultiTaskModel(backbone, heads)
    except ValueError as error:
        raise BundleError(folder / SPEC_FILE, 'heads.name', str(error)) from error
    _load_heads(folder, spec, model)
    return Bundle(path=folder, spec=spec, model=model.eval())


def save_bundle(
    folder: Path,
    model: MultiTaskModel,
    *,
    name: str,
    frame_period: float,
    tasks: tuple[TaskSpec, ...],
    backbone_weights: str = BACKBONE_FILE,
    backbone_arguments: dict[str, Any] | None = None,
    **about: Any,
) -> Bundle:
    """Write a bundle and load it back.

    Args:
        folder: Where to; made if it does not exist.
        model: Backbone and heads made by `create_head`, in the order of `tasks`.
        name: Name of the bundle.
        frame_period: Seconds between two frames of a window.
        tasks: What the heads decide.
        backbone_weights: `hub` or `random` to name the backbone's weights, or the name of a
            .safetensors file to save them in the bundle.
        backbone_arguments: Constructor arguments the backbone was made with.
        about: Further fields of `BundleSpec`: description, license, provenance, metrics.

    Raises:
        BundleError: What was written does not load.
        ValueError: The heads are not of one kind.
    """
    head = _common_head(model)
    backbone = model.backbone
    if backbone.adapters is not None:
        refuse_temporal(backbone.adapters[0])
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    digest = backbone.digest
    if backbone_weights not in (HUB, RANDOM):
        path = folder / backbone_weights
        save_weights(frozen_state(backbone), path, grid=backbone.grid_size)
        digest = file_digest(folder / backbone_weights)
    heads = {key: value.contiguous().cpu() for key, value in model.heads.state_dict().items()}
    (folder / HEADS_FILE).write_bytes(save(heads))
    spec = BundleSpec(
        name=name,
        frames=head.frames,
        frame_period=frame_period,
        image=ImageSpec(
            height=backbone.image_size[0],
            width=backbone.image_size[1],
            mean=backbone.mean,
            std=backbone.std,
        ),
        backbone=BackboneSpec(
            name=backbone.name,
            arguments=backbone_arguments or {},
            weights=backbone_weights,
            digest=digest,
            token_grid=backbone.coarser_grid,
            adapters=save_adapters(folder, backbone),
        ),
        heads=HeadsSpec(
            name=head.name,
            options=head.options,
            digest=file_digest(folder / HEADS_FILE),
        ),
        tasks=tasks,
        **about,
    )
    text = yaml.safe_dump(spec.model_dump(mode='json'), sort_keys=False, width=99)
    (folder / SPEC_FILE).write_text(text, encoding='utf-8')
    return load_bundle(folder)


def _common_head(model: MultiTaskModel) -> Head:
    """Return a head that speaks for all: the bundle describes them once."""
    heads = [head for head in model.heads.values() if isinstance(head, Head)]
    kinds = {f'{head.name} of {head.frames} frames with {head.options}' for head in heads}
    if len(kinds) != 1 or not heads[0].name:
        raise ValueError(
            'a bundle takes heads made by `create_head` that are alike in kind, options and '
            f'frames; found {sorted(kinds)}'
        )
    return heads[0]


def _load_backbone(folder: Path, spec: BundleSpec) -> Backbone:
    given = spec.backbone
    local = given.weights not in (HUB, RANDOM)
    try:
        backbone = create_backbone(
            given.name,
            weights=folder / given.weights if local else given.weights,
            image_size=(spec.image.height, spec.image.width),
            digest=None if given.weights == RANDOM else given.digest,
            seed=int(given.digest.removeprefix('random:')) if given.weights == RANDOM else 0,
            arguments=given.arguments,
        )
    except WeightsError as error:
        raise BundleError(folder / SPEC_FILE, 'backbone.weights', str(error)) from error
    except (ValueError, AssertionError) as error:
        raise BundleError(folder / SPEC_FILE, 'backbone', str(error)) from error
    if given.token_grid is not None:
        try:
            backbone.average_onto(given.token_grid)
        except ValueError as error:
            raise BundleError(folder / SPEC_FILE, 'backbone.token_grid', str(error)) from error
    if given.adapters is not None:
        load_adapters(folder, backbone, given.adapters, frames=spec.frames)
    # The bundle's normalisation is what the heads were trained with, whatever timm says today.
    backbone.mean, backbone.std = spec.image.mean, spec.image.std
    return backbone


def _load_heads(folder: Path, spec: BundleSpec, model: MultiTaskModel) -> None:
    path = folder / spec.heads.weights
    tensors = read_tensors(path, digest=spec.heads.digest, field='heads')
    expected = model.heads.state_dict()
    for key in sorted(expected.keys() | tensors.keys()):
        if key not in tensors:
            raise BundleError(path, key, 'tensor is missing; the tasks in bundle.yaml need it')
        if key not in expected:
            raise BundleError(path, key, 'tensor belongs to no task in bundle.yaml')
        if tensors[key].shape != expected[key].shape:
            raise BundleError(
                path,
                key,
                f'tensor has shape {list(tensors[key].shape)}, '
                f'bundle.yaml asks for {list(expected[key].shape)}',
            )
        if not bool(tensors[key].isfinite().all()):
            raise BundleError(path, key, 'tensor has values that are not finite')
    model.heads.load_state_dict(tensors)
