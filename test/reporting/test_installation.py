# SPDX-License-Identifier: Apache-2.0
"""What is missing is named with a command that works on this kind of installation."""

from pathlib import Path

import pytest

from step_ros.reporting.installation import (
    Installation,
    file_of,
    find_installation,
    how_to_install,
    parse_requirement,
    read_requirements,
    version_key,
)

ROOT = Path(__file__).parents[2]
# Top modules of requirements/*.txt, with the file that names their package.
MODULES = {
    'torch': 'core',
    'cv2': 'core',
    'yaml': 'core',
    'timm.models': 'core',
    'torchmetrics': 'train',
    'sklearn': 'train',
    'rosbags.highlevel': 'train',
    'markdown_it': 'train',
    'PIL': 'train',
    'tensorboard': 'train',
    'openvino': 'openvino',
    'nncf': 'openvino',
    'onnxscript': 'onnx',
}


@pytest.fixture
def package(tmp_path):
    """Make the folder of an installed package."""
    folder = tmp_path / 'lib' / 'site-packages' / 'step_ros'
    folder.mkdir(parents=True)
    return folder


def workspace(tmp_path, *, requirements=True):
    share = tmp_path / 'install' / 'share' / 'step_ros'
    (share / 'requirements').mkdir(parents=True)
    (share / 'package.xml').touch()
    for name in ('core', 'train', 'openvino') if requirements else ():
        text = (ROOT / 'requirements' / f'{name}.txt').read_text()
        (share / 'requirements' / f'{name}.txt').write_text(text)
    return share


def test_an_environment_of_make_demo_advises_make_setup(tmp_path, package):
    prefix = tmp_path / 'checkout' / '.venv'
    prefix.mkdir(parents=True)
    (prefix / 'step_ros_setup.packages_demo').touch()
    found = find_installation(package=package, prefix=prefix, environ={})
    assert found.kind == 'make'
    assert how_to_install('rosbags', found) == (
        f'install it: run `make setup` in {tmp_path / "checkout"}'
    )
    assert '`make setup`' in how_to_install('rclpy', found)


def test_a_workspace_of_colcon_advises_without_rosdep(tmp_path, package):
    share = workspace(tmp_path)
    environ = {'AMENT_PREFIX_PATH': f'/opt/ros/jazzy:{tmp_path / "install"}'}
    found = find_installation(package=package, prefix=tmp_path, environ=environ)
    assert found.kind == 'colcon'
    advice = how_to_install('rosbags', found)
    assert advice.endswith(f'pip install -r {share}/requirements/without-rosdep.txt')
    advice = how_to_install('openvino', found)
    assert advice.endswith(f'pip install -r {share}/requirements/openvino.txt')
    assert 'colcon build' in how_to_install('step_ros.msg', found)
    assert 'step_ros[' not in advice


def test_a_checkout_advises_its_own_requirements(tmp_path):
    (tmp_path / 'package.xml').touch()
    (tmp_path / 'requirements').mkdir()
    text = (ROOT / 'requirements' / 'train.txt').read_text()
    (tmp_path / 'requirements' / 'train.txt').write_text(text)
    package = tmp_path / 'step_ros'
    found = find_installation(package=package, prefix=tmp_path / 'usr', environ={})
    assert found == Installation('checkout', tmp_path)
    advice = how_to_install('torchmetrics', found)
    assert advice.endswith(f'pip install -r {tmp_path}/requirements/train.txt')


def test_an_installation_by_pip_advises_its_extra(tmp_path, package):
    found = find_installation(package=package, prefix=tmp_path, environ={})
    assert found.kind == 'pip'
    found = Installation('pip', None)
    assert how_to_install('onnx', found).endswith("pip install 'step_ros[onnx]'")
    found = Installation('pip', tmp_path / 'sources')
    advice = how_to_install('openvino', found)
    assert advice.endswith(f"pip install '{tmp_path}/sources[openvino]'")


def test_a_stale_build_is_named_as_such(tmp_path):
    advice = how_to_install('step_ros.files', Installation('make', tmp_path))
    assert advice.startswith('the installed package is older')


@pytest.mark.parametrize('module', MODULES)
def test_module_belongs_to_the_file_that_names_its_package(module):
    assert file_of(module, Installation('checkout', ROOT)) == MODULES[module]


def test_every_line_of_the_requirements_is_read():
    found = {each.package: each for each in read_requirements(Installation('checkout', ROOT))}
    assert found['torch'].minimum == '2.2'
    assert found['opencv-python-headless'].below == '5'
    assert found['torchvision'].file == 'train'
    assert len(found) > 20


def test_comments_and_options_are_no_requirements():
    assert parse_requirement('# numpy>=2', 'core') is None
    assert parse_requirement('-r core.txt', 'core') is None
    assert parse_requirement("triton; sys_platform == 'never'", 'core').package == 'triton'
    assert parse_requirement('mkdocstrings[python]>=0.26', 'docs').minimum == '0.26'


def test_versions_compare_by_their_numbers():
    assert version_key('2.10.1+cpu') > version_key('2.9')
    assert version_key('2.0') == version_key('2')
    assert version_key('1.0rc1') == (1,)
    assert version_key('unknown') == ()
