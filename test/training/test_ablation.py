"""What an ablation file may say, and what is refused."""

import copy

import pytest
import yaml

from step_ros.training.ablation import load_ablation
from step_ros.training.recipe_file import RecipeError


def load(path, content, changes=None):
    path.write_text(yaml.safe_dump(content))
    return load_ablation(path, changes)


def changed(content, place, value):
    """Return a copy in which the value at a place such as `tables.probes.task` is another."""
    content = copy.deepcopy(content)
    *folders, last = place.split('.')
    inner = content
    for key in folders:
        inner = inner[int(key) if key.isdigit() else key]
    inner[int(last) if last.isdigit() else last] = value
    return content


@pytest.mark.parametrize(
    ('place', 'value', 'why'),
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
        ('findings.0.figure.column', 'top1', "no column 'top1'; there are parameters, top-1"),
        ('findings.0.at_least', 3, 'either at_least or equal'),
        ('findings.1.at_least', None, 'either at_least or equal'),
        ('recipe.heads.epochs', 0, 'recipe.heads.epochs'),
    ],
)
def test_a_wrong_file_is_refused_with_the_place_and_the_reason(
    place, value, why, light_content, tmp_path
):
    path = tmp_path / 'ablation.yaml'
    with pytest.raises(RecipeError) as caught:
        load(path, changed(light_content(), place, value))
    assert why in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize('text', [None, 'tables: [', '- a list'])
def test_what_is_no_ablation_file_is_refused(text, tmp_path):
    path = tmp_path / 'ablation.yaml'
    if text is not None:
        path.write_text(text)
    with pytest.raises(RecipeError, match=r'ablation\.yaml'):
        load_ablation(path)


def test_the_folder_of_the_data_can_be_another(light_content, tmp_path):
    path = tmp_path / 'ablation.yaml'
    spec = load(path, light_content(), {'root': str(tmp_path)})
    assert spec.recipe.data.root == tmp_path
    assert spec.recipe.data.dataset == 'csv'


def test_settings_make_a_run_and_titles_do_not(light_content, tmp_path):
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
        )
    ]
    assert len({same.key, *others}) == 6


def test_options_of_the_recipe_reach_the_heads_that_have_them(light_content, tmp_path):
    spec = load(tmp_path / 'ablation.yaml', light_content())
    rows = spec.tables['probes'].rows
    assert spec.head(rows['attentive']).options == {'attention_heads': 4}
    assert spec.head(rows['linear']).options == {}
    own = rows['step'].model_copy(update={'options': {'attention_heads': 2, 'block': 'full'}})
    assert spec.head(own).options == {'attention_heads': 2, 'block': 'full'}
