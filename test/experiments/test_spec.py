# SPDX-License-Identifier: Apache-2.0
"""Ablation files: valid content, and the errors for invalid content."""

import copy
from typing import get_args

import pytest
import yaml

from step_ros.experiments.run import check_token_grids, count_run
from step_ros.experiments.spec import load_ablation
from step_ros.experiments.tables import check_published, paper_figure
from step_ros.model.attention import Block
from step_ros.model.backbone import create_backbone
from step_ros.model.bundle_schema import TaskSpec
from step_ros.model.complexity import on_meta
from step_ros.model.heads.registry import HEADS, head_entry
from step_ros.model.heads.step import Pooling
from step_ros.model.positions import Positions
from step_ros.resources import share_directory
from step_ros.training.config import RecipeError


def load(path, content, changes=None):
    path.write_text(yaml.safe_dump(content))
    return load_ablation(path, changes)


def changed(content, place, value):
    """Return a copy with another value at a place such as `tables.probes.task`."""
    content = copy.deepcopy(content)
    *folders, last = place.split('.')
    inner = content
    for key in folders:
        inner = inner[int(key) if key.isdigit() else key]
    inner[int(last) if last.isdigit() else last] = value
    return content


@pytest.mark.parametrize(
    ('place', 'value', 'reason'),
    [
        ('tabels', {}, 'tabels: Extra inputs'),
        ('tables', {}, 'tables'),
        ('tables.probes.columns', [], 'tables.probes.columns'),
        ('tables.probes.rows', {}, 'tables.probes.rows'),
        ('tables.probes.rows.step.share', 0, 'tables.probes.rows.step.share'),
        ('tables.probes.rows.step.share', 1.5, 'tables.probes.rows.step.share'),
        ('tables.probes.rows.step.frames', 3, 'frames=3 does not divide sampling.frames=8'),
        ('frames', 5, 'frames=5 does not divide sampling.frames=8'),
        ('tables.probes.rows.step.heads', {'name': 'stepp'}, "head 'stepp' is unknown"),
        ('pictured', ['probes/stepp'], "'probes/stepp': no such row"),
        ('findings.0.figure.table', 'probe', "'probe/attentive': no such row"),
        ('findings.0.against.row', 'attentif', "'probes/attentif': no such row"),
        ('findings.0.figure.column', 'top1', "no column 'top1'; choose among parameters, top-1"),
        ('findings.0.at_least', 3, 'either at_least or equal'),
        ('findings.1.at_least', None, 'either at_least or equal'),
        ('recipe.heads.epochs', 0, 'recipe.heads.epochs'),
    ],
)
def test_invalid_file_is_refused_with_place_and_reason(
    place, value, reason, light_content, tmp_path
):
    path = tmp_path / 'ablation.yaml'
    with pytest.raises(RecipeError) as caught:
        load(path, changed(light_content(), place, value))
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize('text', [None, 'tables: [', '- a list'])
def test_unreadable_file_is_refused(text, tmp_path):
    path = tmp_path / 'ablation.yaml'
    if text is not None:
        path.write_text(text)
    with pytest.raises(RecipeError, match=r'ablation\.yaml'):
        load_ablation(path)


def test_folder_of_the_data_can_be_replaced(light_content, tmp_path):
    path = tmp_path / 'ablation.yaml'
    spec = load(path, light_content(), {'root': str(tmp_path)})
    assert spec.recipe.data.root == tmp_path
    assert spec.recipe.data.dataset == 'csv'


def test_run_key_depends_on_settings_not_on_titles(light_content, tmp_path):
    spec = load(tmp_path / 'ablation.yaml', light_content())
    probes, shares = spec.tables['probes'], spec.tables['shares']
    same = spec.run(probes, probes.rows['attentive'])
    assert spec.run(shares, shares.rows['attentive-100']).key == same.key
    others = [
        spec.run(table, row).key
        for table, row in (
            (probes, probes.rows['step']),
            (shares, shares.rows['attentive-20']),
            (probes, probes.rows['attentive'].model_copy(update={'frames': 4})),
            (probes, probes.rows['attentive'].model_copy(update={'views': ('top',)})),
            (probes, probes.rows['attentive'].model_copy(update={'tasks': ('other',)})),
            (probes, probes.rows['attentive'].model_copy(update={'token_grid': (3, 4)})),
        )
    ]
    assert len({same.key, *others}) == 7


