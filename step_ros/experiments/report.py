# SPDX-License-Identifier: Apache-2.0
"""The report of one or several ablations in Markdown; the same results give the same text."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from step_ros.datasets.registry import Dataset, read_dataset
from step_ros.experiments.findings import Judged, chance_points, judge
from step_ros.experiments.plots import (
    has_shares,
    plot_attention,
    plot_labels,
    plot_shares,
    plot_tsne,
)
from step_ros.experiments.predictions import PicturedPredictions, read_predictions
from step_ros.experiments.run import AblationResult
from step_ros.experiments.tables import label_figures, labels_grid, table_grid
from step_ros.reporting.confusion import plot_confusion
from step_ros.reporting.markdown import Grid, plain


@dataclass(frozen=True, kw_only=True)
class _Pictures:
    """The folder and the file names of an ablation's pictures, and their links in the report."""

    folder: Path
    report: Path
    prefix: str

    def path(self, kind: str) -> Path:
        return self.folder / f'{self.prefix}-{kind}.png'

    def line(self, kind: str, caption: str) -> str:
        target = os.path.relpath(self.path(kind), self.report.parent).replace(os.sep, '/')
        return f'![{caption}]({target})'


def write_report(
    results: Sequence[AblationResult],
    report: Path,
    *,
    command: str,
    pictures: Path | None = None,
) -> str:
    """Write the report and its pictures.

    Args:
        results: Results of each ablation; the ablations have different names.
        report: The Markdown file to write.
        command: The command that made the report, for the reader to run again.
        pictures: Folder of the pictures; None for `images` beside the report. The pictures' names
            begin with the report's name.

    Returns:
        The Markdown text.

    Raises:
        DatasetError: A dataset cannot be read any more.
        VideoError: A clip of a picture cannot be decoded any more.
    """
    parts = [
        _section(
            result,
            _Pictures(
                folder=pictures or report.parent / 'images',
                report=report,
                prefix=f'{report.stem}-{file_name(result.spec.name)}',
            ),
        )
        for result in results
    ]
    title = ['# Ablations', ''] if len(parts) > 1 else []
    written = f'Written by `{command}`; do not edit.'
    if title:
        parts = [_deeper(part) for part in parts]
        lines = [*title, written, '', *(line for part in parts for line in [*part, ''])]
    else:
        lines = [parts[0][0], '', written, *parts[0][1:]]
    text = '\n'.join(lines).rstrip() + '\n'
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(text, encoding='utf-8')
    return text


def file_name(name: str) -> str:
    """Return an ablation's name in lower case with hyphens, for a file name."""
    return re.sub(r'[^A-Za-z0-9]+', '-', name).strip('-').lower() or 'ablation'


def _deeper(lines: Sequence[str]) -> list[str]:
    """Return the lines with every heading one level lower."""
    return [f'#{line}' if line.startswith('#') else line for line in lines]


def _section(result: AblationResult, pictures: _Pictures) -> list[str]:
    spec = result.spec
    data = spec.recipe.data
    dataset = read_dataset(data.dataset, data.root, **data.options)
    judged = judge(result)
    lines = [f'# {spec.title}', '']
    if spec.intro:
        lines += [spec.intro.strip(), '']
    lines += ['## What was run', '', _what_was_run(result).markdown(), '']
    lines += _findings(result, judged)
    for name, table in spec.tables.items():
        lines += [f'## {table.title}', '']
        remarks = [f'After {table.source}.' if table.source else '', table.note.strip()]
        if any(remarks):
            lines += [' '.join(part for part in remarks if part), '']
        grid = table_grid(result, name)
        lines += [grid.markdown(), '']
        for note in grid.notes:
            lines += [note, '']
        lines += _found_in(name, judged)
        if has_shares(result, name):
            kind = f'shares-{file_name(name)}'
            plot_shares(pictures.path(kind), result, name)
            lines += [pictures.line(kind, f'{table.title}: accuracy by training clips'), '']
    return lines + _pictured(result, dataset, pictures)


def _what_was_run(result: AblationResult) -> Grid:
    spec = result.spec
    recipe, sampling, heads = spec.recipe, spec.recipe.sampling, spec.recipe.heads
    clips = ', '.join(f'{count} {split}' for split, count in result.clips.items())
    frames = f'{spec.frames or sampling.frames}'
    if spec.frames not in (None, sampling.frames):
        frames += f', spread over windows of {sampling.frames}'
    windows = (
        f'{sampling.train_views} of each training clip; the scores on {sampling.test_views} of '
        'each test clip are averaged'
    )
    rows = [
        ('dataset', plain(result.dataset)),
        ('clips', f'{clips}; {result.left_out} left out as unusable'),
        ('backbone, frozen', plain(result.backbone)),
        ('frames', f'{frames}, one every {result.frame_period:g} s'),
        ('windows', windows),
        (
            'fit',
            f'{heads.epochs} epochs, batch {heads.batch}, {heads.optimiser}, learning rate '
            f'{heads.learning_rate:g} (cosine), weight decay {heads.weight_decay:g}',
        ),
        ('seed', str(recipe.seed)),
        ('runs', f'{len(result.runs)}; rows with the same settings are one run'),
    ]
    return Grid(head=('', ''), rows=tuple(rows))


