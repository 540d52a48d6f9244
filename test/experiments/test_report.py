# SPDX-License-Identifier: Apache-2.0
"""The report of an ablation: figures, the papers' figures, findings, and no machine paths."""

import re

import pytest
import yaml

from step_ros.experiments.findings import judge
from step_ros.experiments.paper_figures import PublishedFiguresError
from step_ros.experiments.report import file_name, write_report
from step_ros.experiments.spec import AblationSpec, load_ablation
from step_ros.experiments.tables import check_published, label_figures, paper_figure, table_grid
from step_ros.reporting.html import html_report
from step_ros.reporting.markdown import Grid, plain

pytestmark = pytest.mark.slow

COMMAND = 'step_ros ablate lights.yaml'


@pytest.fixture(scope='module')
def written(light_ablation, tmp_path_factory):
    folder = tmp_path_factory.mktemp('report')
    text = write_report([light_ablation[0]], folder / 'results.md', command=COMMAND)
    return folder, text


def changed(result, place, value):
    """Return a result as if its file had another value at a place such as `recipe.seed`."""
    content = result.spec.model_dump(mode='json')
    *folders, last = place.split('.')
    inner = content
    for key in folders:
        inner = inner[int(key) if key.isdigit() else key]
    inner[int(last) if last.isdigit() else last] = value
    return result.model_copy(update={'spec': AblationSpec.model_validate(content)})


def rows_of(text, title):
    """Return the cells of the first table under a heading, by the first cell."""
    lines = text.split(f'# {title}\n')[1].splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith('|'))
    cells = {}
    for line in lines[start:]:
        if not line.startswith('|'):
            break
        first, *rest = (cell.strip() for cell in line.strip('|').split(' |'))
        cells[first] = rest
    return cells


def test_tables_hold_the_figures(written, light_ablation):
    _, text = written
    result, _ = light_ablation
    rows = rows_of(text, 'Probing mechanisms')
    assert rows[''][:3] == ['parameters', 'top-1', 'nearly symmetric']
    for title, key in (('Linear probing', 'linear'), ('STEP', 'step')):
        metrics = result.run('probes', key).metrics['all']
        cells = [cell.strip('*') for cell in rows[title]]
        assert cells[1] == f'{100 * metrics["correct"]["action"]["top1"]:.1f}'
        assert cells[4] == f'{100 * metrics["reversed"]["action"]["top1"]:.1f}'
    assert rows['Linear probing'][0] == '387'
    parameters = result.run('probes', 'step').parameters
    assert rows['STEP'][0] == f'{parameters / 1e3:.1f} k'
    views = rows_of(text, 'Views never seen')
    unseen = result.run('views', 'step').metrics['unseen']['correct']['action']['top1']
    assert views['STEP'][1] == f'{100 * unseen:.1f}'


def test_best_figure_is_bold(light_ablation):
    result, _ = light_ablation
    run = result.run('probes', 'step')
    metrics = {**run.metrics['all']['correct']['action'], 'top1': 2.0, 'calibration_error': -1.0}
    metrics = {'all': {**run.metrics['all'], 'correct': {'action': metrics}}}
    better = run.model_copy(update={'metrics': metrics})
    result = result.model_copy(update={'runs': {**result.runs, run.spec.key: better}})
    grid = table_grid(result, 'probes')
    bold = {title: [] for title in grid.head}
    for row in grid.rows:
        for title, cell in zip(grid.head, row, strict=True):
            if cell.startswith('**'):
                bold[title].append(row[0])
    assert bold['top-1'] == ['STEP']
    assert bold['calibration error'] == ['STEP']
    assert not bold['parameters'] + bold['top-1, reversed'] + bold['top-1, shuffled']
    # Rows with less data do not compete with rows of all data.
    shares = {row[0]: row[1] for row in table_grid(result, 'shares').rows}
    assert shares['STEP'] == '**200.0**'
    assert not shares['Attentive, 100 %'].startswith('**')


def test_findings_that_do_not_show_are_listed(written):
    _, text = written
    part = text.split('## What the papers found')[1].split('\n## ')[0]
    assert '1 of 2 findings show on: annotations.csv.' in part
    assert '**What does not show here:** STEP is more than perfect. (nowhere)' in part
    rows = rows_of(text, 'What the papers found, and what shows here')
    assert rows['Attentive probing does not see order.'][-3:] == ['0', 'the same', 'shows']
    assert rows['STEP is more than perfect.'][-2:] == ['at least +101', '**does not show here**']
    assert 'a difference within about 33.3 points of the required one may be chance' in part
    probes = text.split('## Probing mechanisms')[1].split('\n## ')[0]
    assert '- STEP is more than perfect. (nowhere) Here: does not show here.' in probes


