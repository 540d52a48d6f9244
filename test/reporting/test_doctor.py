# SPDX-License-Identifier: Apache-2.0
"""Each fault that the doctor knows is found, in words, with its mend."""

from importlib.metadata import PackageNotFoundError

import pytest

from step_ros.reporting.doctor import (
    DINOV2,
    folder_findings,
    hub_cache,
    hub_findings,
    installed_middlewares,
    machine_findings,
    middleware_findings,
    package_findings,
    ros_findings,
    shared_memory_findings,
)
from step_ros.reporting.installation import Requirement

GIBIBYTE = 2**30
TORCH = Requirement('torch', '2.2', '', 'core')
OPENCV = Requirement('opencv-python-headless', '4.6', '5', 'core')
ROSBAGS = Requirement('no-such-package', '0.11', '', 'train')
DEV = Requirement('no-such-checker', '8', '', 'dev')


def faults(findings):
    """Return what is not well; every fault names its mend, in it or beside it."""
    found = [finding for finding in findings if finding.level in ('warning', 'error')]
    assert all(finding.mend or ';' in finding.text for finding in found)
    return found


def only(findings):
    (found,) = faults(findings)
    return found


def installed(**versions):
    def version_of(package):
        if package not in versions:
            raise PackageNotFoundError(package)
        return versions[package]

    return version_of


def packages(requirements, *, why='', **versions):
    return package_findings(list(requirements), installed(**versions), cv_bridge_error=lambda: why)


def test_a_sound_machine_has_no_fault():
    assert not faults(machine_findings(system='Linux', memory=8 * GIBIBYTE, python=(3, 12)))


def test_little_memory_is_a_warning():
    found = only(machine_findings(system='Linux', memory=GIBIBYTE))
    assert (found.level, found.text) == ('warning', 'only 1.0 GiB of memory are free')


def test_an_old_python_stops_work():
    assert only(machine_findings(system='Linux', python=(3, 8))).level == 'error'


def test_a_wrong_domain_stops_work():
    found = only(middleware_findings({'ROS_DOMAIN_ID': 'abc'}))
    assert found.level == 'error'
    assert "'abc'" in found.text


def test_a_domain_of_shared_ports_is_a_warning():
    found = only(middleware_findings({'ROS_DOMAIN_ID': '150'}))
    assert (found.level, found.mend) == ('warning', 'choose a domain from 0 to 101')


@pytest.fixture
def prefix(tmp_path):
    """Make a prefix with one middleware."""
    index = tmp_path / 'share/ament_index/resource_index/rmw_typesupport'
    index.mkdir(parents=True)
    (index / 'rmw_fastrtps_cpp').touch()
    return str(tmp_path)


def test_a_middleware_that_is_not_installed_stops_work(prefix):
    environ = {'AMENT_PREFIX_PATH': prefix, 'RMW_IMPLEMENTATION': 'rmw_cyclonedds_cpp'}
    found = only(middleware_findings(environ))
    assert found.level == 'error'
    assert 'rmw_fastrtps_cpp' in found.text
    assert 'ros-DISTRO-rmw-cyclonedds-cpp' in found.mend


def test_an_installed_middleware_is_no_fault(prefix):
    environ = {'AMENT_PREFIX_PATH': prefix, 'RMW_IMPLEMENTATION': 'rmw_fastrtps_cpp'}
    assert 'rmw_fastrtps_cpp' in installed_middlewares(environ)
    assert not faults(middleware_findings(environ))


@pytest.mark.parametrize('value', ['everywhere', 'OFF', 'localhost'])
def test_a_discovery_range_that_finds_nobody_is_a_warning(value):
    found = only(middleware_findings({'ROS_AUTOMATIC_DISCOVERY_RANGE': value}))
    assert found.level == 'warning'
    assert value in found.text


def test_small_shared_memory_is_a_warning(tmp_path):
    found = only(shared_memory_findings(tmp_path, size=64 * 2**20, free=64 * 2**20))
    assert '64 MiB' in found.text
    assert '--shm-size' in found.mend


