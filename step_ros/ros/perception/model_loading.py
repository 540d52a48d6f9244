# SPDX-License-Identifier: Apache-2.0
"""Load the model of the perception node: cameras, bundle and encoder, warmed up.

Loading takes up to a quarter of a minute. `BackgroundLoading` does it in a thread of its own, so
that the executor goes on: services, parameters, diagnostics and Ctrl-C stay responsive.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from rclpy.task import Future

from step_ros.encoders.base import Encoder, EncoderError
from step_ros.encoders.factory import create_encoder
from step_ros.model.bundle import Bundle, BundleError, load_bundle
from step_ros.resources import find_bundle
from step_ros.ros.perception.image_input import Camera, choose_cameras
from step_ros.ros.perception.publishers import OutputSettings
from step_ros.streaming.frame_timer import FrameTimer
from step_ros.streaming.settings import StreamSettings
from step_ros.streaming.threads import start_encoder

# Errors that the user can mend by another parameter or file.
NOT_LOADED = (ValueError, FileNotFoundError, BundleError, EncoderError)


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model that is ready to recognise.

    Attributes:
        values: The node's parameters with which it was loaded.
        cameras: The cameras in these parameters.
        bundle: The bundle.
        encoder: Runs the bundle's backbone.
    """

    values: dict[str, Any]
    cameras: list[Camera]
    bundle: Bundle
    encoder: Encoder

    @property
    def model_id(self) -> str:
        """The bundle's id; the name of an encoder with other scores joins it."""
        return '+'.join(filter(None, (self.bundle.model_id, self.encoder.variant)))


def load_model(values: Mapping[str, Any], report: Callable[[str], None]) -> LoadedModel:
    """Load the bundle, start the encoder, and run it once so that no real window is late.

    Args:
        values: The node's parameters.
        report: Called at the start of each step, with its name.

    Raises:
        ValueError: The parameters contradict each other, or do not fit the bundle.
        FileNotFoundError: There is no such bundle.
        BundleError: The bundle is damaged.
        EncoderError: The encoder does not start.
    """
    cameras = choose_cameras(
        values['cameras'],
        values['image_topics'],
        values['transport'],
        grey_16uc1=values['grey_16uc1'],
    )
    report(f'1/3, loading the bundle {values["bundle"]}')
    bundle = load_bundle(find_bundle(values['bundle']))
    OutputSettings.from_values(dict(values)).check(bundle, [camera.name for camera in cameras])
    recognise = partial(StreamSettings.from_values(values).recogniser, bundle)
    report(f'2/3, starting the encoder (runtime {values["runtime"]}, device {values["device"]})')
    start = partial(
        create_encoder,
        bundle.model.backbone,
        runtime=values['runtime'],
        device=values['device'],
        precision=values['precision'],
        bundle=bundle.path,
    )
    encoder = start_encoder(values['threads'], start, recognise)
    report('3/3, warming up')
    FrameTimer(recognise(encoder)).run(bundle.spec.frames)
    return LoadedModel(values=dict(values), cameras=cameras, bundle=bundle, encoder=encoder)


class BackgroundLoading:
    """Loads a model in a thread of its own.

    Args:
        values: The node's parameters.
        log: Logs a line of text; called in the thread.
        done: Set, without a result, once the model is loaded or has failed. Its executor wakes.

    Attributes:
        done: The same.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        *,
        log: Callable[[str], object],
        done: 'Future[None]',
    ) -> None:
        self.done = done
        self._log, self._started = log, time.monotonic()
        self._step = 'starting'
        self._model: LoadedModel | None = None
        self._error: Exception | None = None
        thread = threading.Thread(
            target=self._load, args=(dict(values),), name='step_ros loading', daemon=True
        )
        thread.start()

    @property
    def progress(self) -> str:
        """The present step, and how long loading has taken so far, in words."""
        return f'{self._step}; {time.monotonic() - self._started:.0f} s so far'

    def take(self) -> LoadedModel:
        """Return the model, and keep no reference to it. Call it once, when `done` is set.

        Raises:
            Exception: The error that ended `load_model`.
        """
        model, error = self._model, self._error
        self._model = self._error = None
        if error is not None:
            raise error
        assert model is not None
        return model

    def _load(self, values: dict[str, Any]) -> None:
        try:
            self._model = load_model(values, self._report)
        except Exception as error:  # raised again by `take`, in the executor's thread
            self._error = error
        self.done.set_result(None)

    def _report(self, step: str) -> None:
        self._step = step
        self._log(f'configuring: {step}')
