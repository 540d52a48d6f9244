# SPDX-License-Identifier: Apache-2.0
"""The papers' figures, checked against sums and sentences of the papers."""

import subprocess
import sys
from typing import get_args

import pytest
import yaml

from step_ros.datasets.schema import load_dataset_config
from step_ros.experiments.paper_figures import (
    CHANGES,
    PublishedFiguresError,
    figure,
    load_published,
    published,
    shipped_sources,
    table_figures,
)
from step_ros.model.attention import Block
from step_ros.model.heads.registry import HEADS
from step_ros.model.heads.step import Pooling
from step_ros.model.positions import Positions
from step_ros.model.pretrained import PUBLISHED

pytestmark = pytest.mark.research

DINOV2, CLIP = 'DINOv2 ViT-B/14', 'CLIP ViT-B/16'
# Rows, columns and missing cells of each table.
SHAPES = {
    ('step-long', '1'): (8, 5, 0),
    ('step-long', '2'): (3, 4 * 3, 0),
    ('step-long', '3'): (7, 6, 0),
    ('step-long', '4'): (20, 4, 0),
    ('step-long', '5'): (8, 1, 0),
    ('step-long', '6'): (8, 1, 0),
    ('step-long', '7'): (5, 4, 0),
    ('step-long', '8'): (11, 1, 0),
    ('step-long', '9'): (3, 3, 0),
    ('step-long', '10'): (3, 3, 0),
    ('step-long', '11'): (3, 3, 0),
    ('step-long', '12'): (10, 2, 0),
    ('step-long', '13'): (4, 3, 0),
    ('step-long', '14'): (2, 5, 0),
    ('step-long', '18'): (2, 4, 0),
    ('step-long', '19'): (3, 3, 0),
    ('step-long', '20'): (5, 3, 0),
    ('step-long', '21'): (3, 3, 0),
    ('step-long', '22'): (7, 2, 0),
    ('step', 'I'): (3 + 2 * 7, 9, 3 * 8),
    ('step', 'II'): (4, 3 * 2, 0),
    ('step', 'III'): (20, 4, 0),
    ('step', 'IV'): (4, 9, 0),
    ('step', 'V'): (5, 3, 0),
    ('step', 'VI'): (3, 2, 0),
    ('step', 'VII'): (3, 2, 0),
    ('step', 'VIII'): (3, 2, 0),
    ('step', 'IX'): (0, 0, 0),
    ('step', 'X'): (4, 3, 0),
    ('fusion', '2'): (4, 6, 0),
    ('fusion', '3'): (2 * 13, 4, 0),
    ('fusion', '4'): (2 * 13, 4, 0),
    ('fusion', '5'): (2 * 6 + 2 + 1, 8, 0),
    ('fusion', '6'): (5, 12, 6),
    ('fusion', '7'): (4, 8, 0),
}
NTU, IKEA, DRIVE = {'dataset': 'ntu120'}, {'dataset': 'ikea-asm'}, {'dataset': 'drive-and-act'}
SSV2 = {'dataset': 'ssv2'}
SUBJECT, SETUP = NTU | {'split': 'cross-subject'}, NTU | {'split': 'cross-setup'}
VERB, OBJECT = IKEA | {'task': 'verb'}, IKEA | {'task': 'object'}
TRAINED = DRIVE | {'view': 'trained'}
WITH_CLIP, WITH_DINOV2 = {'backbone': CLIP}, {'backbone': DINOV2}
# Sentences of the papers: by how many points the figure of a row is above that of another row.
GAINS = [
    ('step-long', '1', 'step', 'self-attention', SUBJECT | WITH_DINOV2, 3.11),
    ('step-long', '1', 'step', 'self-attention', SUBJECT | WITH_CLIP, 4.39),
    ('step-long', '1', 'step', 'self-attention', SETUP | WITH_CLIP, 2.58),
    ('step-long', '1', 'step', 'self-attention', DRIVE | WITH_DINOV2, 7.24),
    ('step-long', '1', 'step', 'self-attention', DRIVE | WITH_CLIP, 4.39),
    ('step-long', '1', 'step', 'self-attention', IKEA | WITH_CLIP, 5.20),
    ('step-long', '1', 'step', 'self-attention', SSV2 | WITH_CLIP, 8.98),
    ('step-long', '2', 'step', 'self-attention', SSV2, 10.03),
    ('step-long', '3', 'step', 'self-attention', DRIVE | {'metric': 'symmetric_top1'}, 14.86),
    ('step-long', '3', 'step', 'self-attention', IKEA | {'metric': 'symmetric_top1'}, 17.16),
    ('step-long', '9', 'block-attn', 'block-full', NTU, 1.78),
    ('step-long', '9', 'block-attn', 'block-full', DRIVE, 1.13),
    ('step-long', '19', 'block-attn', 'block-attn+ln+skip', DRIVE, 1.85),
    ('step', 'VI', 'block-attn', 'block-full', DRIVE, 1.13),
    ('step-long', '13', 'self-attention-positions', 'self-attention', DRIVE, 5.91),
    ('step', 'X', 'self-attention-positions', 'self-attention', IKEA, 10.78),
    ('step-long', '20', 'self-attention-positions', 'self-attention', NTU, 3.26),
    ('step-long', '20', 'attentive-positions', 'attentive', DRIVE, 1.82),
    ('step-long', '20', 'attentive-positions', 'attentive', IKEA, 2.07),
    ('step-long', '22', 'step', 'st-adapter', VERB, 8.37),
    ('step-long', '22', 'step', 'attentive', VERB, 13.27),
    ('step-long', '22', 'step', 'st-adapter', OBJECT, 5.6),
    ('step-long', '22', 'step', 'attentive', OBJECT, 10.41),
    ('fusion', '2', 'x-clip', 'video-mae', DRIVE | {'metric': 'balanced'}, 18.26),
    ('fusion', '2', 'x-clip', 'video-mae', IKEA | {'metric': 'balanced'}, 15.56),
    (
        *('fusion', '3', 'fusion-max', 'fusion-avg'),
        DRIVE | {'view': 'novel', 'backbone': 'CLIP'},
        11.71,
    ),
    (
        *('fusion', '3', 'fusion-self-all-avg', 'fusion-cross-all'),
        TRAINED | {'metric': 'balanced', 'backbone': 'DINOv2'},
        1.7,
    ),
    (
        *('fusion', '7', 'fusion-self-all-avg', 'video-swin'),
        TRAINED | {'metric': 'common_top1'},
        1.98,
    ),
    ('fusion', '7', 'video-swin', 'fusion-self-all-avg', TRAINED | {'metric': 'rare'}, 6.36),
]
# The differences that Table IV prints; three are not quite those of its cells.
TABLE_IV = {
    'vpt': [23.07, 10.54, 18.93, 10.26, 4.48, 6.35, 16.68, 2.66, 9.39],
    'adaptformer': [11.25, 16.78, 13.09, 0.50, 2.98, 2.02, 10.16, 2.00, 4.88],
}
# The drops that Table II prints in parentheses, rounded down or up to one digit.
TABLE_II = {
    'step': [44.76, 21.1, 18.6],
    'st-adapter': [45.69, 3.3, 14.03],
    'm2-clip': [43.09, 5.9, 18.2],
}
SMALL = {
    'source': 'small',
    'title': 'Small',
    'tables': [
        {
            'number': '1',
            'title': 'A table',
            'columns': [
                {'dataset': 'hri30', 'metric': 'top1'},
                {'dataset': 'ssv2', 'metric': 'top1_change'},
            ],
            'rows': [
                {'name': 'step', 'printed': 'STEP', 'values': [12.5, -3]},
                {'name': 'linear', 'printed': 'Linear', 'values': [None, 3]},
            ],
        }
    ],
}


