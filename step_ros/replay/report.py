# SPDX-License-Identifier: Apache-2.0
"""The report of a replay: report.json, report.md, report.html and timing.json.

`report.json` holds all figures and no times of this run, so that equal inputs give equal bytes.
The times are in `timing.json`. `ROWS` and `SHORT` name the figures of the tables.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from step_ros.evaluation.segments import OVERLAPS
from step_ros.model.bundle_schema import TaskSpec
from step_ros.replay.plots import plot_replay_confusion, plot_replay_timeline, timeline_parts
from step_ros.replay.run import ReplayResult
from step_ros.replay.scores import Recording, coverage, score_task
from step_ros.reporting.html import html_report
from step_ros.reporting.machine import machine
from step_ros.reporting.markdown import MISSING, Grid, plain
from step_ros.streaming.grid import MAX_GAP_PERIODS, NANOSECONDS

# Folder of the report that holds its pictures.
IMAGES = 'images'

# Turns a figure into the text of a cell.
Cell = Callable[[Any], str]


def percent(value: Any) -> str:
    """Return a share as percent with one decimal."""
    return f'{100 * value:.1f}'


def _hundredths(value: Any) -> str:
    return f'{value:.2f}'


# Title of a row, keys of its figure in the content of `score_task`, and format of the figure.
ROWS: tuple[tuple[str, tuple[str, ...], Cell], ...] = (
    ('hypotheses with a label at the newest frame', ('judged',), str),
    ('accuracy, %', ('newest', 'top1'), percent),
    ('balanced accuracy, %', ('newest', 'balanced'), percent),
    ('symmetric accuracy, %', ('newest', 'symmetric_top1'), percent),
    ('within its pair, %', ('newest', 'within_pair'), percent),
    ('taken for the counterpart, %', ('newest', 'to_counterpart'), percent),
    ('settled windows', ('settled',), str),
    ('accuracy on settled windows, %', ('settled_windows', 'top1'), percent),
    (
        'symmetric accuracy on settled windows, %',
        ('settled_windows', 'symmetric_top1'),
        percent,
    ),
    *(
        (f'segmental F1@{overlap}, %', ('segments', f'f1_{overlap}'), percent)
        for overlap in OVERLAPS
    ),
    ('edit score, %', ('segments', 'edit'), percent),
    ('actions', ('events', 'actions'), str),
    ('detected by an event, %', ('events', 'told_share'), percent),
    ('detection delay, median, s', ('events', 'delay_s', 'p50'), _hundredths),
    ('detection delay, 95th percentile, s', ('events', 'delay_s', 'p95'), _hundredths),
    ('false events a minute', ('events', 'false_per_minute'), _hundredths),
    (
        'order evidence of correct predictions, median',
        ('order_evidence', 'right', 'p50'),
        _hundredths,
    ),
    (
        'order evidence of wrong predictions, median',
        ('order_evidence', 'wrong', 'p50'),
        _hundredths,
    ),
    (
        'order evidence of predictions of the counterpart, median',
        ('order_evidence', 'to_counterpart', 'p50'),
        _hundredths,
    ),
)

# The same for the table of a single recording.
SHORT = (
    ('accuracy, %', ('newest', 'top1'), percent),
    ('F1@50, %', ('segments', 'f1_50'), percent),
    ('edit, %', ('segments', 'edit'), percent),
    ('detected', ('events', 'told'), str),
    ('of actions', ('events', 'actions'), str),
    ('delay, s', ('events', 'delay_s', 'p50'), _hundredths),
    ('false a minute', ('events', 'false_per_minute'), _hundredths),
)


def write_replay_report(
    result: ReplayResult, output: Path, *, more: Sequence[str] = ()
) -> dict[str, Any]:
    """Write the report into a folder.

    Args:
        result: The replay.
        output: The folder.
        more: Lines of further sections, in Markdown.

    Returns:
        The content of report.json. The same bags, bundles and settings give the same bytes, on
        the same machine with the same number of threads.
    """
    output.mkdir(parents=True, exist_ok=True)
    content = report_content(result)
    _write_json(output / 'report.json', content)
    _write_json(
        output / 'timing.json',
        {
            'machine': machine(),
            'bundles': {each.model_id: str(each.path.resolve()) for each in result.bundles},
            'replays': [asdict(each) for each in result.times],
        },
    )
    # An earlier report may have had more pictures; the surplus would stay in the folder.
    for kind in ('confusion', 'timeline'):
        for picture in (output / IMAGES).glob(f'{kind}-*.png'):
            picture.unlink()
    text = '\n'.join([*_markdown(result, content, output), *more]).rstrip() + '\n'
    (output / 'report.md').write_text(text, encoding='utf-8')
    (output / 'report.html').write_text(html_report(text, output), encoding='utf-8')
    return content


def report_content(result: ReplayResult) -> dict[str, Any]:
    """Return the sources of the labels as `labels`, and all figures.

    The figures are `bundles`, `settings`, `overall`, `recordings` and `failures`.
    """
    ignored = result.plan.settings.events().ignored_labels
    tasks = {each.title: each.spec.tasks for each in result.bundles}
    titles = [each.title for each in result.bundles]
    return {
        'labels': {
            bag: {
                'source': source.title or None,
                'left_out': dict(source.left_out),
                'outside_the_images': result.labels_outside.get(bag, 0),
            }
            for bag, source in result.label_sources.items()
        },
        'bundles': {
            each.title: {
                'model_id': each.model_id,
                'frames': each.spec.frames,
                'frame_period': each.spec.frame_period,
                'tasks': [task.name for task in each.spec.tasks],
            }
            for each in result.bundles
        },
        'settings': {
            **asdict(result.plan.settings),
            'ignored_labels': list(result.plan.settings.ignored_labels),
            'device': result.plan.device.type,
            'threads': torch.get_num_threads(),
        },
        'overall': {
            title: _scores(result.recordings[title], tasks[title], ignored) for title in titles
        },
        'recordings': [
            _recording(result, dict(zip(titles, each, strict=True)))
            for each in zip(*(result.recordings[title] for title in titles), strict=True)
        ],
        'failures': result.failures,
        # Missing where nothing was left out.
        **({'topics_left_out': result.left_out} if result.left_out else {}),
    }


def label_lines(content: Mapping[str, Any]) -> list[str]:
    """Return sentences that say where the true labels come from, and what is left out.

    Args:
        content: Content of report.json.
    """
    by_source: dict[str | None, list[str]] = {}
    left_out: dict[tuple[str, str], list[str]] = {}
    lines = []
    for bag, labels in content['labels'].items():
        by_source.setdefault(labels['source'], []).append(bag)
        for topic, sign in labels['left_out'].items():
            left_out.setdefault((topic, sign), []).append(bag)
    for source, bags in by_source.items():
        where = '' if len(by_source) == 1 else f' in {_some(bags)}'
        if source is None:
            lines.append(f'True labels: none{where}, so there are no scores.')
        else:
            lines.append(f'True labels: {source}{where}.')
    lines += [
        f'{topic} is no truth, as a perception node published it: {sign} (in {_some(bags)}).'
        for (topic, sign), bags in left_out.items()
    ]
    lines += [
        f'{labels["outside_the_images"]} labels in {bag} lie outside the images and are left out.'
        for bag, labels in content['labels'].items()
        if labels['outside_the_images']
    ]
    return lines


def left_out_lines(content: Mapping[str, Any]) -> list[str]:
    """Return sentences that name the image topics and the images that the replay left out.

    Args:
        content: Content of report.json.
    """
    lines = [
        f'{bag}: left out {topic}: {why}; --topic chooses topics.'
        for bag, topics in content.get('topics_left_out', {}).items()
        for topic, why in topics.items()
    ]
    for each in content['recordings']:
        # Every bundle saw the same images.
        frames = next(iter(each['bundles'].values()))['frames']
        if count := frames.get('zero_stamp', 0):
            lines.append(
                f'{each["bag"]}: left out {count} images of {each["camera"]} without a stamp; '
                'times count from the first image with one.'
            )
    return lines


def _some(bags: Sequence[str]) -> str:
    """Return the names of at most three bags, and the number of the others."""
    shown = ', '.join(bags[:3])
    return shown if len(bags) <= 3 else f'{shown} and {len(bags) - 3} more'


def score_rows(scores: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return the table rows of one task, a column for each bundle.

    Args:
        scores: Content of `score_task` for each bundle.

    Returns:
        Title and cells of each row; a row in which no bundle has a figure is left out.
    """
    rows = []
    for title, keys, write in ROWS:
        cells = [figure(found, keys, write) for found in scores]
        if any(cell != MISSING for cell in cells):
            rows.append((title, *cells))
    return rows


