"""Fixtures for the tests of `step_ros.stream`."""

import numpy as np
import pytest

from step_ros.stream.encoder import TorchEncoder, choose_device
from step_ros.stream.frame import Frame


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
