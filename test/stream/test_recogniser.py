"""The streaming recogniser: equals the whole clip, and encodes each grid frame once."""

import math
from collections import Counter, namedtuple
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from step_ros.stream.encoder import TorchEncoder, choose_device
from step_ros.stream.frame import FrameError
from step_ros.stream.grid import grid_indices
from step_ros.stream.preprocess import fit_image
from step_ros.stream.recogniser import StreamingRecogniser

MS = 1_000_000
PERIOD = 100 * MS
FRAMES = 4
START = 1_700_000_000_000_000_000

Expected = namedtuple('Expected', 'camera frame clip start_ns')


# ---- what should come out, worked out from the whole stream


def expected_windows(frames, *, broken=()):
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


def whole_clip_answers(bundle, clips):
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


def divergence(p_bk, q_bk):
    m_bk = (p_bk + q_bk) / 2
    return ((p_bk * np.log2(p_bk / m_bk) + q_bk * np.log2(q_bk / m_bk)) / 2).sum(axis=1)


def assert_equals_whole_clips(bundle, hypotheses, windows):
    """Compare every hypothesis with the evaluation of its window as a whole clip."""
    assert [(each.camera, each.stamp_ns, each.window_start_ns) for each in hypotheses] == [
        (each.camera, each.frame.stamp_ns, each.start_ns) for each in windows
    ]
    answers = whole_clip_answers(bundle, [each.clip for each in windows])
    backwards = whole_clip_answers(bundle, [each.clip[::-1] for each in windows])
    for index, spec in enumerate(bundle.spec.tasks):
        tasks = [each.tasks[index] for each in hypotheses]
        assert all(task.spec == spec for task in tasks)
        scores_bk = np.stack([task.scores_k for task in tasks])
        np.testing.assert_allclose(scores_bk, answers[spec.name], rtol=0, atol=1e-4)
        np.testing.assert_allclose(
            [task.order_evidence for task in tasks],
            divergence(answers[spec.name], backwards[spec.name]),
            rtol=0,
            atol=1e-4,
        )


# ---- streams


def random_stamps(random, count):
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


def interleaved(random, streams):
    """Mix streams at random, each in its own order."""
    streams = [list(stream) for stream in streams]
    while any(streams):
        stream = streams[random.choice([i for i, each in enumerate(streams) if each])]
        yield stream.pop(0)


def batches(random, frames, *, most=9):
    """Cut frames into batches at random."""
    frames = list(frames)
    while frames:
        size = int(random.integers(1, most + 1))
        yield frames[:size]
        frames = frames[size:]


def steady(film, count, *, start=START, interval=PERIOD, **about):
    return [film.frame(start + index * interval, **about) for index in range(count)]


@pytest.fixture
def recogniser(tiny_bundle, counting_encoder):
    return StreamingRecogniser(tiny_bundle, counting_encoder)


# ---- the stream equals the whole clip


@pytest.mark.parametrize('seed', range(4))
def test_every_window_of_a_long_stream_equals_the_whole_clip(
    seed, tiny_bundle, counting_encoder, make_film
):
    random = np.random.default_rng(seed)
    front, side = make_film(seed=seed), make_film(seed=seed + 100, size=(80, 96))
    frames = list(
        interleaved(
            random,
            [
                [front.frame(stamp) for stamp in random_stamps(random, 250)],
                [side.frame(stamp, camera='side') for stamp in random_stamps(random, 200)],
            ],
        )
    )
    recogniser = StreamingRecogniser(tiny_bundle, counting_encoder)
    hypotheses, calls = [], 0
    for batch in batches(random, frames):
        hypotheses += recogniser.process(batch)
        calls += 1
        assert not recogniser.problems
    windows, looked_at = expected_windows(frames)
    assert Counter(each.camera for each in windows).keys() == {'front', 'side'}
    assert len(windows) > 50
    # Each grid frame is looked at once and encoded once; the others never are.
    assert Counter(front.loaded + side.loaded) == Counter(looked_at)
    assert len(counting_encoder.images) == len(looked_at)
    assert len({image.tobytes() for image in counting_encoder.images}) == len(looked_at)
    assert len(counting_encoder.calls) <= calls
    assert_equals_whole_clips(tiny_bundle, _in_order(hypotheses), _in_order(windows))
    for camera, stream in recogniser.cameras.items():
        received = sum(frame.camera == camera for frame in frames)
        assert stream.counts['received'] == received
        placed = set(stream.counts) - {'received', 'missed_slots'}
        assert sum(stream.counts[word] for word in placed) == received
        assert {'start', 'gap', 'jump', 'new', 'off_grid', 'duplicate', 'late'} >= placed


