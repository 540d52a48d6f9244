"""Fixtures for the tests of `step_ros.stream`."""

from collections import namedtuple

import numpy as np
import pytest
import torch

from step_ros.model.step import StepHead
from step_ros.stream.encoder import TorchEncoder, choose_device
from step_ros.stream.frame import Frame
from step_ros.stream.grid import GridSettings, Placement
from step_ros.stream.preprocess import fit_image
from step_ros.stream.recogniser import StreamingRecogniser

MS = 1_000_000
PERIOD = 100 * MS  # of the tiny bundle
FRAMES = 4
START = 1_700_000_000_000_000_000

GRID_PERIOD = 1000
NEVER = 10**15

Expected = namedtuple('Expected', 'camera frame clip start_ns')


# ---- encoders and films


class CountingEncoder:
    """An encoder that keeps the images of each call."""

    def __init__(self, backbone):
        self._encoder = TorchEncoder(backbone, device=choose_device('cpu'))
        self.device = self._encoder.device
        self.calls = []

    @property
    def images(self):
        """All images, in the order in which they came."""
        return [image for images in self.calls for image in images]

    def encode(self, images):
        self.calls.append(list(images))
        return self._encoder.encode(images)


class Film:
    """Frames with random pixels of their own, and a record of which ones were looked at."""

    def __init__(self, *, seed=0, size=(32, 48)):
        self._random = np.random.default_rng(seed)
        self._size = size
        self.loaded = []

    def frame(self, stamp_ns, *, camera='front', broken=None, **about):
        """Make a frame; `broken` is what `load` raises."""
        image = self._random.integers(0, 256, (*self._size, 3), dtype=np.uint8)

        def load():
            self.loaded.append((camera, stamp_ns))
            if broken is not None:
                raise broken
            return image

        return Frame(camera=camera, stamp_ns=stamp_ns, load=load, **about)

    def steady(self, count, *, start=START, interval=PERIOD, **about):
        """Make frames at a steady rate."""
        return [self.frame(start + index * interval, **about) for index in range(count)]


@pytest.fixture
def counting_encoder(tiny_bundle):
    """Run the backbone of `tiny_bundle` and keep what it was given."""
    return CountingEncoder(tiny_bundle.model.backbone)


@pytest.fixture
def film():
    """Make frames: `film.frame(stamp_ns, camera=..., broken=...)`."""
    return Film()


@pytest.fixture(scope='session')
def make_film():
    """Make films: `make_film(seed=..., size=...)`."""
    return Film


# ---- what should come out, worked out from the whole stream


def _expected_windows(frames, *, broken=()):
    """Say which hypotheses a stream gives, and which frames are looked at.

    Time is walked along slot by slot, apart from the code under test. `broken` holds the stamps of
    frames that cannot be read.
    """
    windows, looked_at, state = [], [], {}
    for frame in frames:
        newest, slot_begin, clip = state.get(frame.camera, (None, None, []))
        stamp = frame.stamp_ns
        if clip and newest - 1_000 * MS <= stamp <= newest:
            continue  # late, or there before
        fresh = not clip or stamp < newest or stamp - clip[-1].stamp_ns > 2.5 * PERIOD
        if not fresh and stamp < slot_begin + PERIOD:
            state[frame.camera] = (stamp, slot_begin, clip)  # the slot has its frame
            continue
        looked_at.append((frame.camera, stamp))
        if (frame.camera, stamp) in broken:
            continue
        if fresh:
            slot_begin, clip = stamp - PERIOD // 10, []
        while slot_begin + PERIOD <= stamp:
            slot_begin += PERIOD
        clip = [*clip, frame]
        state[frame.camera] = (stamp, slot_begin, clip)
        if len(clip) >= FRAMES:
            window = clip[-FRAMES:]
            windows.append(Expected(frame.camera, frame, window, window[0].stamp_ns))
    return windows, looked_at


def _whole_clip_answers(bundle, clips):
    """Evaluate clips of frames as a whole: probabilities of each task, `[b, k]`."""
    backbone = bundle.model.backbone
    mean, std = (np.reshape(each, (3, 1, 1)) for each in (backbone.mean, backbone.std))
    x_bt3hw = np.stack(
        [
            [
                (fit_image(frame.load(), backbone.image_size).transpose(2, 0, 1) / 255 - mean)
                / std
                for frame in clip
            ]
            for clip in clips
        ]
    )
    with torch.inference_mode():
        logits = bundle.model(torch.from_numpy(x_bt3hw).float())
    return {
        spec.name: (logits[spec.name].double() / spec.temperature).softmax(dim=-1).numpy()
        for spec in bundle.spec.tasks
    }


def _divergence(p_bk, q_bk):
    m_bk = (p_bk + q_bk) / 2
    return ((p_bk * np.log2(p_bk / m_bk) + q_bk * np.log2(q_bk / m_bk)) / 2).sum(axis=1)