def test_full_shared_memory_is_a_warning(tmp_path):
    found = only(shared_memory_findings(tmp_path, size=GIBIBYTE, free=0))
    assert 'fastrtps_' in found.mend


def test_missing_shared_memory_is_a_warning(tmp_path):
    assert 'is missing' in only(shared_memory_findings(tmp_path / 'none')).text


def test_large_shared_memory_is_no_fault(tmp_path):
    assert not faults(shared_memory_findings(tmp_path, size=GIBIBYTE, free=GIBIBYTE))


def test_an_old_package_of_the_core_stops_work():
    found = only(packages([TORCH], torch='2.1.2+cpu'))
    assert (found.level, found.text) == ('error', 'torch 2.1.2+cpu is too old: expected >=2.2')
    assert found.mend == "python3 -m pip install 'torch>=2.2'"


def test_a_package_that_is_too_new_stops_work():
    found = only(packages([OPENCV], **{'opencv-python-headless': '5.0.0'}))
    assert 'too new: expected <5' in found.text


def test_opencv_counts_under_its_other_names():
    assert not faults(packages([OPENCV], **{'opencv-python': '4.8.0'}))


def test_a_missing_package_of_the_core_stops_work():
    found = only(packages([Requirement('no-such-package', '1', '', 'core')]))
    assert found.level == 'error'
    assert 'install' in found.mend


def test_a_missing_package_of_training_is_a_note():
    notes = [each for each in packages([ROSBAGS, DEV]) if each.level == 'note']
    (note,) = notes
    assert note.text.startswith('no-such-package is not installed; the verbs train')


def test_numpy_2_beside_a_cv_bridge_for_numpy_1_stops_work():
    found = only(packages([], why='_ARRAY_API not found', numpy='2.1.0'))
    assert found.level == 'error'
    assert 'numpy 2.1.0' in found.text
    assert found.mend.endswith("'numpy<2'")


def test_a_cv_bridge_that_loads_is_no_fault():
    assert not faults(packages([], numpy='2.1.0'))


def test_ros_without_our_messages_stops_work():
    found = only(ros_findings(lambda name: object() if name == 'rclpy' else None))
    assert found.level == 'error'
    assert 'not built or not sourced' in found.text


def test_no_ros_is_a_note():
    (found,) = ros_findings(lambda name: None)
    assert found.level == 'note'
    assert found.mend


def test_no_home_stops_nodes():
    levels = [each.level for each in faults(folder_findings({}))]
    assert levels == ['warning', 'error']


def test_a_log_folder_that_takes_no_file_stops_nodes(tmp_path):
    environ = {'HOME': str(tmp_path), 'ROS_LOG_DIR': '/proc/none'}
    assert 'ROS_LOG_DIR' in only(folder_findings(environ)).text


def test_missing_weights_are_a_note(tmp_path):
    environ = {'HF_HOME': str(tmp_path)}
    assert not faults(hub_findings(environ))
    assert 'note' in [each.level for each in hub_findings(environ)]
    assert only(hub_findings({**environ, 'HF_HUB_OFFLINE': '1'})).level == 'warning'


def test_weights_in_the_cache_are_found(tmp_path):
    folder = tmp_path / 'hub' / DINOV2 / 'snapshots' / 'abc'
    folder.mkdir(parents=True)
    (folder / 'model.safetensors').touch()
    assert [each.level for each in hub_findings({'HF_HOME': str(tmp_path)})] == ['ok', 'ok']


def test_the_cache_of_the_hub_follows_its_variables():
    assert hub_cache({}) is None
    assert hub_cache({'HOME': '/home/a'}).as_posix() == '/home/a/.cache/huggingface/hub'
    assert hub_cache({'HF_HOME': '/data', 'HOME': '/home/a'}).as_posix() == '/data/hub'


def test_a_hub_cache_that_takes_no_file_is_a_warning():
    assert 'HF_HOME' in only(hub_findings({'HF_HOME': '/proc/none'})).text
