"""A model bundle: a folder with `bundle.yaml`, `heads.safetensors`, maybe backbone weights."""

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

# ---- Files of a bundle: what is wrong with them, and what is in them.

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


# ---- Adapters of a backbone in a bundle: saved beside the heads, put back when it is loaded.

ADAPTERS_FILE = 'adapters.safetensors'


def refuse_temporal(name: str) -> None:
    """Refuse adapters through which a frame's tokens depend on other frames.

    Raises:
        ValueError: They are such.
    """
    if name in PEFT_METHODS and PEFT_METHODS[name].temporal:
        streaming = ', '.join(key for key, method in PEFT_METHODS.items() if not method.temporal)
        raise ValueError(
            f'adapters {name!r} mix the frames of a window inside the backbone, but a stream '
            f'encodes each frame once; these stream: {streaming}'
        )


def save_adapters(folder: Path, backbone: Backbone) -> AdaptersSpec | None:
    """Write what was inserted into a backbone; return how `bundle.yaml` describes it."""
    if backbone.adapters is None:
        return None
    name, options = backbone.adapters
    tensors = {key: value.contiguous().cpu() for key, value in adapter_state(backbone).items()}
    (folder / ADAPTERS_FILE).write_bytes(save(tensors))
    digest = file_digest(folder / ADAPTERS_FILE)
    return AdaptersSpec(name=name, options=options, digest=digest)


def load_adapters(folder: Path, backbone: Backbone, spec: AdaptersSpec, *, frames: int) -> None:
    """Insert adapters into a backbone and load their weights; they no longer train.

    Raises:
        BundleError: The method or an option is unknown, or the weights do not fit.
    """
    path = folder / spec.weights
    try:
        refuse_temporal(spec.name)
        # What the weights replace at once must not use up the program's random numbers.
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