def _findings(result: AblationResult, judged: Sequence[Judged]) -> list[str]:
    if not judged:
        return []
    count = sum(each.shows is True for each in judged)
    lines = [
        '## What the papers found, and what shows here',
        '',
        f'{count} of {len(judged)} findings show on: {plain(result.dataset)}.',
    ]
    for shows, verdict in ((False, 'does not show here'), (None, 'cannot be judged here')):
        if some := [each for each in judged if each.shows is shows]:
            named = ' '.join(f'{each.finding.says} ({each.finding.source})' for each in some)
            lines += ['', f'**What {verdict}:** {named}']
    rows = [
        (
            each.finding.says,
            each.finding.source,
            each.figure,
            each.against,
            each.difference,
            each.required,
            each.verdict if each.shows else f'**{each.verdict}**',
        )
        for each in judged
    ]
    head = ('finding', 'source', 'here', 'against', 'difference', 'required', '')
    clips = result.clips['test']
    return [
        *lines,
        '',
        Grid(head=head, rows=tuple(rows)).markdown(),
        '',
        'Differences are in points. All runs have the same seed. With '
        f'{clips} test clips, a difference within about {chance_points(clips):.1f} points of the '
        'required one may be chance.',
        '',
    ]


def _found_in(table: str, judged: Sequence[Judged]) -> list[str]:
    lines = [
        f'- {each.finding.says} ({each.finding.source}) Here: {each.verdict}.'
        for each in judged
        if each.finding.figure.table == table
    ]
    return ['What the papers found:', '', *lines, ''] if lines else []


def _pictured(result: AblationResult, dataset: Dataset, pictures: _Pictures) -> list[str]:
    """Return the sections of the pictured runs, task by task, and draw their pictures."""
    by_task: dict[str, list[PicturedPredictions]] = {}
    for place in result.spec.pictured:
        predictions = read_predictions(result, place, dataset)
        by_task.setdefault(predictions.task, []).append(predictions)
    lines = []
    for task, runs in by_task.items():
        of_task = f' ({plain(task)})' if len(by_task) > 1 else ''
        own = replace(pictures, prefix=pictures.prefix + (of_task and f'-{file_name(task)}'))
        lines += _one_task(result, runs, dataset, own, of_task)
    return lines


def _one_task(
    result: AblationResult,
    runs: Sequence[PicturedPredictions],
    dataset: Dataset,
    pictures: _Pictures,
    of_task: str,
) -> list[str]:
    names = ' and '.join(run.title for run in runs)
    lines = []
    if runs[0].paired:
        plot_labels(pictures.path('labels'), runs)
        lines += [
            f'## Nearly symmetric labels one by one{of_task}',
            '',
            *_label_tables(result, runs),
            pictures.line('labels', f'Accuracy of each nearly symmetric label: {names}'),
            '',
        ]
    plot_confusion(pictures.path('confusion'), runs)
    plot_tsne(pictures.path('tsne'), runs)
    paired = 'of nearly symmetric labels, by t-SNE; counterparts share a colour.'
    lines += [
        f'## Confusion and features{of_task}',
        '',
        'Share of the clips of each true label (row) by predicted label (column), in percent'
        + ('; counterparts are framed.' if runs[0].paired else '.'),
        '',
        pictures.line('confusion', f'Confusion matrices: {names}'),
        '',
        f'Inputs of the classifiers for test clips {paired if runs[0].paired else "by t-SNE."}',
        '',
        pictures.line('tsne', f't-SNE: {names}'),
        '',
    ]
    attention = plot_attention(pictures.path('attention'), result, runs, dataset)
    if attention is not None:
        line = pictures.line('attention', 'Frames and attention maps')
        lines += [f'## Attention{of_task}', '', attention, '', line, '']
    return lines


def _label_tables(result: AblationResult, runs: Sequence[PicturedPredictions]) -> list[str]:
    """Return a table of each run with its difference to STEP, or a table of STEP alone."""
    step = next((run for run in runs if run.run.spec.head.name == 'step'), None)
    lines = []
    for run in [run for run in runs if run is not step] or runs:
        attentive = run.run.spec.head.name == 'attentive'
        papers = label_figures(result.spec) if attentive else {}
        grid = labels_grid(run, None if run is step else step, papers)
        lines += [f'{run.title} (after STEP Table III):', '', grid.markdown(), '']
    return lines
