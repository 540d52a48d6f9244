# SPDX-License-Identifier: Apache-2.0
"""Environment variables that stop every node of ROS 2 are refused in one line."""

from pathlib import Path

import pytest

from step_ros.reporting.environment import (
    RosEnvironmentError,
    check_folder,
    check_ros_environment,
    log_folder,
    read_domain,
)


@pytest.mark.parametrize('text', ['abc', '233', '-1', '1.5', '1e2', '٣', '9' * 30, '0x10'])
def test_a_wrong_domain_is_named_with_the_mend(text):
    with pytest.raises(RosEnvironmentError) as raised:
        read_domain({'ROS_DOMAIN_ID': text})
    message = str(raised.value)
    assert repr(text) in message
    assert 'from 0 to 232' in message
    assert '\n' not in message


def test_a_domain_without_a_choice_is_0():
    assert read_domain({}) == read_domain({'ROS_DOMAIN_ID': ''}) == 0
    assert read_domain({'ROS_DOMAIN_ID': '232'}) == 232


def test_logs_need_a_home_or_a_folder_of_their_own(tmp_path):
    for environ in ({}, {'HOME': ''}):
        with pytest.raises(RosEnvironmentError, match=r'HOME is not set.*ROS_LOG_DIR'):
            check_ros_environment(environ)
    check_ros_environment({'ROS_LOG_DIR': str(tmp_path)})
    assert log_folder({'HOME': '/home/a'}).as_posix() == '/home/a/.ros/log'
    assert log_folder({'HOME': '/home/a', 'ROS_HOME': '~/ros'}).as_posix() == '/home/a/ros/log'


def test_a_folder_below_a_file_cannot_hold_logs(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(RosEnvironmentError, match='is not a folder; set ROS_LOG_DIR'):
        check_ros_environment({'ROS_LOG_DIR': str(tmp_path / 'file' / 'log')})


def test_a_folder_that_takes_no_file_is_refused():
    with pytest.raises(RosEnvironmentError, match='cannot write to /proc'):
        check_folder(Path('/proc/none/below'), 'logs', 'choose another')


def test_checking_a_folder_leaves_nothing(tmp_path):
    check_folder(tmp_path / 'a' / 'b', 'logs', 'choose another')
    assert list(tmp_path.iterdir()) == []
