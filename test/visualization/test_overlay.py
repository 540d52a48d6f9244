# SPDX-License-Identifier: Apache-2.0
"""The overlay shows the hypothesis and the events, in drawings of one size."""

from dataclasses import replace

import numpy as np
import pytest

from step_ros.model.bundle_schema import TaskSpec
from step_ros.streaming.hypothesis import Hypothesis, TaskHypothesis
from step_ros.streaming.postprocessing.events import Event, EventType
from step_ros.visualization.attention_map import NewestAttention
from step_ros.visualization.overlay import Overlay

S = 1_000_000_000
ACTION = TaskSpec(
    name='action',
    labels=('pick up screwdriver', 'lay down screwdriver', 'wave'),
    counterparts={
        'pick up screwdriver': 'lay down screwdriver',
        'lay down screwdriver': 'pick up screwdriver',
    },
)
OBJECT = TaskSpec(name='object', labels=('screwdriver', 'cup', 'box'), counterparts={})
# The panel's colours.
BEST, COUNTERPART, ORDER = (38, 98, 168), (150, 92, 18), (139, 96, 212)
OPEN, ENDED = (28, 138, 84), (58, 92, 82)


def hypothesis_of(scores, *, second=10.0, order=0.5, spec=ACTION):
    task = TaskHypothesis(spec=spec, scores_k=np.array(scores), order_evidence=order)
    stamp_ns = round(second * S)
    return Hypothesis(
        camera='front',
        frame_id='',
        stamp_ns=stamp_ns,
        window_start_ns=stamp_ns - S,
        received_ns=0,
        tasks=(task,),
    )


def event(kind, start, stamp=None, label='wave'):
    return Event(
        camera='front',
        frame_id='',
        task='action',
        label=label,
        type=kind,
        stamp_ns=round((start if stamp is None else stamp) * S),
        start_ns=round(start * S),
        score=0.9,
        order_evidence=0.5,
    )


def frame(width=640, height=480):
    return np.full((height, width, 3), 100, np.uint8)


def drawn_width(image, colour):
    """Return the widest row of pixels of one colour."""
    return int((image == colour).all(axis=2).sum(axis=1).max())


def panel(drawn, height=480):
    return drawn[height:]


def test_bars_are_as_long_as_scores_and_order_evidence():
    overlay = Overlay('front', [ACTION])
    room = 640 - 16
    for best, other, order in [(0.6, 0.3, 0.5), (0.9, 0.05, 1.0), (0.5, 0.5, 0.0)]:
        overlay.update(hypothesis_of([best, other, 1 - best - other], order=order))
        drawn = overlay.draw(frame())
        # Text lies over the middle of a bar, not over its upper edge.
        assert drawn_width(drawn, BEST) == pytest.approx(room * best, abs=1)
        assert drawn_width(drawn, COUNTERPART) == pytest.approx(room * other, abs=1)
        assert drawn_width(drawn, ORDER) == pytest.approx(34 * order, abs=1)


def test_label_without_counterpart_has_no_such_bar():
    overlay = Overlay('front', [ACTION])
    overlay.update(hypothesis_of([0.1, 0.1, 0.8]))
    drawn = overlay.draw(frame())
    assert drawn_width(drawn, BEST) > 0
    assert drawn_width(drawn, COUNTERPART) == 0


def test_missing_order_evidence_is_omitted():
    overlay = Overlay('front', [ACTION])
    overlay.update(hypothesis_of([0.8, 0.1, 0.1], order=float('nan')))
    assert drawn_width(overlay.draw(frame()), ORDER) == 0


@pytest.mark.parametrize(
    'size', [(320, 240), (640, 480), (640, 360), (1280, 720), (1920, 1080), (480, 640), (641, 481)]
)
@pytest.mark.parametrize('tasks', [1, 2, 3, 5])
def test_drawings_have_one_size_and_keep_the_frame(size, tasks):
    specs = [ACTION.model_copy(update={'name': f'task {n}'}) for n in range(tasks)]
    overlay = Overlay('front', specs)
    image = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    empty = overlay.draw(image)
    overlay.update(hypothesis_of([0.8, 0.1, 0.1], spec=specs[0]), [event(EventType.START, 9)])
    full = overlay.draw(image, stamp_ns=10 * S)
    assert empty.shape == full.shape
    assert full.shape[0] % 2 == full.shape[1] % 2 == 0
    assert full.shape[1] >= 640
    if size[0] >= 640:
        assert np.array_equal(full[: size[1], : size[0]], image)
    assert (image == np.random.default_rng(0).integers(0, 255, image.shape, dtype=np.uint8)).all()


@pytest.mark.parametrize('size', [(640, 480), (1280, 720), (1920, 1080)])
def test_panel_grows_with_the_image(size):
    overlay = Overlay('front', [ACTION])
    overlay.update(hypothesis_of([0.6, 0.3, 0.1]))
    below = panel(overlay.draw(frame(*size)), size[1])
    bars = (below == BEST).all(axis=2).any(axis=1).sum()
    assert bars == pytest.approx(16 * size[1] / 480, abs=1.5)


