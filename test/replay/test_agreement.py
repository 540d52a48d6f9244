# SPDX-License-Identifier: Apache-2.0
"""Agreement of a node's output with the replay, and the causes that explain differences."""

import math
from dataclasses import replace

import numpy as np
import pytest

from step_ros.evaluation.events import TimedEvent
from step_ros.model.bundle_schema import TaskSpec
from step_ros.replay.agreement import (
    NOT_RECEIVED,
    START,
    Loss,
    RecordingAgreement,
    compare,
    find_losses,
)
from step_ros.replay.agreement_report import agreement_section, agreement_summary
from step_ros.replay.node_output import FrameTally, NodeOutput, OnlineEvent, OnlineHypothesis
from step_ros.replay.results import CameraPredictions
from step_ros.streaming.postprocessing.events import Event, EventType

TASK = TaskSpec(name='action', labels=('idle', 'push'), counterparts={})
CAMERA, SECOND = '/camera/image_raw', 10**9
COUNT = 10


def offline():
    """Return the predictions of a replay, one a second from 4 s to 13 s."""
    push_h = np.linspace(0.1, 0.9, COUNT)
    event = Event(
        camera=CAMERA,
        frame_id='',
        task='action',
        label='push',
        type=EventType.START,
        stamp_ns=9 * SECOND,
        start_ns=9 * SECOND,
        score=0.6,
        order_evidence=0.5,
    )
    return CameraPredictions(
        topic=CAMERA,
        first_ns=1 * SECOND,
        last_ns=13 * SECOND,
        counts={'received': 13, 'late': 1},
        stamps_ns_h=np.arange(4, 4 + COUNT) * SECOND,
        starts_ns_h=np.arange(1, 1 + COUNT) * SECOND,
        scores_hk={'action': np.stack([1 - push_h, push_h], axis=1)},
        order_evidence_h={'action': np.full(COUNT, 0.5)},
        events=(TimedEvent(event=event, published_ns=10 * SECOND),),
    )


def tally(newest_s, *, received, waiting=0, **lost):
    return FrameTally(newest_ns=newest_s * SECOND, received=received, waiting=waiting, lost=lost)


def online(predictions, tallies=None):
    """Return output of a node that agrees with the predictions."""
    return NodeOutput(
        model_id='some@1',
        hypotheses=[
            OnlineHypothesis(
                camera=CAMERA,
                stamp_ns=int(predictions.stamps_ns_h[place]),
                window_start_ns=int(predictions.starts_ns_h[place]),
                scores={
                    'action': {
                        label: float(np.float32(score))
                        for label, score in zip(
                            TASK.labels, predictions.scores_hk['action'][place], strict=True
                        )
                    }
                },
                order_evidence={'action': float(predictions.order_evidence_h['action'][place])},
            )
            for place in range(COUNT)
        ],
        events=[
            OnlineEvent(
                camera=CAMERA,
                type=int(timed.event.type),
                task=timed.event.task,
                label=timed.event.label,
                stamp_ns=timed.event.stamp_ns,
                start_ns=timed.event.start_ns,
                score=timed.event.score,
            )
            for timed in predictions.events
        ],
        tallies={CAMERA: tallies or [tally(7, received=7), tally(13, received=13, late=1)]},
    )


def with_score(output, place, score):
    """Return output in which one hypothesis has another score."""
    hypotheses = list(output.hypotheses)
    scores = {'action': {'idle': 1 - score, 'push': score}}
    hypotheses[place] = replace(hypotheses[place], scores=scores)
    return replace(output, hypotheses=hypotheses)


def without(output, *places):
    """Return output in which some hypotheses are missing."""
    hypotheses = [each for place, each in enumerate(output.hypotheses) if place not in places]
    return replace(output, hypotheses=hypotheses)


def test_scores_equal_up_to_rounding_agree():
    found = compare(offline(), [TASK], online(offline()))
    assert found.agrees
    assert (found.both, found.offline, found.online, found.events) == (COUNT, COUNT, COUNT, 1)
    assert 0 < found.greatest_score < 1e-7
    # The replay drops the late frame, too, so it is no loss.
    assert (found.losses, found.differences) == ([], [])


def test_different_score_without_loss_disagrees():
    found = compare(offline(), [TASK], with_score(online(offline()), 3, 0.2))
    assert not found.agrees
    (different,) = found.different
    assert (different.stamp_ns, different.cause) == (7 * SECOND, '')
    assert different.score == found.greatest_score
    assert different.score == pytest.approx(0.1 + 0.8 / 3 - 0.2)


def test_unpublished_label_counts_as_greatest_difference():
    output = online(offline())
    first = replace(output.hypotheses[0], scores={'action': {'idle': 0.9}})
    found = compare(offline(), [TASK], replace(output, hypotheses=[first, *output.hypotheses[1:]]))
    assert found.greatest_score == 1.0
    assert not found.agrees