def _assert_equals_whole_clips(bundle, hypotheses, windows):
    """Compare every hypothesis with the evaluation of its window as a whole clip."""
    assert [(each.camera, each.stamp_ns, each.window_start_ns) for each in hypotheses] == [
        (each.camera, each.frame.stamp_ns, each.start_ns) for each in windows
    ]
    answers = _whole_clip_answers(bundle, [each.clip for each in windows])
    backwards = _whole_clip_answers(bundle, [each.clip[::-1] for each in windows])
    for index, spec in enumerate(bundle.spec.tasks):
        tasks = [each.tasks[index] for each in hypotheses]
        assert all(task.spec == spec for task in tasks)
        scores_bk = np.stack([task.scores_k for task in tasks])
        np.testing.assert_allclose(scores_bk, answers[spec.name], rtol=0, atol=1e-4)
        np.testing.assert_allclose(
            [task.order_evidence for task in tasks],
            _divergence(answers[spec.name], backwards[spec.name]),
            rtol=0,
            atol=1e-4,
        )


@pytest.fixture(scope='session')
def expected_hypothesis():
    """Say what is expected: `expected_hypothesis(camera, frame, clip, start_ns)`."""
    return Expected


@pytest.fixture(scope='session')
def expected_windows():
    """Say which hypotheses come and what is looked at: `expected_windows(frames, broken=())`."""
    return _expected_windows


@pytest.fixture(scope='session')
def whole_clip_answers():
    """Evaluate clips of frames as a whole: `whole_clip_answers(bundle, clips)`."""
    return _whole_clip_answers


@pytest.fixture(scope='session')
def assert_equals_whole_clips():
    """Compare with whole clips: `assert_equals_whole_clips(bundle, hypotheses, windows)`."""
    return _assert_equals_whole_clips


# ---- streams


def _random_stamps(random, count):
    """Make the stamps of a camera that changes its rate, jitters, pauses, loops and repeats."""
    stamps, stamp, interval = [], START + int(random.integers(0, 500)) * MS, 33 * MS
    for _ in range(count):
        chance = random.random()
        if chance < 0.05:
            interval = int(random.choice([8, 16, 33, 40, 66, 100, 130]) * MS)
        if chance > 0.98:
            stamp += int(random.integers(100, 700)) * MS  # a gap, long or short
        elif chance > 0.975:
            stamp -= int(random.integers(1_500, 3_000)) * MS  # time jumps back
        else:
            stamp += int(interval * random.uniform(0.7, 1.3))
        stamps.append(stamp)
        if random.random() < 0.02:
            stamps.append(stamp)  # again
        if random.random() < 0.02 and len(stamps) > 2:
            stamps[-1], stamps[-2] = stamps[-2], stamps[-1]  # late
    return stamps


def _batches(random, frames, *, most=9):
    """Cut frames into batches at random."""
    frames = list(frames)
    while frames:
        size = int(random.integers(1, most + 1))
        yield frames[:size]
        frames = frames[size:]


@pytest.fixture(scope='session')
def random_stamps():
    """Make the stamps of a restless camera: `random_stamps(random, count)`."""
    return _random_stamps


@pytest.fixture(scope='session')
def batches():
    """Cut frames into batches at random: `batches(random, frames, most=9)`."""
    return _batches


@pytest.fixture
def recogniser(tiny_bundle, counting_encoder):
    """Recognise with `tiny_bundle` and count what is encoded."""
    return StreamingRecogniser(tiny_bundle, counting_encoder)


# ---- heads


def _make_heads(*, tasks=2, tokens=5, frames=3, std=0.3, seed=0, **options):
    """Make heads with random weights; their scores grow with the square of `std`."""
    options = {'width': 12, 'classes': 4, 'attention_heads': 2, **options}
    heads = {
        f'task{index}': StepHead(frames=frames, tokens=tokens, **options).eval()
        for index in range(tasks)
    }
    generator = torch.Generator().manual_seed(seed)
    for head in heads.values():
        for parameter in head.parameters():
            parameter.data.normal_(std=std, generator=generator)
    return heads


@pytest.fixture(scope='session')
def make_heads():
    """Make heads that can be taken apart, by task: `make_heads(tasks=2, std=0.3, **options)`."""
    return _make_heads


# ---- the grid


def _grid_settings(**changes):
    return GridSettings(
        **{'frame_period_ns': GRID_PERIOD, 'max_gap_ns': NEVER, 'jump_ns': NEVER, **changes}
    )


def _feed(grid, stamps, *, keep=4):
    """Give stamps to a grid; return what became of each."""
    placements = []
    for stamp in stamps:
        placement, slot = grid.place(stamp)
        if placement is not Placement.LATE:
            grid.commit(placement, slot, stamp, keep=keep)
        placements.append(placement)
    return placements


@pytest.fixture(scope='session')
def grid_settings():
    """Make settings with a period of 1000 ns and no limits: `grid_settings(**changes)`."""
    return _grid_settings


@pytest.fixture(scope='session')
def feed():
    """Give stamps to a grid: `feed(grid, stamps, keep=4)` says what became of each."""
    return _feed
