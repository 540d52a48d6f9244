# SPDX-License-Identifier: Apache-2.0
"""`step_ros bundle export` as a user runs it."""

import pytest
import yaml
from typer.testing import CliRunner

from step_ros.cli.bundle import app
from step_ros.reporting.installation import how_to_install

pytestmark = pytest.mark.slow


def export(*arguments):
    return CliRunner().invoke(app, ['export', *map(str, arguments)], env={'COLUMNS': '120'})


def test_int8_is_written_with_its_cost(tmp_path):
    pytest.importorskip('nncf', reason='NNCF is not installed')
    folder = tmp_path / 'int8'
    done = export('tabletop-tiny', '--int8', '--frames', 20, '--clips', 1, '--output', folder)
    assert done.exit_code == 0, done.output
    for text in (
        'int8:',
        'action: symmetric_top1',
        'verb: within_pair',
        'time for an image, OpenVINO',
    ):
        assert text in done.output
    measured = yaml.safe_load((folder / 'encoder.yaml').read_text())['measured']
    assert measured['clips'] == 16
    assert measured['accuracy'].keys() == {'action', 'verb', 'object'}
    for metrics in measured['accuracy'].values():
        assert metrics['top1']['float32'] >= 0.7
        assert abs(metrics['top1']['int8'] - metrics['top1']['float32']) <= 2 / 16 + 1e-3
    assert measured['ms']['int8'] > 0


def test_an_export_goes_into_the_bundles_folder(
    tiny_bundle, tiny_model, save_tiny_bundle, tmp_path
):
    pytest.importorskip('openvino', reason='OpenVINO is not installed')
    save_tiny_bundle(tmp_path / 'tiny', tiny_model())
    done = export(tmp_path / 'tiny')
    assert done.exit_code == 0, done.output
    assert (tmp_path / 'tiny' / 'exports' / 'openvino' / 'encoder.xml').is_file()


@pytest.mark.parametrize(
    ('arguments', 'why'),
    [
        (['no-such-bundle'], 'no-such-bundle'),
        (['tabletop-tiny', '--format', 'tensorrt'], 'expected one of openvino, onnx'),
        (['tabletop-tiny', '--format', 'onnx', '--int8'], 'int8 is made for openvino alone'),
    ],
)
def test_wrong_arguments_are_one_error_line(arguments, why, tmp_path):
    done = export(*arguments, '--output', tmp_path / 'out')
    assert done.exit_code == 1
    assert why in done.output
    assert not (tmp_path / 'out').exists()


def test_a_dataset_needs_its_folder():
    done = export('tabletop-tiny', '--int8', '--dataset', 'tabletop')
    assert done.exit_code == 2
    assert '--dataset and --root go together' in done.output


def test_a_missing_package_is_one_error_line(monkeypatch, tmp_path):
    import sys

    monkeypatch.setitem(sys.modules, 'openvino', None)
    done = export('tabletop-tiny', '--output', tmp_path / 'out')
    assert done.exit_code == 1
    assert how_to_install('openvino') in done.output
    assert not (tmp_path / 'out').exists()