def all_tables():
    for source in shipped_sources():
        for table in published(source).tables:
            yield source, table


def cells(table):
    for row in table.rows:
        for column, value in zip(table.columns, row.values, strict=True):
            if value is not None:
                yield row, column, value


@pytest.fixture
def load(tmp_path):
    """Write content to a file and load it: `load(content)`."""

    def load_content(content):
        path = tmp_path / 'small.yaml'
        path.write_text(yaml.safe_dump(content))
        return load_published(path)

    return load_content


def with_table(**changes):
    return SMALL | {'tables': [SMALL['tables'][0] | changes]}


def test_each_table_has_its_printed_shape():
    found = {
        (source, table.number): (
            len(table.rows),
            len(table.columns),
            sum(value is None for row in table.rows for value in row.values),
        )
        for source, table in all_tables()
    }
    assert found == SHAPES


@pytest.mark.parametrize(('source', 'table', 'row', 'below', 'where', 'points'), GAINS)
def test_rows_differ_as_the_papers_say(source, table, row, below, where, points):
    at = {'source': source, 'table': table, 'metric': 'top1'} | where
    assert figure(row=row, **at) - figure(row=below, **at) == pytest.approx(points, abs=0.005)


def test_printed_differences_match_the_cells():
    table = published('step').table('IV')
    values = {row.name: row.values for row in table.rows}
    for name, differences in TABLE_IV.items():
        found = [
            high - low for high, low in zip(values[f'{name}-step'], values[name], strict=True)
        ]
        assert found == pytest.approx(differences, abs=0.035)
    at = {'source': 'step', 'table': 'II', 'metric': 'top1'}
    for row, drops in TABLE_II.items():
        for dataset, drop in zip(('hri30', 'ikea-asm', 'drive-and-act'), drops, strict=True):
            straight = figure(row=row, dataset=dataset, **at)
            turned = figure(row=row, dataset=dataset, order='reversed', **at)
            assert straight - turned == pytest.approx(drop, abs=0.1)


