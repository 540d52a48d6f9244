# SPDX-License-Identifier: Apache-2.0
"""Fixtures for all tests: a tiny model, its bundle, and bags."""

import signal
import threading

import hypothesis
import numpy as np
import pytest
import torch

from step_ros.model.backbone import create_backbone
from step_ros.model.bundle import create_heads, save_bundle
from step_ros.model.bundle_schema import HeadsSpec, TaskSpec
from step_ros.model.multitask import MultiTaskModel

pytest_plugins = (
    'fixtures.ablations',
    'fixtures.backbones',
    'fixtures.datasets',
    'fixtures.markers',
    # Before the two that import it: pytest must see it first to rewrite its assertions.
    'fixtures.ros_graph',
    'fixtures.node_processes',
    'fixtures.perception',
    'fixtures.streams',
)

# A job in the background of a script inherits SIGINT as ignored. So would the programs to which
# tests send it.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples on every machine, and no time limit on a slow one.
hypothesis.settings.register_profile('step_ros', deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile('step_ros')

# The tensors are so small that more threads would only slow the tests down.
torch.set_num_threads(1)

TINY = 'vit_tiny_patch16_224'
TINY_ARGUMENTS = {'embed_dim': 32, 'depth': 1, 'num_heads': 2}
TINY_SIZE = (32, 48)
TASKS = (
    TaskSpec(
        name='action',
        labels=('idle', 'pick up', 'lay down', 'open', 'close'),
        counterparts={
            'pick up': 'lay down',
            'lay down': 'pick up',
            'open': 'close',
            'close': 'open',
        },
        temperature=1.5,
    ),
    TaskSpec(
        name='verb',
        labels=('rest', 'push', 'pull'),
        counterparts={'push': 'pull', 'pull': 'push'},
    ),
    TaskSpec(
        name='object',
        labels=('nothing', 'cup in', 'cup out', 'box'),
        counterparts={'cup in': 'cup out', 'cup out': 'cup in'},
        temperature=0.5,
    ),
)


def _create_tiny_model(
    *, head='step', positions='learnable', frames=4, options=None, token_grid=None
):
    backbone = create_backbone(
        TINY,
        weights='random',
        image_size=TINY_SIZE,
        token_grid=token_grid,
        arguments=TINY_ARGUMENTS,
    )
    spec = HeadsSpec(
        name=head,
        options=options
        or ({'attention_heads': 2, 'positions': positions} if head == 'step' else {}),
        digest='sha256:' + 64 * '0',
    )
    heads = create_heads(spec, TASKS, width=backbone.width, frames=frames, tokens=backbone.tokens)
    # The normalisation differs from timm's, and large weights make frames and their order matter.
    backbone.mean, backbone.std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    generator = torch.Generator().manual_seed(7)
    for parameter in torch.nn.ModuleDict(heads).parameters():
        parameter.data.normal_(std=0.25, generator=generator)
    return MultiTaskModel(backbone, heads).eval()


def _save_tiny_bundle(folder, model, **options):
    return save_bundle(
        folder,
        model,
        **{
            'name': 'tiny',
            'frame_period': 0.1,
            'tasks': TASKS,
            'backbone_arguments': TINY_ARGUMENTS,
            **options,
        },
    )


@pytest.fixture(scope='session')
def tiny_model():
    """Return a factory: `tiny_model(head='step', positions='learnable', frames=4)`."""
    return _create_tiny_model


@pytest.fixture(scope='session')
def save_tiny_bundle():
    """Return a function: `save_tiny_bundle(folder, model, **options of save_bundle)`."""
    return _save_tiny_bundle


@pytest.fixture(scope='session')
def tiny_bundle(tmp_path_factory):
    """Return a bundle of three tasks: T=4, 0.1 s, 32 x 48 px; its folder is `tiny_bundle.path`."""
    return _save_tiny_bundle(tmp_path_factory.mktemp('bundles') / 'tiny', _create_tiny_model())


@pytest.fixture(scope='session')
def orderless_bundle(tmp_path_factory):
    """Return a bundle like `tiny_bundle` whose heads do not see frame order."""
    return _save_tiny_bundle(
        tmp_path_factory.mktemp('bundles') / 'orderless', _create_tiny_model(positions='none')
    )


# ---- bags

BAG_ZERO_NS = 1_700_000_000 * 10**9
BAG_PERIOD_NS = 50_000_000


@pytest.fixture(scope='session')
def bag_image():
    """Return a function that gives the image of a test bag at a frame: `bag_image(number)`."""
    return lambda number: np.full((16, 24, 3), (5 * number, 255 - 5 * number, number), np.uint8)


@pytest.fixture(scope='session')
def put_bag(bag_image):
    """Return a function that writes a bag of 20 Hz cameras: `put_bag(path, '/camera', ...)`.

    A camera's name is its topic; images on topics that end in `compressed` are PNG. `labelled`
    holds tuples (start in seconds, end in seconds, {task: label}). They become events on
    `events_topic`.
    """
    from step_ros.io.bags.reader import END, START, BagEvent
    from step_ros.io.bags.writer import BagWriter

    def put(
        path,
        *cameras,
        storage='mcap',
        frames=12,
        labelled=(),
        events_topic='/camera/truth',
        frame_ids=None,
        event_frame_id='',
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        with BagWriter(path, storage) as writer:
            for number in range(frames):
                for late, topic in enumerate(cameras):
                    writer.image(
                        topic,
                        bag_image(number),
                        BAG_ZERO_NS + number * BAG_PERIOD_NS + late * 1000,
                        (frame_ids or {}).get(topic, 'optical'),
                        encoding='png' if topic.endswith('compressed') else 'rgb8',
                        log_ns=BAG_ZERO_NS + number * BAG_PERIOD_NS + 7_000_000,
                    )
            for start_s, end_s, labels in labelled:
                start_ns, end_ns = (BAG_ZERO_NS + round(s * 1e9) for s in (start_s, end_s))
                for kind, stamp_ns in ((START, start_ns), (END, end_ns)):
                    for task, label in labels.items():
                        event = BagEvent(
                            type=kind,
                            stamp_ns=stamp_ns,
                            start_ns=start_ns,
                            task=task,
                            label=label,
                            frame_id=event_frame_id,
                        )
                        writer.event(events_topic, event)
        return path

    return put