def test_recipe_options_reach_heads_that_have_them(light_content, tmp_path):
    spec = load(tmp_path / 'ablation.yaml', light_content())
    rows = spec.tables['probes'].rows
    assert spec.head(rows['attentive']).options == {'attention_heads': 4}
    assert spec.head(rows['linear']).options == {}
    own = rows['step'].model_copy(update={'options': {'attention_heads': 2, 'block': 'full'}})
    assert spec.head(own).options == {'attention_heads': 2, 'block': 'full'}


SHIPPED = share_directory() / 'config'


@pytest.mark.parametrize('dataset', ['drive-and-act', 'hri30', 'ikea-asm', 'ntu120', 'ssv2'])
def test_papers_tables_fit_every_recipe(dataset):
    spec = load_ablation(
        SHIPPED / 'ablations' / 'papers.yaml',
        recipe=SHIPPED / 'training' / f'{dataset}.yaml',
    )
    assert spec.name.startswith(f'papers-{dataset}')
    assert spec.recipe.data.dataset == dataset
    check_published(spec)
    printed = [
        paper_figure(spec, table, row, column)
        for table in spec.tables.values()
        for row in table.rows.values()
        for column in table.columns
    ]
    assert sum(figure is not None for figure in printed) >= 15


def test_fusions_are_beside_the_papers_figures():
    spec = load_ablation(
        SHIPPED / 'ablations' / 'fusions.yaml',
        recipe=SHIPPED / 'training' / 'drive-and-act.yaml',
    )
    table = spec.tables['fusions']
    figures = {
        key: [paper_figure(spec, table, row, column) for column in table.columns]
        for key, row in table.rows.items()
    }
    assert all(all(row) for key, row in figures.items() if key != 'step')
    best = max((row[1][0].value, key) for key, row in figures.items() if row[1])
    # Fusion paper, Table 3: self-attention over all tokens is best on the trained view.
    assert best == (73.5, 'fusion-self-all-avg')


@pytest.mark.parametrize('recipe', ['own-videos', 'ikea-asm'])
def test_token_grids_divide_the_patches_of_the_recipes(recipe):
    spec = load_ablation(
        SHIPPED / 'ablations' / 'token-grid.yaml',
        recipe=SHIPPED / 'training' / f'{recipe}.yaml',
    )
    wanted = spec.recipe.backbone
    backbone = on_meta(
        create_backbone,
        wanted.name,
        weights='random',
        image_size=(wanted.image_height, wanted.image_width),
    )
    table = spec.tables['token-grid']
    check_token_grids(spec, backbone)
    costs = [
        count_run(
            spec.run(table, row), [TaskSpec(name='action', labels=('open', 'close'))], backbone
        )
        for row in table.rows.values()
    ]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > 6 * costs[1]


def test_file_without_a_recipe_needs_one(tmp_path):
    with pytest.raises(RecipeError, match='--recipe'):
        load_ablation(SHIPPED / 'ablations' / 'papers.yaml')
    # The tabletop has windows of 8 frames; the papers' rows need up to 16.
    with pytest.raises(RecipeError, match=r'does not divide sampling\.frames=8'):
        load_ablation(
            SHIPPED / 'ablations' / 'papers.yaml',
            recipe=SHIPPED / 'training' / 'tabletop-tiny.yaml',
        )


@pytest.mark.parametrize(
    ('place', 'value', 'reason'),
    [
        ('tables.probes.columns.0.metric', 'top-1', 'tables.probes.columns.0.metric'),
        ('tables.probes.rows.step.options', {'positons': 'none'}, "no option 'positons'"),
    ],
)
def test_typing_errors_are_found_before_encoding(place, value, reason, light_content, tmp_path):
    with pytest.raises(RecipeError, match=reason):
        load(tmp_path / 'slip.yaml', changed(light_content(), place, value))


def test_tabletop_file_covers_all_ablations_of_the_papers():
    spec = load_ablation(SHIPPED / 'ablations' / 'tabletop.yaml')
    heads = [spec.head(row) for table in spec.tables.values() for row in table.rows.values()]
    assert {head.name for head in heads} == set(HEADS)
    for option, kinds in (('positions', Positions), ('block', Block), ('pooling', Pooling)):
        covered = {
            head.options.get(option, head_entry(head.name).options.get(option)) for head in heads
        }
        assert set(get_args(kinds)) <= covered, option
