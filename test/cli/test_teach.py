# SPDX-License-Identifier: Apache-2.0
"""`step_ros record`, `teach` and `teach-curve` as a user runs them, on the model that ships."""

import json

import pytest
from typer.testing import CliRunner

from step_ros.cli import app
from step_ros.model.bundle import load_bundle

pytestmark = pytest.mark.slow

PAIR = ('slide cup left', 'slide cup right')


def run(command, *arguments):
    result = CliRunner().invoke(app, [command, *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, ' '.join(result.output.split())


@pytest.fixture(scope='module')
def examples(tmp_path_factory):
    """Record examples from the tabletop."""
    folder = tmp_path_factory.mktemp('examples')
    labels = [word for label in PAIR for word in ('--label', label)]
    given = (folder, '--camera', 'demo', *labels, '--seconds', 5, '--task', 'cup')
    assert run('record', *given, '--takes', 3)[0] == 0
    assert run('record', *given, '--takes', 2, '--split', 'test')[0] == 0
    return folder


def test_recorded_examples_become_a_task_of_a_bundle(examples, tmp_path):
    output, figures = tmp_path / 'taught', tmp_path / 'out' / 'metrics.json'
    given = ('tabletop-tiny', examples, '--output', output, '--pair', '='.join(PAIR))
    code, printed = run('teach', *given, '--json', figures)
    assert code == 0, printed
    bundle = load_bundle(output)
    assert bundle.spec.tasks[-1].counterparts == dict([PAIR, PAIR[::-1]])
    assert f'wrote {bundle.model_id}' in printed
    metrics = json.loads(figures.read_text())
    assert metrics == bundle.spec.metrics['taught']['cup']
    assert metrics['test']['symmetric_top1'] >= 0.75
    code, printed = run('teach', *given)
    assert code == 1
    assert 'a bundle is not written over' in printed


@pytest.mark.parametrize(
    ('arguments', 'why'),
    [
        (('nothing', '{examples}'), "bundle 'nothing' is neither a folder nor one of"),
        (('tabletop-tiny', '{empty}'), 'annotations.csv: there is no such file'),
        (('tabletop-tiny', '{examples}', '--task', 'lid'), "no task 'lid'; the examples have cup"),
        (('tabletop-tiny', '{examples}', '--dataset', 'cvs'), "dataset 'cvs'"),
        (('{headless}', '{examples}'), 'backbone.safetensors do not exist'),
    ],
)
def test_wrong_arguments_are_refused(examples, tmp_path, tiny_bundle, arguments, why):
    (tmp_path / 'empty').mkdir()
    # A bundle without its encoder.
    headless = tmp_path / 'headless'
    headless.mkdir()
    for name in ('bundle.yaml', 'heads.safetensors'):
        (headless / name).write_bytes((tiny_bundle.path / name).read_bytes())
    places = {'examples': examples, 'empty': tmp_path / 'empty', 'headless': headless}
    given = [argument.format(**places) for argument in arguments]
    code, printed = run('teach', *given, '--output', tmp_path / 'taught')
    assert code == 1
    assert why in printed
    assert not (tmp_path / 'taught').exists()


@pytest.mark.parametrize('pair', ['slide cup left', 'a=', 'a=b,a=c'])
def test_a_pair_is_two_labels(examples, tmp_path, pair):
    pairs = [word for part in pair.split(',') for word in ('--pair', part)]
    code, printed = run('teach', 'tabletop-tiny', examples, '--output', tmp_path / 'x', *pairs)
    assert code == 2
    assert 'expected A=B, each A once' in printed