def test_all_actions_lie_between_symmetric_and_other_ones():
    compared = 0
    for _, table in all_tables():
        found = {}
        for row, column, value in cells(table):
            place = (row.name, table.backbone_of(row), column.dataset, column.split)
            found.setdefault(place, {})[column.metric] = value
        for metrics in found.values():
            if {'symmetric_top1', 'other_top1', 'top1'} <= metrics.keys():
                low, high = sorted((metrics['symmetric_top1'], metrics['other_top1']))
                assert low <= metrics['top1'] <= high
                compared += 1
    assert compared == 3 * (14 + 4)  # Tables I and IV


def test_unseen_views_average_to_the_cross_view():
    by_row = {row.name: row for row in published('fusion').table('6').rows}
    at = {'source': 'fusion', 'table': '5', 'dataset': 'drive-and-act', 'view': 'novel'}
    for name in ('fusion-max-relu', 'fusion-self-all-avg', 'x-clip'):
        row = by_row[name]
        for offset, metric in enumerate(('top1', 'balanced')):
            views = row.values[2 + offset :: 2]
            assert len(views) == 5
            printed = figure(row=name, metric=metric, backbone=row.backbone, **at)
            assert sum(views) / 5 == pytest.approx(printed, abs=0.006)


@pytest.mark.parametrize('view', ['trained', 'novel'])
def test_common_and_rare_halves_average_to_the_whole(view):
    """34 activities, 17 in each half; only top-1 is weighted by their number of clips."""
    for row in published('fusion').table('7').rows:
        at = {'row': row.name, 'dataset': 'drive-and-act', 'view': view}
        halves = [
            figure(source='fusion', table='7', metric=half, **at) for half in ('common', 'rare')
        ]
        if row.backbone is not None:
            whole = figure(
                source='fusion', table='5', metric='balanced', backbone=row.backbone, **at
            )
            assert sum(halves) / 2 == pytest.approx(whole, abs=0.006)


def test_figures_printed_twice_agree():
    def values(source, number):
        return [row.values for row in published(source).table(number).rows]

    assert values('step-long', '9') == values('step-long', '19')
    assert values('step-long', '4') == values('step', 'III')
    for shorter, longer in (('VI', '9'), ('VII', '10'), ('VIII', '11')):
        # The longer paper has a column for NTU first.
        assert values('step', shorter) == [row[1:] for row in values('step-long', longer)]