def test_missing_hypothesis_without_loss_disagrees():
    found = compare(offline(), [TASK], without(online(offline()), 0, 5))
    assert [each.cause for each in found.only_offline] == ['', '']
    assert not found.agrees


def test_frames_not_received_explain_a_late_start():
    output = online(offline(), [tally(7, received=4), tally(13, received=10, late=1)])
    found = compare(offline(), [TASK], without(output, 0, 1, 6))
    assert [each.cause for each in found.only_offline] == [START, START, NOT_RECEIVED]
    assert found.agrees


def test_loss_explains_only_later_differences():
    tallies = [tally(6, received=6), tally(9, received=9, overload=2), tally(13, received=13)]
    tallies[2] = replace(tallies[2], lost={'overload': 2, 'late': 1})
    output = without(online(offline(), tallies), 4, 5)
    found = compare(offline(), [TASK], output)
    assert [each.cause for each in found.only_offline] == ['overload', 'overload']
    assert found.agrees
    # Explained differences do not count; the other windows do.
    assert 0 < found.greatest_score < 1e-7
    assert not compare(offline(), [TASK], without(output, 0)).agrees
    # The window after the loss differs, so its events may differ, too.
    assert compare(offline(), [TASK], replace(with_score(output, 6, 0.1), events=[])).agrees


def test_loss_begins_at_the_last_empty_queue():
    tallies = [
        tally(2, received=2),
        tally(4, received=4, waiting=2),
        tally(6, received=6, waiting=1, overload=3),
        tally(8, received=8, overload=4),
    ]
    millisecond = SECOND // 1000
    assert find_losses(tallies, {}) == [
        Loss(cause='overload', count=3, from_ns=2 * SECOND - millisecond, to_ns=6 * SECOND),
        Loss(cause='overload', count=1, from_ns=2 * SECOND - millisecond, to_ns=8 * SECOND),
    ]


def test_duplicate_frame_is_no_loss():
    assert find_losses([tally(2, received=3, duplicate=1)], {}) == []


@pytest.mark.parametrize('change', [{'label': 'idle'}, {'stamp_ns': 8 * SECOND}, {'score': 0.7}])
def test_different_event_without_different_hypothesis_disagrees(change):
    output = online(offline())
    other = replace(output, events=[replace(output.events[0], **change)])
    assert not compare(offline(), [TASK], other).agrees
    assert not compare(offline(), [TASK], replace(output, events=[])).agrees


def test_order_evidence_missing_on_both_sides_agrees():
    predictions = replace(offline(), order_evidence_h={'action': np.full(COUNT, np.nan)})
    assert compare(predictions, [TASK], online(predictions)).agrees
    assert not compare(predictions, [TASK], online(offline())).agrees


def test_node_output_survives_its_file(tmp_path):
    output = online(offline())
    unknown = replace(output.hypotheses[0], order_evidence={'action': math.nan})
    output = replace(output, hypotheses=[unknown, *output.hypotheses[1:]])
    output.save(tmp_path / 'online.json')
    loaded = NodeOutput.load(tmp_path / 'online.json')
    assert loaded.hypotheses[1:] == output.hypotheses[1:]
    assert math.isnan(loaded.hypotheses[0].order_evidence['action'])
    assert (loaded.events, loaded.tallies) == (output.events, output.tallies)


@pytest.mark.parametrize('content', ['[]', '{"hypotheses": []}', 'hello', '{"hypotheses": [1]}'])
def test_file_with_other_content_is_refused(tmp_path, content):
    path = tmp_path / 'online.json'
    path.write_text(content)
    with pytest.raises(ValueError, match='expected a file that replay_recorder wrote'):
        NodeOutput.load(path)


def test_report_lists_differences_and_causes():
    tallies = [tally(6, received=6), tally(13, received=12, overload=2, late=1)]
    output = replace(without(online(offline(), tallies), 4, 5), events=[])
    found = compare(offline(), [TASK], with_score(output, 0, 0.5))
    one = RecordingAgreement(
        bag='monday', bundle='tiny', camera=CAMERA, first_ns=SECOND, found=found
    )
    text = '\n'.join(agreement_section([one]))
    for line in (
        'frames that never reached the node: 1',
        'dropped by the node: 2 overload, from 4.999 s to 12.000 s',
        f'only the replay has a hypothesis at 7.000 s, 8.000 s: {NOT_RECEIVED}, overload',
        f'scores or windows differ at 3.000 s: {NOT_RECEIVED}',
        'only the replay published START of action *push* at 8.000 s',
    ):
        assert line in text, text
    (line,) = agreement_summary([one])
    assert line.startswith('monday /camera/image_raw: node and replay agree on 8 hypotheses')
    assert '3 windows differ' in line