def figure(scores: Mapping[str, Any], keys: Sequence[str], write: Cell) -> str:
    """Return the figure under nested keys as text, or a dash if it is missing.

    Args:
        scores: Content of `score_task`.
        keys: The keys, outermost first.
        write: Format of the figure.
    """
    value: Any = scores
    for key in keys:
        value = None if value is None else value.get(key)
    return MISSING if value is None else write(value)


def _scores(
    recordings: Sequence[Recording], tasks: Sequence[TaskSpec], ignored: frozenset[str]
) -> dict[str, Any]:
    return {task.name: score_task(recordings, task, ignored=ignored) for task in tasks}


def _recording(result: ReplayResult, recordings: Mapping[str, Recording]) -> dict[str, Any]:
    """Return the figures of one recording with every bundle."""
    # The time of the recording and its true labels are the same for every bundle.
    one = next(iter(recordings.values()))
    plan = result.plan
    ignored = plan.settings.events().ignored_labels
    by_bundle = {}
    for bundle in result.bundles:
        predictions = recordings[bundle.title].predictions
        max_gap = plan.settings.max_gap or MAX_GAP_PERIODS * bundle.spec.frame_period
        by_bundle[bundle.title] = {
            'hypotheses': len(predictions.stamps_ns_h),
            'coverage': coverage(predictions, max_age_ns=round(max_gap * NANOSECONDS)),
            'frames': dict(predictions.counts),
            'tasks': _scores([recordings[bundle.title]], bundle.spec.tasks, ignored),
        }
    return {
        'bag': one.bag,
        'camera': one.predictions.topic,
        'seconds': round((one.predictions.last_ns - one.predictions.first_ns) / NANOSECONDS, 3),
        'segments': {task: len(some) for task, some in sorted(one.truth.segments.items())},
        'bundles': by_bundle,
    }


