# SPDX-License-Identifier: Apache-2.0
"""`step_ros record-demo` and `step_ros replay`: the round trip on the tabletop."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from step_ros.cli import app
from step_ros.resources import load_defaults

pytestmark = pytest.mark.slow


def call(*arguments):
    return CliRunner().invoke(
        app, list(map(str, arguments)), env={'COLUMNS': '160'}, catch_exceptions=False
    )


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    """Record a test bag of two cameras, compressed, and a training bag of none."""
    folder = tmp_path_factory.mktemp('demo') / 'bags'
    result = call(
        *('record-demo', folder, '--format', 'sqlite3', '--seconds', 8, '--train', 0),
        *('--view', 'front', '--view', 'side', '--compressed', '--seed', 2),
        *('--width', 160, '--height', 120),
    )
    assert result.exit_code == 0, result.output
    return folder


def test_the_shipped_bundle_recognises_the_tabletop(demo, tmp_path):
    result = call('replay', demo / 'test', '--labels', '/truth', '--out', tmp_path)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / 'report.json').read_text())
    assert [each['camera'] for each in report['recordings']] == [
        '/front/image_raw/compressed',
        '/side/image_raw/compressed',
    ]
    action = report['overall']['tabletop-tiny']['action']
    assert action['settled_windows']['top1'] >= 0.8
    assert action['events']['told'] >= action['events']['actions'] / 2
    for name, value in load_defaults('perception.yaml').items():
        if name in report['settings'] and name not in ('device', 'threads'):
            assert report['settings'][name] == value, name
    assert result.output.index('True labels: /truth.') < result.output.index('accuracy')
    for text in ('symmetric accuracy', 'segmental F1@50', 'detection delay', 'report.html'):
        assert text in result.output


def test_a_bad_bag_is_named_at_the_end_with_exit_1(demo, tmp_path):
    shutil.copytree(demo / 'test' / 'scene_002', tmp_path / 'good')
    (tmp_path / 'bad').mkdir()
    out = tmp_path / 'out'
    result = call('replay', tmp_path / 'bad', tmp_path / 'good', '--out', out)
    assert result.exit_code == 1
    assert 'bad: no bag: metadata.yaml is missing' in result.output
    assert '1 of 2 bags failed' in result.output
    assert len(json.loads((out / 'report.json').read_text())['recordings']) == 2


def test_options_override_the_file_which_overrides_defaults(demo, tmp_path):
    params = tmp_path / 'params.yaml'
    params.write_text(
        '/perception:\n  ros__parameters: {on_threshold: 0.7, minimum_gap: 0.9, top_k: 1}\n'
    )
    result = call(
        *('replay', demo / 'test', '--out', tmp_path / 'out', '--params-file', params),
        *('--on-threshold', 0.8, '--topic', '/side/image_raw/compressed'),
    )
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / 'out' / 'report.json').read_text())
    settings = report['settings']
    assert (settings['on_threshold'], settings['minimum_gap']) == (0.8, 0.9)
    assert len(report['recordings']) == 1


@pytest.mark.parametrize(
    ('arguments', 'why'),
    [
        (('--on-threshold', 0.2), 'off_threshold=0.4 is above on_threshold=0.2'),
        (('--bundle', 'nowhere'), "bundle 'nowhere' is neither"),
        (('--device', 'abacus'), "device 'abacus'"),
        (('--labels', 'nowhere.csv'), 'nowhere.csv: there is no such file'),
        (('--params-file', 'nowhere.yaml'), 'nowhere.yaml: no ROS parameter file'),
        (('--against', 'nowhere.json'), 'nowhere.json'),
        (('--against', 'some.json', '--online'), '--online and --against'),
    ],
)
def test_wrong_arguments_are_refused(demo, tmp_path, arguments, why):
    result = call('replay', demo / 'test', '--out', tmp_path, *arguments)
    assert result.exit_code == 1
    assert why in result.output
    assert not (tmp_path / 'report.json').exists()


@pytest.mark.parametrize(
    ('content', 'why'),
    [
        ('{a: {ros__parameters: {hat: 1}}}', "no parameter 'hat'"),
        ('{a: {ros__parameters: {top_k: many}}}', "top_k: 'many'; expected a value like 3"),
        ('[]', 'no ROS parameter file'),
    ],
)
def test_an_invalid_parameter_file_is_refused(demo, tmp_path, content, why):
    params = tmp_path / 'params.yaml'
    params.write_text(content)
    result = call('replay', demo, '--out', tmp_path / 'out', '--params-file', params)
    assert result.exit_code == 1
    assert why in result.output


def test_the_output_of_a_node_is_compared(demo, tmp_path):
    from step_ros.replay.node_output import NodeOutput

    recorded = tmp_path / 'online.json'
    NodeOutput(model_id='', hypotheses=[], events=[], tallies={}).save(recorded)
    out = tmp_path / 'out'
    result = call('replay', demo / 'test', '--out', out, '--against', recorded)
    # The node received nothing and published nothing.
    assert result.exit_code == 1
    assert 'node and replay do not agree on 0 hypotheses' in result.output
    agreement = json.loads((out / 'agreement.json').read_text())
    assert not agreement['agrees']
    assert [each['received'] for each in agreement['recordings']] == [0, 0]
    assert '## Through DDS' in (out / 'report.md').read_text()
    # The output of a node is about one bag and one bundle.
    two = tmp_path / 'two'
    shutil.copytree(demo / 'test', two / 'a')
    shutil.copytree(demo / 'test', two / 'b')
    result = call('replay', two, '--out', out, '--against', recorded)
    assert result.exit_code == 1
    assert 'one bag with one bundle; replayed: 2' in result.output
    # The next replay has no comparison.
    assert call('replay', demo / 'test', '--out', out).exit_code == 0
    assert not (out / 'agreement.json').exists()


def test_record_demo_does_not_overwrite_a_bag(demo):
    result = call('record-demo', demo, '--train', 0, '--seed', 2)
    assert result.exit_code == 1
    assert 'exists; choose another folder' in result.output
