# SPDX-License-Identifier: Apache-2.0
"""A model bundle: save a model to a folder, and load it back with every file checked.

The folder holds `bundle.yaml` and `heads.safetensors`, and optionally the weights of the backbone
(`backbone.safetensors`) and of the adapters in it (`adapters.safetensors`).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import yaml
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from step_ros.files import pointer_kind
from step_ros.model.backbone import HUB, RANDOM, Backbone, create_backbone
from step_ros.model.bundle_schema import (
    AdaptersSpec,
    BackboneSpec,
    BundleSpec,
    HeadsSpec,
    ImageSpec,
    TaskSpec,
)
from step_ros.model.heads.base import Head
from step_ros.model.heads.registry import HEADS, create_head
from step_ros.model.multitask import MultiTaskModel
from step_ros.model.peft.registry import (
    PEFT_METHODS,
    adapter_state,
    frozen_state,
    insert_adapters,
    load_adapter_state,
)
from step_ros.model.weights import WeightsError, file_digest, save_weights

SPEC_FILE = 'bundle.yaml'
HEADS_FILE = 'heads.safetensors'
BACKBONE_FILE = 'backbone.safetensors'
ADAPTERS_FILE = 'adapters.safetensors'

# A bundle's YAML has a few hundred values. With aliases, one page can expand to more values than
# fit into memory.
MOST_BYTES = 1 << 20
MOST_VALUES = 100_000


class BundleError(RuntimeError):
    """A bundle is damaged, incomplete or does not fit together.

    Args:
        path: The file at fault.
        field: The field or tensor at fault; empty for the file as a whole.
        message: The fault and the expected content.
    """

    def __init__(self, path: Path, field: str, message: str) -> None:
        super().__init__(f'{path}: {field + ": " if field else ""}{message}')
        self.path, self.field = path, field


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A loaded bundle.

    Attributes:
        path: Its folder.
        spec: The content of its `bundle.yaml`.
        model: Backbone and heads, in evaluation mode.
    """

    path: Path
    spec: BundleSpec
    model: MultiTaskModel

    @property
    def model_id(self) -> str:
        """Name of the bundle and digest of all fields that affect its scores."""
        return model_id(self.spec)


def model_id(spec: BundleSpec) -> str:
    """Return the bundle's name and a digest of all fields that affect its scores."""
    fields = spec.model_dump_json(
        exclude={'description', 'license', 'provenance', 'metrics', 'name'}, exclude_none=True
    )
    return f'{spec.name}@{hashlib.sha256(fields.encode()).hexdigest()[:12]}'