def test_percent_are_in_range_and_top5_exceeds_top1():
    for source, table in all_tables():
        for row, column, value in cells(table):
            least = -100 if column.metric in CHANGES else 0
            assert least <= value <= 100, (source, table.number, row.name)
    for row in published('fusion').table('2').rows:
        for _, top1, top5 in (row.values[:3], row.values[3:]):
            assert top1 < top5


def test_changes_leave_an_accuracy():
    for row in published('step').table('III').rows:
        top1, top1_change, confusion, confusion_change = row.values
        assert 0 <= top1 + top1_change <= 100
        assert 0 <= confusion + confusion_change <= 100
        assert top1 + confusion <= 100
        assert top1 + top1_change + confusion + confusion_change <= 100


def test_columns_fit_the_datasets():
    datasets = {}
    for _, table in all_tables():
        for column in table.columns:
            name = column.dataset
            config = datasets.setdefault(name, load_dataset_config(name))
            config.task(column.task)
            if column.split is not None:
                config.split(column.split)
            assert column.view in {None, 'trained', 'novel', *(v.name for v in config.views)}


def test_rows_are_named_as_heads_and_options():
    options = {'block': Block, 'positions': Positions, 'pooling': Pooling}
    seen = set()
    for _, table in all_tables():
        for row in table.rows:
            option, _, value = row.name.partition('-')
            if option in options:
                assert value in get_args(options[option])
                seen.add(option)
            elif option == 'fusion':
                assert row.name in HEADS
            assert table.backbone_of(row) in {
                *PUBLISHED,
                *('CLIP', 'DINOv2', 'X-CLIP', 'VideoMAE'),
                None,
            }
    assert seen == set(options)
    for number in ('3', '4'):
        names = {row.name for row in published('fusion').table(number).rows}
        assert names == {name for name in HEADS if name.startswith('fusion-')}
    probes = {row.name for row in published('step-long').table('1').rows}
    assert probes == {name for name in HEADS if not name.startswith('fusion-')}


def test_labels_of_drive_and_act_are_those_of_the_dataset():
    task = load_dataset_config('drive-and-act').task('action')
    rows = published('step-long').table('4').rows
    assert {row.name for row in rows} == {label for pair in task.pairs for label in pair}
    assert {row.confused_with for row in rows} - {None} <= set(task.labels)


def test_figure_is_found_by_its_conditions():
    at = {'source': 'step-long', 'table': '11', 'dataset': 'ikea-asm', 'metric': 'top1'}
    assert figure(row='positions-learnable', **at) == 76.28
    assert figure(row='positions-learnable', backbone=DINOV2, **at) == 76.28
    assert figure(row='positions-learnable', backbone=CLIP, **at) is None
    assert figure(row='positions-learnable', **(at | {'dataset': 'hri30'})) is None
    few = {'source': 'step-long', 'table': '7', 'dataset': 'ssv2', 'metric': 'top1'}
    assert figure(row='step', training_percent=5, **few) == 33.98
    assert figure(row='step', **few) == 53.82
    # The paper prints a dash here; Table IX is missing from its text.
    slow = {'source': 'step', 'table': 'I', 'dataset': 'hri30', 'row': 'slow-only'}
    assert figure(metric='top1', **slow) == 86.55
    assert figure(metric='other_top1', **slow) is None
    assert figure(source='step', table='IX', row='step', dataset='ikea-asm', metric='top1') is None


