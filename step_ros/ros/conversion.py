# SPDX-License-Identifier: Apache-2.0
"""Convert stamps, hypotheses, events and bundles to ROS messages, and names to topics."""

import time
from typing import TYPE_CHECKING

from builtin_interfaces.msg import Duration, Time
from rclpy.exceptions import InvalidTopicNameException
from rclpy.validate_topic_name import validate_topic_name

from step_ros.msg import ActionEvent, ActionHypothesis, ModelInfo, TaskHypothesis, TaskInfo
from step_ros.streaming.grid import NANOSECONDS

if TYPE_CHECKING:
    from step_ros.encoders.base import Encoder
    from step_ros.model.bundle import Bundle
    from step_ros.streaming.hypothesis import Hypothesis
    from step_ros.streaming.postprocessing.events import Event


def to_time(stamp_ns: int) -> Time:
    """Return nanoseconds as a ROS time."""
    return Time(sec=stamp_ns // NANOSECONDS, nanosec=stamp_ns % NANOSECONDS)


def to_duration(nanoseconds: int) -> Duration:
    """Return nanoseconds as a ROS duration."""
    return Duration(sec=nanoseconds // NANOSECONDS, nanosec=nanoseconds % NANOSECONDS)


def to_nanoseconds(time_or_duration: Time | Duration) -> int:
    """Return a ROS time or duration in nanoseconds."""
    return int(time_or_duration.sec) * NANOSECONDS + int(time_or_duration.nanosec)


def hypothesis_message(hypothesis: 'Hypothesis', *, model_id: str, top_k: int) -> ActionHypothesis:
    """Return a hypothesis as a message. Its latency is measured now: publish it at once."""
    message = ActionHypothesis(
        window_start=to_time(hypothesis.window_start_ns),
        camera=hypothesis.camera,
        model_id=model_id,
    )
    message.header.stamp = to_time(hypothesis.stamp_ns)
    message.header.frame_id = hypothesis.frame_id
    for task in hypothesis.tasks:
        top = task.top(top_k)
        message.tasks.append(
            TaskHypothesis(
                task=task.spec.name,
                labels=[label for label, _ in top],
                scores=[score for _, score in top],
                counterpart=task.counterpart,
                counterpart_score=task.score_of(task.counterpart),
                order_evidence=task.order_evidence,
            )
        )
    message.latency = to_duration(time.monotonic_ns() - hypothesis.received_ns)
    return message


def event_message(event: 'Event') -> ActionEvent:
    """Return an event as a message."""
    message = ActionEvent(
        camera=event.camera,
        type=int(event.type),
        task=event.task,
        label=event.label,
        start_stamp=to_time(event.start_ns),
        score=event.score,
        order_evidence=event.order_evidence,
    )
    message.header.stamp = to_time(event.stamp_ns)
    message.header.frame_id = event.frame_id
    return message


def model_info_message(
    bundle: 'Bundle', encoder: 'Encoder', *, model_id: str, stamp_ns: int
) -> ModelInfo:
    """Return the tasks of a bundle, and the runtime of its encoder, as a message."""
    spec = bundle.spec
    return ModelInfo(
        stamp=to_time(stamp_ns),
        model_id=model_id,
        backbone=spec.backbone.name,
        tasks=[
            TaskInfo(
                task=task.name,
                labels=list(task.labels),
                counterparts=[task.counterparts.get(label, '') for label in task.labels],
            )
            for task in spec.tasks
        ],
        frames=spec.frames,
        frame_period=to_duration(round(spec.frame_period * NANOSECONDS)),
        image_width=spec.image.width,
        image_height=spec.image.height,
        device=str(encoder.device),
        runtime=encoder.description,
    )


def topic_part(name: str) -> str:
    """Return a name as part of a topic: each character that ROS does not allow becomes `_`."""
    part = ''.join(char if char.isascii() and char.isalnum() else '_' for char in name)
    return part if part[:1].isalpha() else f'_{part}'


def check_topic(parameter: str, topic: str) -> None:
    """Check that a topic's name is valid.

    Args:
        parameter: Name of the parameter that holds it, for the error message.
        topic: The topic.

    Raises:
        ValueError: The name is not valid.
    """
    try:
        validate_topic_name(topic)
    except InvalidTopicNameException as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f'parameter {parameter}: {topic!r}: {reason}') from error