def load_bundle(folder: Path) -> Bundle:
    """Load a bundle and check all of its files.

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
    # The heads were trained with the bundle's normalisation; a later timm may have another one.
    backbone.mean, backbone.std = spec.image.mean, spec.image.std
    return backbone


def _load_heads(folder: Path, spec: BundleSpec, model: MultiTaskModel) -> None:
    path = folder / spec.heads.weights
    tensors = read_tensors(path, digest=spec.heads.digest, field='heads')
    expected = model.heads.state_dict()
    for key in sorted(expected.keys() | tensors.keys()):
        if key not in tensors:
            raise BundleError(path, key, 'tensor is missing; a task in bundle.yaml needs it')
        if key not in expected:
            raise BundleError(path, key, 'tensor belongs to no task in bundle.yaml')
        if tensors[key].shape != expected[key].shape:
            raise BundleError(
                path,
                key,
                f'tensor has shape {list(tensors[key].shape)}, '
                f'bundle.yaml requires {list(expected[key].shape)}',
            )
        if not bool(tensors[key].isfinite().all()):
            raise BundleError(path, key, 'tensor has values that are not finite')
    model.heads.load_state_dict(tensors)


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
        folder: Folder of the bundle; made if it does not exist.
        model: Backbone and heads made by `create_head`, in the order of `tasks`.
        name: Name of the bundle.
        frame_period: Seconds between two frames of a window.
        tasks: Labels of each head.
        backbone_weights: `hub` or `random` to refer to the backbone's weights, or the name of a
            .safetensors file to save them in the bundle.
        backbone_arguments: The `arguments` with which `create_backbone` made the backbone.
        about: Further fields of `BundleSpec`: description, license, provenance, metrics.

    Raises:
        BundleError: The written bundle does not load.
        ValueError: The heads differ in kind, options or frames, or the adapters mix frames.
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
    """Return one head for all: `bundle.yaml` describes their kind and options once.

    Raises:
        ValueError: The heads differ, or `create_head` did not make them.
    """
    heads = [head for head in model.heads.values() if isinstance(head, Head)]
    kinds = {f'{head.name} of {head.frames} frames with {head.options}' for head in heads}
    if len(kinds) != 1 or not heads[0].name:
        raise ValueError(
            'a bundle needs heads made by `create_head` with the same kind, options and frames; '
            f'found {sorted(kinds)}'
        )
    return heads[0]


class HeadKind(Protocol):
    """Name and options of the heads to build: `HeadsSpec` of a bundle, or those of a recipe."""

    @property
    def name(self) -> str:
        """Kind of head; see docs/heads.md."""

    @property
    def options(self) -> dict[str, Any]:
        """Options of the kind."""


def create_heads(
    kind: HeadKind, tasks: Sequence[TaskSpec], *, width: int, frames: int, tokens: int
) -> dict[str, Head]:
    """Build a new head for each task.

    Args:
        kind: Name and options of the heads.
        tasks: Tasks with their labels.
        width: Channels of a token (d).
        frames: Frames in a window (T).
        tokens: Patches of a frame (n).

    Raises:
        ValueError: The kind or an option is unknown or does not fit; lists the valid ones.
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
    """Read and validate `bundle.yaml`, without loading weights.

    Raises:
        BundleError: The file is missing, is not YAML, is too large or breaks the schema.
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


def read_yaml(path: Path) -> Any:
    """Read a YAML file of a bundle, with plain values only.

    Raises:
        BundleError: The file is not YAML, is larger than `MOST_BYTES`, or has more than
            `MOST_VALUES` values after expanding aliases.
    """
    if path.stat().st_size > MOST_BYTES:
        raise BundleError(path, '', f'larger than {MOST_BYTES} bytes')
    try:
        loader = yaml.SafeLoader(path.read_text(encoding='utf-8'))
        node = loader.get_single_node()
        if node is not None and _count_values(node, {}) > MOST_VALUES:
            raise BundleError(path, '', f'more than {MOST_VALUES} values, aliases counted')
        return None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(path, '', f'not readable as YAML: {error}') from error


def _count_values(node: yaml.Node, counts: dict[int, int]) -> int:
    """Count the values of a node after expanding aliases.

    Args:
        node: A node of a YAML document.
        counts: Values of the nodes that were counted before, by `id`; this function adds to it.
    """
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in counts:
        # A node that contains itself is endless: its inner copy counts as too many values.
        counts[id(node)] = MOST_VALUES
        # A sequence has nodes, a mapping has pairs of nodes.
        parts = [each for part in node.value for each in (part if type(part) is tuple else [part])]
        counts[id(node)] = 1 + sum(_count_values(part, counts) for part in parts)
    return counts[id(node)]


def read_tensors(path: Path, *, digest: str, field: str) -> dict[str, Tensor]:
    """Read a safetensors file that `bundle.yaml` names.

    Args:
        path: The file.
        digest: The expected digest of its bytes.
        field: The field of `bundle.yaml` that names the file, for messages.

    Raises:
        BundleError: The file is missing, altered or damaged.
    """
    if not path.is_file():
        raise BundleError(path, '', f'no such file; bundle.yaml names it in {field}.weights')
    if kind := pointer_kind(path):
        raise BundleError(path, '', f'it is {kind}')
    found = file_digest(path)
    if found != digest:
        raise BundleError(
            path, f'{field}.digest', f'the file has {found}, bundle.yaml expects {digest}'
        )
    try:
        return load_file(path)
    except SafetensorError as error:
        raise BundleError(path, '', f'not a safetensors file: {error}') from error


def refuse_temporal(name: str) -> None:
    """Check that a frame's tokens do not depend on other frames through these adapters.

    Raises:
        ValueError: The adapters mix frames; lists those that stream.
    """
    if name in PEFT_METHODS and PEFT_METHODS[name].temporal:
        streaming = ', '.join(key for key, method in PEFT_METHODS.items() if not method.temporal)
        raise ValueError(
            f'adapters {name!r} mix the frames of a window inside the backbone, but a stream '
            f'encodes each frame once; these stream: {streaming}'
        )


def save_adapters(folder: Path, backbone: Backbone) -> AdaptersSpec | None:
    """Write the adapters of a backbone; return their description for `bundle.yaml`.

    Args:
        folder: Folder of the bundle.
        backbone: The backbone; without adapters nothing is written and None is returned.
    """
    if backbone.adapters is None:
        return None
    name, options = backbone.adapters
    tensors = {key: value.contiguous().cpu() for key, value in adapter_state(backbone).items()}
    (folder / ADAPTERS_FILE).write_bytes(save(tensors))
    digest = file_digest(folder / ADAPTERS_FILE)
    return AdaptersSpec(name=name, options=options, digest=digest)


def load_adapters(folder: Path, backbone: Backbone, spec: AdaptersSpec, *, frames: int) -> None:
    """Insert adapters into a backbone, load their weights and freeze them.

    Args:
        folder: Folder of the bundle.
        backbone: The backbone without adapters.
        spec: Description of the adapters in `bundle.yaml`.
        frames: Frames in a window (T).

    Raises:
        BundleError: The method or an option is unknown, or the weights do not fit.
    """
    path = folder / spec.weights
    try:
        refuse_temporal(spec.name)
        # The loaded weights replace the random ones: keep the program's random state.
        with torch.random.fork_rng(devices=[]):
            insert_adapters(backbone, spec.name, frames=frames, **spec.options)
    except (TypeError, ValueError) as error:
        raise BundleError(folder / 'bundle.yaml', 'backbone.adapters', str(error)) from error
    try:
        load_adapter_state(
            backbone, read_tensors(path, digest=spec.digest, field='backbone.adapters')
        )
    except ValueError as error:
        raise BundleError(path, '', str(error)) from error
    backbone.requires_grad_(False)