def test_long_labels_fit_beside_their_scores():
    specs = [ACTION.model_copy(update={'name': f'task {n}'}) for n in range(3)]
    overlay = Overlay('front', specs)
    long = replace(hypothesis_of([0.1, 0.9, 0.0]).tasks[0], spec=specs[1])
    overlay.update(replace(hypothesis_of([0.1, 0.9, 0.0]), tasks=(long,)))
    row = panel(overlay.draw(frame()))[42:58, 219:419]
    written = (row > 150).all(axis=2).any(axis=0)
    gaps = np.diff(np.flatnonzero(written))
    assert gaps.max() >= 15  # between the whole label and the score
    assert np.flatnonzero(written)[0] < 10


# Time


def test_timeline_shows_open_and_ended_events():
    overlay = Overlay('front', [ACTION], timeline=20.0)
    lane = 640 - 16 - 58
    overlay.update(hypothesis_of([0.1, 0.1, 0.8], second=10), [event(EventType.START, 8)])
    drawn = overlay.draw(frame())
    assert drawn_width(drawn, OPEN) == pytest.approx(lane * 2 / 20, abs=3)
    assert drawn_width(drawn, ENDED) == 0
    overlay.update(hypothesis_of([0.8, 0.1, 0.1], second=12), [event(EventType.END, 8, 11)])
    drawn = overlay.draw(frame())
    assert drawn_width(drawn, OPEN) == 0
    assert drawn_width(drawn, ENDED) == pytest.approx(lane * 3 / 20, abs=3)
    overlay.update(hypothesis_of([0.8, 0.1, 0.1], second=40))
    assert drawn_width(overlay.draw(frame()), ENDED) == 0


def test_events_may_come_without_a_hypothesis():
    overlay = Overlay('front', [ACTION])
    overlay.update(hypothesis_of([0.1, 0.1, 0.8], second=10), [event(EventType.START, 8)])
    overlay.add_events([event(EventType.END, 8, 10)])
    assert drawn_width(overlay.draw(frame()), OPEN) == 0


def test_older_hypothesis_resets_the_overlay():
    overlay = Overlay('front', [ACTION])
    overlay.update(hypothesis_of([0.1, 0.1, 0.8], second=100), [event(EventType.START, 95)])
    # The clock jumps back: the open event ends at a stamp later than the new hypothesis.
    overlay.update(hypothesis_of([0.1, 0.1, 0.8], second=99.9), [event(EventType.END, 95, 100)])
    other = Overlay('front', [ACTION])
    other.update(hypothesis_of([0.1, 0.1, 0.8], second=99.9))
    assert np.array_equal(overlay.draw(frame()), other.draw(frame()))


def test_only_a_much_older_frame_resets_the_overlay():
    overlay = Overlay('front', [ACTION])
    overlay.update(hypothesis_of([0.6, 0.3, 0.1], second=100))
    assert drawn_width(overlay.draw(frame(), stamp_ns=round(99.8 * S)), BEST) > 0
    drawn = overlay.draw(frame(), stamp_ns=5 * S)
    assert np.array_equal(drawn, Overlay('front', [ACTION]).draw(frame(), stamp_ns=5 * S))


def test_old_hypothesis_is_grey():
    overlay = Overlay('front', [ACTION])
    overlay.update(hypothesis_of([0.6, 0.3, 0.1], second=10))
    assert drawn_width(overlay.draw(frame(), stamp_ns=11 * S), BEST) > 0
    assert drawn_width(overlay.draw(frame(), stamp_ns=12 * S), BEST) == 0


def test_drawing_is_repeatable():
    overlay = Overlay('front', [ACTION, OBJECT])
    overlay.update(
        hypothesis_of([0.6, 0.3, 0.1]), [event(EventType.START, 9)], latency_ns=12_000_000
    )
    assert np.array_equal(overlay.draw(frame()), overlay.draw(frame()))


# The part that the encoder sees


def test_unseen_part_of_the_frame_is_dimmed():
    drawn = Overlay('front', [ACTION]).draw(frame(), seen=(40, 80, 300, 400))
    assert (drawn[40:340, 80:480] == 100).all()
    assert (drawn[:40] == 50).all()
    assert (drawn[:480, 480:] == 50).all()


def test_heat_map_covers_the_seen_part_alone():
    weights = np.zeros((6, 8))
    weights[5, 7] = 0.5
    attention = NewestAttention(task='action', weights_rc=weights, even=0.01)
    drawn = Overlay('front', [ACTION]).draw(frame(), seen=(40, 80, 300, 400), attention=attention)
    assert (drawn[340:480] == 50).all()
    assert (drawn[40:240, 80:380] == 100).all()
    assert (drawn[330, 470] != 100).any()


def test_even_attention_draws_nothing():
    even = NewestAttention(task='action', weights_rc=np.full((6, 8), 0.01), even=0.01)
    drawn = Overlay('front', [ACTION]).draw(frame(), attention=even)
    assert (drawn[:480] == 100).all()


@pytest.mark.parametrize(
    ('options', 'why'),
    [
        ({'tasks': []}, 'no task'),
        ({'tasks': [ACTION], 'top_k': 0}, 'top_k=0'),
        ({'tasks': [ACTION], 'timeline': 0.0}, r'timeline=0\.0'),
    ],
)
def test_invalid_options_are_refused(options, why):
    with pytest.raises(ValueError, match=why):
        Overlay('front', **options)