def _markdown(result: ReplayResult, content: dict[str, Any], output: Path) -> list[str]:
    titles = list(content['bundles'])
    lines = ['# Replay', '']
    said = [*label_lines(content), *left_out_lines(content)]
    lines += [part for line in said for part in (plain(line), '')]
    lines += [_introduction(content), '']
    bundles = [
        (plain(title), f'`{each["model_id"]}`', str(each['frames']), f'{each["frame_period"]:g}')
        for title, each in content['bundles'].items()
    ]
    head = ('bundle', 'digest', 'frames', 'frame period, s')
    lines += [Grid(head=head, rows=tuple(bundles)).markdown(), '']
    names = list(
        dict.fromkeys(task for each in content['bundles'].values() for task in each['tasks'])
    )
    for task in names:
        lines += _task_section(result, content, task, output)
    if content['recordings']:
        lines += ['## Recordings', '', _coverage_grid(content, titles).markdown(), '']
        lines += [
            'In the timelines, a colour is stronger the higher the score; a triangle marks the '
            'time at which an event was published.',
            '',
        ]
    for number, one in enumerate(content['recordings']):
        lines += _recording_section(result, number, one, output)
    if content['failures']:
        lines += ['## Bags that could not be replayed', '']
        lines += [
            f'- {plain(name)}: {plain(reason)}' for name, reason in content['failures'].items()
        ]
    return lines


