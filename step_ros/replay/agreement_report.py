# SPDX-License-Identifier: Apache-2.0
"""Report whether replay and node agree: agreement.json, and a section of the report."""

import json
from collections.abc import Sequence
from pathlib import Path

from step_ros.replay.agreement import TOLERANCE, CameraAgreement, Difference, RecordingAgreement
from step_ros.reporting.markdown import Grid, plain
from step_ros.streaming.grid import NANOSECONDS
from step_ros.streaming.postprocessing.events import EventType

AGREEMENT = 'agreement.json'
# Up to this many differences of a kind the report lists each stamp; of more it gives the range.
_LISTED = 8


def write_agreement(recordings: Sequence[RecordingAgreement], output: Path) -> None:
    """Write `agreement.json` into a folder, or remove it if nothing was compared."""
    if not recordings:
        # A reader would take the file of an earlier replay for one of this replay.
        (output / AGREEMENT).unlink(missing_ok=True)
        return
    content = {
        'agrees': all(each.found.agrees for each in recordings),
        'tolerance': TOLERANCE,
        'recordings': [
            {
                'bag': each.bag,
                'bundle': each.bundle,
                'camera': each.camera,
                'first_ns': each.first_ns,
                **each.found.as_dict(),
            }
            for each in recordings
        ],
    }
    text = json.dumps(content, indent=2, allow_nan=False)
    (output / AGREEMENT).write_text(text + '\n', encoding='utf-8')


def agreement_section(recordings: Sequence[RecordingAgreement]) -> list[str]:
    """Return the lines of the report's section, in Markdown."""
    rows = tuple(
        (
            plain(each.bag),
            f'`{each.camera}`',
            plain(each.bundle),
            *map(str, (each.found.received, each.found.frames)),
            *map(str, (each.found.both, len(each.found.only_offline))),
            *map(str, (len(each.found.only_online), len(each.found.different))),
            f'{each.found.greatest_score:.1e}',
            str(each.found.events),
            str(len(each.found.events_only_offline) + len(each.found.events_only_online)),
            'yes' if each.found.agrees else '**no**',
        )
        for each in recordings
    )
    head = (
        *('recording', 'camera', 'bundle', 'frames received', 'of'),
        *('hypotheses of both', 'only replay', 'only node', 'other scores'),
        *('greatest difference', 'events of both', 'of one', 'agrees'),
    )
    lines = ['## Through DDS', '']
    lines += [
        'The bags were played to a running node. Node and replay agree if scores differ by no '
        f'more than {TOLERANCE:g} and events not at all, apart from differences that lost frames '
        'explain: frames that never arrived, or that the node dropped. The greatest difference '
        'is that of a score, explained differences left out.',
        '',
    ]
    lines += [Grid(head=head, rows=rows).markdown(), '']
    for each in recordings:
        found = _differences(each)
        if found:
            lines += [f'{plain(each.bag)}, `{each.camera}`, {plain(each.bundle)}:', '']
            lines += [*(f'- {line}' for line in found), '']
    return lines


def _differences(recording: RecordingAgreement) -> list[str]:
    found = recording.found

    def at(stamp_ns: int) -> str:
        return f'{max(0.0, (stamp_ns - recording.first_ns) / NANOSECONDS):.3f} s'

    lines = []
    if found.received != found.frames:
        lines.append(f'frames that never reached the node: {found.frames - found.received}')
    lines += [
        f'dropped by the node: {loss.count} {loss.cause}, from {at(loss.from_ns)} to '
        f'{at(loss.to_ns)}'
        for loss in found.losses
    ]
    for difference, some in (
        ('only the replay has a hypothesis', found.only_offline),
        ('only the node has a hypothesis', found.only_online),
        ('scores or windows differ', found.different),
    ):
        for cause, same in _by_cause(some).items():
            stamps_ns = [each.stamp_ns for each in same]
            if len(same) > _LISTED:
                times = f'from {at(stamps_ns[0])} to {at(stamps_ns[-1])}, {len(same)} times'
            else:
                times = 'at ' + ', '.join(map(at, stamps_ns))
            lines.append(f'{difference} {times}: {plain(cause) or "**nothing explains it**"}')
    for who, events in (
        ('the replay', found.events_only_offline),
        ('the node', found.events_only_online),
    ):
        lines += [
            f'only {who} published {EventType(each.type).name} of {plain(each.task)} '
            f'*{plain(each.label)}* at {at(each.stamp_ns)}'
            for each in events
        ]
    return lines


def _by_cause(differences: Sequence[Difference]) -> dict[str, list[Difference]]:
    found: dict[str, list[Difference]] = {}
    for each in differences:
        found.setdefault(each.cause, []).append(each)
    return found


def agreement_summary(recordings: Sequence[RecordingAgreement]) -> list[str]:
    """Return one line for each recording that says whether node and replay agree."""
    return [
        f'{each.bag} {each.camera}: node and replay '
        + ('agree' if each.found.agrees else 'do not agree')
        + f' on {each.found.both} hypotheses and {each.found.events} events'
        + f', greatest difference of a score {each.found.greatest_score:.1e}'
        + _differing(each.found)
        for each in recordings
    ]


def _differing(found: CameraAgreement) -> str:
    count = len(found.differences)
    return f'; {count} windows differ, listed in {AGREEMENT}' if count else ''