def test_ambiguous_figure_is_refused():
    at = {'source': 'step-long', 'table': '1', 'row': 'step', 'metric': 'top1'}
    with pytest.raises(PublishedFiguresError, match=f'backbone {CLIP}.*backbone {DINOV2}'):
        figure(dataset='ikea-asm', **at)
    with pytest.raises(PublishedFiguresError, match=r'split cross-subject.*split cross-setup'):
        figure(dataset='ntu120', backbone=CLIP, **at)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'source': 'steps'}, "source 'steps'.*fusion, step, step-long"),
        ({'table': '17'}, "step-long: table '17'.*14, 18"),
        ({'row': 'stepp'}, "table 11: row 'stepp'.*positions-fixed"),
        ({'dataset': 'ikea'}, "dataset 'ikea'.*ikea-asm"),
        ({'metric': 'accuracy'}, "metric 'accuracy'.*top1"),
        ({'order': 'random'}, "order 'random'.*shuffled"),
    ],
)
def test_unknown_name_is_refused_with_the_choices(change, message):
    names = {
        'source': 'step-long',
        'table': '11',
        'row': 'positions-fixed',
        'dataset': 'ikea-asm',
        'metric': 'top1',
    }
    with pytest.raises(PublishedFiguresError, match=message):
        figure(**(names | change))


def test_table_figures_are_those_of_one_dataset():
    found = table_figures(source='step', table='I', dataset='hri30')
    # SlowOnly has one of three figures, VideoSWINv2 and Uniformerv2 have none.
    assert len(found) == 1 + 3 * 14
    best = found[-1]
    assert (best.row.name, best.backbone, best.column.metric) == ('step', DINOV2, 'top1')
    assert best.value == 87.02
    assert table_figures(source='step', table='I', dataset='ssv2') == ()


def test_smallest_file_is_valid(load):
    assert [row.values for row in load(SMALL).tables[0].rows] == [(12.5, -3), (None, 3)]


ROW = SMALL['tables'][0]['rows'][0]
COLUMN = SMALL['tables'][0]['columns'][0]


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (SMALL | {'paper': 'x'}, 'paper: .*not permitted'),
        (with_table(caption='x'), r'tables\.0\.caption: .*not permitted'),
        (with_table(rows=[ROW | {'color': 'x'}]), r'rows\.0\.color: .*not permitted'),
        (
            with_table(columns=[COLUMN | {'fold': 1}, COLUMN]),
            r'columns\.0\.fold: .*not permitted',
        ),
        (with_table(columns=[COLUMN | {'metric': 'accuracy'}, COLUMN]), r'metric: .*accuracy'),
        (with_table(columns=[COLUMN | {'dataset': 'hri'}, COLUMN]), r'dataset: .*hri'),
        (with_table(columns=[COLUMN, COLUMN]), 'columns are repeated'),
        (with_table(rows=[ROW, ROW]), "rows are repeated: .*'step'"),
        (with_table(rows=[]), 'has no rows'),
        (with_table(rows=[ROW | {'values': [1.0]}]), "'step' has 1 values for 2 columns"),
        (with_table(rows=[ROW | {'values': [101, 0]}]), "'step': hri30 top1 is 101.*0 to 100"),
        (with_table(rows=[ROW | {'values': [-1, 0]}]), "'step': hri30 top1 is -1.*0 to 100"),
        (with_table(rows=[ROW | {'values': ['9', 0]}]), r"values\.0: .*found '9'"),
        (with_table(rows=[ROW | {'values': [float('nan'), 0]}]), r'values\.0: .*finite'),
        (SMALL | {'tables': SMALL['tables'] * 2}, r"tables: \['1'\] are repeated"),
        (SMALL | {'source': 'large'}, "source: expected the file's name, 'small'.*'large'"),
    ],
)
def test_broken_file_is_refused_by_field(load, content, message):
    with pytest.raises(PublishedFiguresError, match=rf'small\.yaml: .*{message}'):
        load(content)


def test_unreadable_file_is_refused_by_name(tmp_path):
    with pytest.raises(PublishedFiguresError, match='nowhere'):
        load_published(tmp_path / 'nowhere.yaml')
    broken = tmp_path / 'broken.yaml'
    broken.write_text('a: [')
    with pytest.raises(PublishedFiguresError, match=r'broken\.yaml: not readable'):
        load_published(broken)


def test_reading_figures_needs_no_torch():
    code = (
        'import sys; from step_ros.experiments.paper_figures import published; '
        "published('step'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0
