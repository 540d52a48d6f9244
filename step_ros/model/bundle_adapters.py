"""Adapters of a backbone in a bundle: saved beside the heads, put back when it is loaded."""

from pathlib import Path

import torch
from safetensors.torch import save

from step_ros.model.backbone import Backbone
from step_ros.model.bundle_files import BundleError, read_tensors
from step_ros.model.bundle_schema import AdaptersSpec
from step_ros.model.peft import PEFT_METHODS, adapter_state, insert_adapters, load_adapter_state
from step_ros.model.weights import file_digest

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