def _introduction(content: dict[str, Any]) -> str:
    settings = content['settings']
    recordings, failures = len(content['recordings']), len(content['failures'])
    seconds = sum(each['seconds'] for each in content['recordings'])
    return (
        f'{recordings} recordings of {seconds:.1f} s in total'
        + (f'; {failures} bags could not be replayed (below)' if failures else '')
        + f'. Events: on at {settings["on_threshold"]:g}, off below '
        f'{settings["off_threshold"]:g}, for at least {settings["minimum_duration"]:g} s, gaps up '
        f'to {settings["minimum_gap"]:g} s; scores '
        + (f'smoothed over {settings["smoothing"]:g} s' if settings['smoothing'] else 'unsmoothed')
        + '. A hypothesis is judged by the true label at its newest frame. In a settled window a '
        'single label is true throughout.'
    )


def _task_section(
    result: ReplayResult, content: dict[str, Any], task: str, output: Path
) -> list[str]:
    predicting = [
        each for each in result.bundles if task in content['bundles'][each.title]['tasks']
    ]
    scores = {each.title: content['overall'][each.title][task] for each in predicting}
    lines = [f'## {plain(task)}', '']
    if not any(found['judged'] for found in scores.values()):
        return [*lines, 'No hypothesis has a label at its newest frame.', '']
    rows = tuple(score_rows(list(scores.values())))
    lines += [Grid(head=('', *map(plain, scores)), rows=rows).markdown(), '']
    picture = output / IMAGES / f'confusion-{_file_name(task)}.png'
    drawn = plot_replay_confusion(
        picture,
        result.recordings,
        {each.title: _task_of(each.spec.tasks, task) for each in predicting},
    )
    if drawn:
        lines += [
            'Share of the hypotheses of each true label (row) by predicted label (column), in '
            'percent; counterparts are framed.',
            '',
            f'![Confusion of {plain(task)}]({IMAGES}/{picture.name})',
            '',
        ]
    return lines


def _task_of(tasks: Sequence[TaskSpec], name: str) -> TaskSpec:
    return next(task for task in tasks if task.name == name)


def _coverage_grid(content: dict[str, Any], titles: Sequence[str]) -> Grid:
    several = len(titles) > 1
    head = ['recording', 'camera', 'seconds']
    for title in titles:
        suffix = f', {plain(title)}' if several else ''
        head += [f'hypotheses{suffix}', f'covered, %{suffix}']
    rows = []
    for one in content['recordings']:
        cells = [plain(one['bag']), f'`{one["camera"]}`', f'{one["seconds"]:.1f}']
        for title in titles:
            found = one['bundles'][title]
            cells += [str(found['hypotheses']), percent(found['coverage'])]
        rows.append(tuple(cells))
    return Grid(head=tuple(head), rows=tuple(rows))


def _recording_section(
    result: ReplayResult, number: int, one: dict[str, Any], output: Path
) -> list[str]:
    lines = [f'### {plain(one["bag"])}, `{one["camera"]}`', '']
    rows = []
    for title, found in one['bundles'].items():
        for task, scores in found['tasks'].items():
            if scores['judged']:
                cells = [figure(scores, keys, write) for _, keys, write in SHORT]
                rows.append((plain(task), plain(title), *cells))
    if rows:
        head = ('task', 'bundle', *(title for title, _, _ in SHORT))
        lines += [Grid(head=head, rows=tuple(rows)).markdown(), '']
    recordings = {title: some[number] for title, some in result.recordings.items()}
    tasks = {each.title: each.spec.tasks for each in result.bundles}
    for part in range(timeline_parts(next(iter(recordings.values())))):
        picture = output / IMAGES / f'timeline-{number:03d}-{part}.png'
        plot_replay_timeline(picture, recordings, tasks, part=part)
        lines += [f'![Timeline of {plain(one["bag"])}]({IMAGES}/{picture.name})', '']
    return lines


def _file_name(task: str) -> str:
    return ''.join(letter if letter.isalnum() else '-' for letter in task)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')