def _in_order(results):
    """Sort by camera alone: a batch may mix cameras, but each must keep its order."""
    return sorted(results, key=lambda each: each.camera)


def test_these_windows_would_show_a_mistake(tiny_bundle, film):
    # A frame too many, or two that changed places, weigh far more than the tolerance of 1e-4.
    clip = steady(film, FRAMES + 1)
    wrong = [clip[1:], [clip[1], clip[0], *clip[2:FRAMES]], [clip[0], clip[0], *clip[2:FRAMES]]]
    right = whole_clip_answers(tiny_bundle, [clip[:FRAMES]])
    for answers in (whole_clip_answers(tiny_bundle, [each]) for each in wrong):
        assert max(np.abs(answers[task] - right[task]).max() for task in right) > 1e-2


@pytest.mark.parametrize('seed', range(3))
def test_frames_out_of_order_take_their_places(seed, tiny_bundle, counting_encoder, make_film):
    random = np.random.default_rng(seed)
    film = make_film(seed=seed)
    stamps = START + np.cumsum(random.integers(20, 110, size=200)) * MS
    delays = np.concatenate([[0], random.integers(0, 250, size=199)]) * MS
    frames = [film.frame(int(stamp)) for stamp in stamps[np.argsort(stamps + delays)]]
    recogniser = StreamingRecogniser(
        tiny_bundle, counting_encoder, order_tolerance=0.25, max_gap=10.0
    )
    hypotheses = [each for batch in batches(random, frames) for each in recogniser.process(batch)]
    windows, newest_slot, chosen = [], -1, []
    for count in range(1, len(frames) + 1):
        arrived = sorted(frames[:count], key=lambda frame: frame.stamp_ns)
        indices = grid_indices([frame.stamp_ns for frame in arrived], frame_period_ns=PERIOD)
        chosen = [arrived[index] for index in indices]
        slot = (chosen[-1].stamp_ns - chosen[0].stamp_ns + PERIOD // 10) // PERIOD
        if slot > newest_slot and len(chosen) >= FRAMES:
            clip = chosen[-FRAMES:]
            windows.append(Expected('front', clip[-1], clip, clip[0].stamp_ns))
        newest_slot = max(slot, newest_slot)
    assert recogniser.cameras['front'].counts['reordered'] > 10
    assert_equals_whole_clips(tiny_bundle, hypotheses, windows)
    stamps = tuple(frame.stamp_ns for frame in chosen[-FRAMES:])
    assert recogniser.cameras['front'].window.stamps_ns == stamps


@settings(max_examples=15)
@given(data=st.data())
def test_how_the_stream_is_cut_into_batches_does_not_matter(tiny_bundle, make_film, data):
    film = make_film()
    frames = [
        frame
        for index in range(8)
        for frame in (
            film.frame(START + index * 60 * MS),
            film.frame(START + 7 * MS + index * 100 * MS, camera='side'),
        )
    ]
    encoder = TorchEncoder(tiny_bundle.model.backbone, device=choose_device('cpu'))
    whole = StreamingRecogniser(tiny_bundle, encoder).process(frames)
    recogniser, parts = StreamingRecogniser(tiny_bundle, encoder), []
    cuts = sorted(data.draw(st.sets(st.integers(0, len(frames)))))
    for begin, end in zip([0, *cuts], [*cuts, len(frames)], strict=True):
        parts += recogniser.process(frames[begin:end])
    assert len(whole) == len(parts) > 5
    for one, other in zip(whole, parts, strict=True):
        assert (one.camera, one.stamp_ns) == (other.camera, other.stamp_ns)
        for task, same in zip(one.tasks, other.tasks, strict=True):
            np.testing.assert_allclose(task.scores_k, same.scores_k, rtol=0, atol=1e-5)


def test_a_hypothesis_for_each_new_grid_frame_of_a_full_window(recogniser, film):
    frames = steady(film, 7, frame_id='lens', received_ns=12)
    given_back = [recogniser.process([frame]) for frame in frames]
    assert [len(hypotheses) for hypotheses in given_back] == [0, 0, 0, 1, 1, 1, 1]
    (hypothesis,) = given_back[4]
    assert (hypothesis.camera, hypothesis.frame_id) == ('front', 'lens')
    assert hypothesis.stamp_ns == START + 4 * PERIOD
    assert hypothesis.window_start_ns == START + PERIOD
    assert hypothesis.received_ns == 12
    assert [task.spec.name for task in hypothesis.tasks] == ['action', 'verb', 'object']
    assert recogniser.process([]) == []
    recogniser.process(frames[-1:])
    assert recogniser.cameras['front'].counts == {
        'received': 8,
        'start': 1,
        'new': 6,
        'missed_slots': 0,
        'duplicate': 1,
    }


# ---- each grid frame once


def test_a_batch_is_encoded_at_once_and_cameras_share_it(recogniser, counting_encoder, film):
    frames = [
        film.frame(START + slot * PERIOD, camera=camera)
        for slot in range(3)
        for camera in ('front', 'side', 'wrist')
    ]
    recogniser.process(frames)
    assert [len(images) for images in counting_encoder.calls] == [9]


def test_frames_off_the_grid_cost_nothing(recogniser, counting_encoder, film):
    recogniser.process(steady(film, 1))
    for stamp in (0, 30, 89):
        assert recogniser.process([film.frame(START + stamp * MS)]) == []
    assert film.loaded == [('front', START)]
    assert len(counting_encoder.calls) == 1


def test_the_window_does_not_keep_a_whole_batch_alive(recogniser, film):
    recogniser.process(steady(film, 12))
    tokens_nd = recogniser.cameras['front'].window.newest.tokens_nd
    assert tokens_nd.untyped_storage().nbytes() == tokens_nd.numel() * tokens_nd.element_size()


# ---- frames that cannot be used


def unreadable():
    return FrameError('unknown_encoding', "encoding 'odd'; expected rgb8")


def test_the_next_frame_takes_the_slot_of_an_unreadable_one(
    tiny_bundle, recogniser, counting_encoder, film
):
    frames = steady(film, 3)
    frames += [
        film.frame(START + 300 * MS, broken=unreadable()),
        film.frame(START + 330 * MS, broken=unreadable()),
        film.frame(START + 360 * MS),
        film.frame(START + 380 * MS),
    ]
    hypotheses = recogniser.process(frames)
    assert [(each.camera, each.cause) for each in recogniser.problems] == [
        ('front', 'unknown_encoding')
    ] * 2
    assert recogniser.problems[0].detail == "encoding 'odd'; expected rgb8"
    counts = recogniser.cameras['front'].counts
    assert (counts['unknown_encoding'], counts['missed_slots'], counts['off_grid']) == (2, 0, 1)
    assert len(counting_encoder.images) == 4
    clip = [*frames[:3], frames[5]]
    assert_equals_whole_clips(tiny_bundle, hypotheses, [Expected('front', clip[-1], clip, START)])
    recogniser.process([film.frame(START + 400 * MS)])
    assert recogniser.problems == []


@pytest.mark.parametrize('seed', range(2))
def test_a_long_stream_with_unreadable_frames(seed, tiny_bundle, counting_encoder, make_film):
    random, film = np.random.default_rng(seed), make_film(seed=seed)
    stamps = list(dict.fromkeys(random_stamps(random, 300)))
    broken = {('front', stamp) for stamp in stamps if random.random() < 0.3}
    frames = [
        film.frame(stamp, broken=unreadable() if ('front', stamp) in broken else None)
        for stamp in stamps
    ]
    recogniser, hypotheses, problems = StreamingRecogniser(tiny_bundle, counting_encoder), [], 0
    for batch in batches(random, frames):
        hypotheses += recogniser.process(batch)
        problems += len(recogniser.problems)
    windows, looked_at = expected_windows(frames, broken=broken)
    assert film.loaded == looked_at
    assert problems == len(broken.intersection(looked_at)) > 10
    assert recogniser.cameras['front'].counts['unknown_encoding'] == problems
    assert_equals_whole_clips(tiny_bundle, hypotheses, windows)


def test_an_unreadable_first_frame_does_not_start_the_grid(recogniser, film):
    frames = [film.frame(START, broken=unreadable()), *steady(film, 4, start=START + 50 * MS)]
    (hypothesis,) = recogniser.process(frames)
    assert hypothesis.window_start_ns == START + 50 * MS
    assert recogniser.cameras['front'].counts['start'] == 1


def test_an_unreadable_frame_after_a_gap_keeps_the_gap_open(recogniser, film):
    frames = steady(film, 4)
    frames += [film.frame(START + 900 * MS, broken=unreadable())]
    frames += steady(film, 4, start=START + 930 * MS)
    first, second = recogniser.process(frames)
    assert (first.window_start_ns, second.window_start_ns) == (START, START + 930 * MS)
    assert recogniser.cameras['front'].counts['gap'] == 1


@pytest.mark.parametrize('stamp_ns', [0, -1])
def test_frames_without_a_stamp_are_refused(stamp_ns, recogniser, film):
    for _ in range(2):
        assert recogniser.process([film.frame(stamp_ns, camera='side')]) == []
        (problem,) = recogniser.problems
        assert (problem.camera, problem.cause) == ('side', 'zero_stamp')
        assert 'stamp' in problem.detail
    assert recogniser.cameras['side'].counts == {'received': 2, 'zero_stamp': 2}
    assert film.loaded == []
    # In the midst of a stream they do it no harm.
    frames = steady(film, 4)
    frames.insert(2, film.frame(stamp_ns))
    assert len(recogniser.process(frames)) == 1


def test_after_a_failure_of_the_encoder_a_reset_is_enough(
    tiny_bundle, recogniser, counting_encoder, film, monkeypatch
):
    recogniser.process(steady(film, 2))
    with monkeypatch.context() as patch:
        patch.setattr(counting_encoder, '_encoder', None)
        with pytest.raises(AttributeError):
            recogniser.process(steady(film, 2, start=START + 2 * PERIOD))
    recogniser.reset()
    clip = steady(film, 4, start=START + 3 * PERIOD)
    assert_equals_whole_clips(
        tiny_bundle,
        recogniser.process(clip),
        [Expected('front', clip[-1], clip, clip[0].stamp_ns)],
    )


# ---- restarts


def test_a_looped_stream_starts_again_each_time(tiny_bundle, recogniser, make_film):
    film = make_film()
    loop = steady(film, 25, interval=60 * MS)
    rounds = [recogniser.process(loop) for _ in range(3)]
    windows, _ = expected_windows(loop)
    assert len(windows) > 5
    for hypotheses in rounds:
        assert_equals_whole_clips(tiny_bundle, hypotheses, windows)
    counts = recogniser.cameras['front'].counts
    assert (counts['start'], counts['jump'], counts['gap'], counts['late']) == (1, 2, 0, 0)


def test_a_short_step_back_is_late_and_a_long_one_is_a_jump(tiny_bundle, counting_encoder, film):
    recogniser = StreamingRecogniser(tiny_bundle, counting_encoder, jump_back=0.5)
    recogniser.process(steady(film, 12))
    newest = START + 11 * PERIOD
    recogniser.process([film.frame(newest - 490 * MS)])
    stream = recogniser.cameras['front']
    assert stream.counts['late'] == 1
    assert len(stream.window) == FRAMES
    recogniser.process([film.frame(newest - 510 * MS)])
    assert stream.counts['jump'] == 1
    assert stream.window.stamps_ns == (newest - 510 * MS,)


@pytest.mark.parametrize(('options', 'longest'), [({}, 250 * MS), ({'max_gap': 0.8}, 800 * MS)])
def test_a_long_gap_starts_again(options, longest, tiny_bundle, counting_encoder, film):
    for gap, restarts in ((longest, False), (longest + 1, True)):
        recogniser = StreamingRecogniser(tiny_bundle, counting_encoder, **options)
        recogniser.process(steady(film, 5))
        begin = START + 4 * PERIOD + gap
        hypotheses = recogniser.process(steady(film, 4, start=begin))
        stream = recogniser.cameras['front']
        assert stream.counts['gap'] == restarts
        # No hypothesis spans the gap.
        assert len(hypotheses) == (1 if restarts else 4)
        assert (hypotheses[0].window_start_ns == begin) == restarts


def test_reset_empties_all_windows_and_counters_go_on(recogniser, film):
    for camera in ('front', 'side'):
        recogniser.process(steady(film, 5, camera=camera))
    recogniser.reset()
    assert [len(stream.window) for stream in recogniser.cameras.values()] == [0, 0]
    # The same stamps again are no duplicates.
    for camera in ('front', 'side'):
        given_back = [len(recogniser.process([f])) for f in steady(film, 5, camera=camera)]
        assert given_back == [0, 0, 0, 1, 1]
        counts = recogniser.cameras[camera].counts
        assert (counts['received'], counts['start'], counts['new']) == (10, 2, 8)


# ---- missed slots


def test_missed_slots_are_counted_within_a_window_only(recogniser, film):
    def process(*tenths):
        recogniser.process([film.frame(START + tenth * PERIOD) for tenth in tenths])
        return recogniser.cameras['front'].counts['missed_slots']

    assert process(0, 1, 2) == 0
    assert process(4) == 1
    assert process(6, 7) == 2
    assert process(20, 21) == 2  # a gap: the window starts again
    assert process(5, 7) == 3  # so it does when time jumps back


def test_a_slot_that_a_late_frame_fills_is_not_missed(tiny_bundle, counting_encoder, film):
    recogniser = StreamingRecogniser(tiny_bundle, counting_encoder, order_tolerance=0.2)
    recogniser.process([film.frame(START + tenth * PERIOD) for tenth in (0, 2, 1, 3)])
    stream = recogniser.cameras['front']
    assert stream.counts['reordered'] == 1
    assert len(stream.window) == 4
    assert stream.counts['missed_slots'] == 0


# ---- order evidence


def evidences(hypotheses):
    return np.array([[task.order_evidence for task in each.tasks] for each in hypotheses])


def test_order_evidence_is_in_its_range_and_above_nothing(recogniser, film):
    evidence = evidences(recogniser.process(steady(film, 40)))
    assert evidence.shape == (37, 3)
    assert (evidence > 1e-6).all()
    assert (evidence <= 1.0).all()
    assert np.median(evidence) > 1e-3


def test_heads_without_positions_give_no_order_evidence(orderless_bundle, counting_encoder, film):
    recogniser = StreamingRecogniser(orderless_bundle, counting_encoder)
    evidence = evidences(recogniser.process(steady(film, 40)))
    assert evidence.shape == (37, 3)
    assert (evidence >= 0).all()
    assert (evidence < 1e-9).all()


def test_order_evidence_is_symmetric(tiny_bundle, counting_encoder, make_film):
    frames = steady(make_film(), 4)
    forwards = StreamingRecogniser(tiny_bundle, counting_encoder).process(frames)
    mirrored = [
        replace(frame, load=other.load)
        for frame, other in zip(frames, reversed(frames), strict=True)
    ]
    backwards = StreamingRecogniser(tiny_bundle, counting_encoder).process(mirrored)
    np.testing.assert_allclose(evidences(forwards), evidences(backwards), rtol=0, atol=1e-6)
    for one, other in zip(forwards[0].tasks, backwards[0].tasks, strict=True):
        assert np.abs(one.scores_k - other.scores_k).max() > 1e-3


@pytest.mark.parametrize('wanted', [True, False])
def test_the_reversed_window_is_run_only_when_asked_for(
    wanted, tiny_bundle, counting_encoder, film
):
    runs = []
    hook = tiny_bundle.model.heads['action'].register_forward_hook(lambda *_: runs.append(1))
    recogniser = StreamingRecogniser(tiny_bundle, counting_encoder, order_evidence=wanted)
    hypotheses = recogniser.process(steady(film, 6))
    hook.remove()
    assert len(runs) == (2 if wanted else 1)
    assert len(hypotheses) == 3
    for hypothesis in hypotheses:
        for task in hypothesis.tasks:
            assert math.isnan(task.order_evidence) != wanted
            assert task.scores_k.sum() == pytest.approx(1.0)


# ---- cameras


def test_cameras_do_not_disturb_each_other(tiny_bundle, counting_encoder, make_film):
    random = np.random.default_rng(9)
    films = {camera: make_film(seed=seed) for seed, camera in enumerate(('front', 'side'))}
    streams = {
        camera: [film.frame(stamp, camera=camera) for stamp in random_stamps(random, 120)]
        for camera, film in films.items()
    }
    together = StreamingRecogniser(tiny_bundle, counting_encoder)
    mixed = [
        hypothesis
        for batch in batches(random, interleaved(random, streams.values()))
        for hypothesis in together.process(batch)
    ]
    for camera, frames in streams.items():
        alone = StreamingRecogniser(tiny_bundle, counting_encoder)
        expected = alone.process(frames)
        given_back = [each for each in mixed if each.camera == camera]
        assert len(expected) > 10
        assert [each.stamp_ns for each in given_back] == [each.stamp_ns for each in expected]
        for one, other in zip(given_back, expected, strict=True):
            for task, same in zip(one.tasks, other.tasks, strict=True):
                np.testing.assert_allclose(task.scores_k, same.scores_k, rtol=0, atol=1e-5)
        assert together.cameras[camera].counts == alone.cameras[camera].counts


# ---- settings


@pytest.mark.parametrize(
    ('options', 'why'),
    [
        ({'max_gap': 0.1}, 'max_gap'),
        ({'max_gap': 0.0}, 'max_gap'),
        ({'order_tolerance': -0.1}, 'order_tolerance'),
        ({'order_tolerance': 1.1}, 'order_tolerance'),
        ({'order_tolerance': 0.3, 'jump_back': 0.2}, 'order_tolerance'),
        ({'jump_back': -1.0}, 'order_tolerance'),
    ],
)
def test_times_that_do_not_fit_are_refused(options, why, tiny_bundle, counting_encoder):
    with pytest.raises(ValueError, match=why):
        StreamingRecogniser(tiny_bundle, counting_encoder, **options)


def test_times_are_seconds(tiny_bundle, counting_encoder):
    recogniser = StreamingRecogniser(
        tiny_bundle, counting_encoder, order_tolerance=0.05, max_gap=0.5, jump_back=2.0
    )
    assert recogniser.settings.frame_period_ns == PERIOD
    assert recogniser.settings.order_tolerance_ns == 50 * MS
    assert recogniser.settings.max_gap_ns == 500 * MS
    assert recogniser.settings.jump_ns == 2_000 * MS
    assert StreamingRecogniser(tiny_bundle, counting_encoder).settings.max_gap_ns == 250 * MS