@pytest.mark.parametrize(
    ('at_least', 'one', 'other', 'verdict'),
    [
        (10.0, 0.9, 0.1, 'shows'),
        (10.0, 0.5, 0.4, 'shows, but may be chance'),
        (10.0, 0.5, 0.41, 'does not show here, but may be chance'),
        (10.0, 0.1, 0.9, 'does not show here'),
        (0.0, 0.51, 0.5, 'shows, but may be chance'),
        (0.0, 0.5, 0.5, 'does not show here, but may be chance'),
        (-5.0, 0.5, 0.5, 'shows, but may be chance'),
        (0.0, 0.5, None, 'cannot be judged here'),
        (None, 0.5, 0.5, 'shows'),
        (None, 0.5001, 0.5, 'does not show here'),
    ],
)
def test_findings_are_judged_by_their_points(at_least, one, other, verdict, light_ablation):
    result, _ = light_ablation
    result = changed(
        result,
        'findings.1',
        {
            **result.spec.findings[1].model_dump(mode='json'),
            'at_least': at_least,
            'equal': at_least is None,
        },
    )
    runs = dict(result.runs)
    for row, value in (('step', one), ('attentive', other)):
        run = result.run('probes', row)
        metrics = {'all': {'correct': {'action': {'clips': 18, 'top1': value}}}}
        runs[run.spec.key] = run.model_copy(update={'metrics': metrics})
    assert judge(result.model_copy(update={'runs': runs}))[1].verdict == verdict


def test_labels_are_compared_with_step(written, light_ablation):
    _, text = written
    result, _ = light_ablation
    rows = rows_of(text, 'Nearly symmetric labels one by one')
    assert list(rows)[2:] == ['brighten', 'darken']
    attentive, step = (
        result.run('probes', key).metrics['all']['correct']['action']['labels']
        for key in ('attentive', 'step')
    )
    for label in ('brighten', 'darken'):
        top1, change, taken_for, confusion, _ = rows[label]
        assert top1 == f'{100 * attentive[label]["top1"]:.1f}'
        expected = 100 * (step[label]['top1'] - attentive[label]['top1'])
        assert float(change) == pytest.approx(expected, abs=0.06)
        assert taken_for == (attentive[label]['confused_with'] or '–')
        assert confusion == f'{100 * attentive[label]["confusion"]:.1f}'


def test_links_and_picture_files_match(written):
    folder, text = written
    linked = re.findall(r'!\[[^]]*\]\(([^)]+)\)', text)
    assert sorted(folder / link for link in linked) == sorted(folder.glob('images/*'))
    kinds = ['attention', 'confusion', 'labels', 'shares-shares', 'tsne']
    assert sorted(linked) == [f'images/results-lights-{kind}.png' for kind in kinds]


def test_same_results_give_the_same_bytes(written, light_ablation, tmp_path):
    folder, text = written
    again = write_report(
        [light_ablation[0]],
        tmp_path / 'results.md',
        command=COMMAND,
        pictures=tmp_path / 'else' / 'where',
    )
    assert again.replace('else/where/', 'images/') == text
    assert (folder / 'results.md').read_text() == text
    for path in (folder / 'images').iterdir():
        assert (tmp_path / 'else' / 'where' / path.name).read_bytes() == path.read_bytes()


def test_report_names_no_folder(written, light_ablation, light_videos):
    _, text = written
    for folder in (light_videos, light_ablation[1], light_ablation[0].spec.recipe.cache.folder):
        assert str(folder.parent) not in text
    assert f'Written by `{COMMAND}`' in text
    assert '| seed | 0 |' in text


def test_several_ablations_share_one_report(light_ablation, tmp_path):
    result, _ = light_ablation
    plain_result = changed(changed(result, 'pictured', []), 'findings', [])
    other = changed(changed(plain_result, 'name', 'More of it'), 'title', 'More')
    text = write_report([plain_result, other], tmp_path / 'all.md', command=COMMAND)
    headings = re.findall(r'^#+ .*$', text, re.MULTILINE)
    assert headings[:3] == ['# Ablations', '## Lights', '### What was run']
    assert '## More' in headings
    assert text.count(COMMAND) == 1
    assert 'images/all-more-of-it-shares-shares.png' in text


def test_html_holds_text_and_pictures(written):
    folder, text = written
    page = html_report(text, folder)
    assert page.count('src="data:image/png;base64,') == 5
    assert 'images/' not in re.sub(r'src="data:[^"]+"', '', page)
    assert '<title>Lights</title>' in page
    assert page.count('<table>') == text.count('\n| ---')
    assert '**' not in re.sub(r'"data:[^"]+"', '', page)


def test_html_escapes_markup(tmp_path):
    page = html_report('# A <b>& c\n\n<script>alert(1)</script>\n', tmp_path)
    assert '<script>' not in page
    assert '<title>A &lt;b&gt;&amp; c</title>' in page


@pytest.mark.parametrize('name', ['a|b', 'open [lid](x)', '*stars*', '<b>', r'back\slash', 'a_b'])
def test_names_keep_their_characters(name):
    from markdown_it import MarkdownIt

    grid = Grid(head=('', 'x'), rows=((plain(name), '1'),))
    parser = MarkdownIt('commonmark').enable('table')
    tokens = parser.parse(grid.markdown())
    cells = [token for token in tokens if token.type == 'inline']
    assert len(cells) == 4
    assert ''.join(child.content for child in cells[2].children) == name


def test_file_names_are_lower_case_words():
    assert file_name('IKEA ASM / verbs') == 'ikea-asm-verbs'
    assert file_name('../..') == 'ablation'


def on_ikea(result):
    result = changed(result, 'recipe.data.dataset', 'ikea-asm')
    backbone = {'name': 'vit_base_patch14_dinov2.lvd142m'}
    return changed(result, 'recipe.backbone', backbone)


def test_papers_figures_are_beside_ours(light_ablation):
    grid = table_grid(on_ikea(light_ablation[0]), 'probes')
    place = grid.head.index('top-1, paper')
    assert grid.head[place - 1] == 'top-1'
    printed = {row[0]: row[place] for row in grid.rows}
    assert printed == {
        'Linear probing': '–',
        'Attentive probing': '65.8',
        'Self-attention probing': '–',
        'STEP': '76.3',
    }
    assert grid.notes == ("The papers' figures: step-long/Table 1 (DINOv2 ViT-B/14).",)


def test_other_datasets_have_no_papers_figures(light_ablation):
    grid = table_grid(light_ablation[0], 'probes')
    assert not any('paper' in title for title in grid.head)
    assert grid.notes == ()
    assert label_figures(light_ablation[0].spec) == {}


def test_figure_of_another_backbone_is_not_shown(light_ablation):
    spec = changed(light_ablation[0], 'recipe.data.dataset', 'ikea-asm').spec
    table = spec.tables['probes']
    assert paper_figure(spec, table, table.rows['step'], table.columns[1]) is None


def test_drive_and_act_labels_have_papers_figures(light_ablation):
    figures = label_figures(
        changed(light_ablation[0], 'recipe.data.dataset', 'drive-and-act').spec
    )
    bottle = figures['closing_bottle']
    assert (bottle.top1, bottle.top1_change) == (17, 29)
    assert (bottle.confusion, bottle.confusion_change) == (60, -20)
    assert len(figures) == 20


@pytest.mark.parametrize(
    ('place', 'value', 'reason'),
    [
        ('published', ['step-long/Table 99'], 'tables.probes: published'),
        ('published', ['paper/Table 1'], "source 'paper' is unknown"),
        ('rows.step.published', 'stepp', "'stepp' is no row of step-long/Table 1"),
        ('columns.1.published', 'top-1', "top-1: published 'top-1': expected one of top1"),
    ],
)
def test_unknown_papers_figures_are_refused(place, value, reason, light_ablation):
    with pytest.raises(PublishedFiguresError, match=re.escape(reason)):
        check_published(changed(light_ablation[0], f'tables.probes.{place}', value).spec)


def test_known_papers_figures_are_accepted(light_content, tmp_path):
    (tmp_path / 'lights.yaml').write_text(yaml.safe_dump(light_content()))
    check_published(load_ablation(tmp_path / 'lights.yaml'))
