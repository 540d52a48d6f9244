# SPDX-License-Identifier: Apache-2.0
"""Settings of the perception node: bad ones are rejected, and good ones work afterwards."""

import pytest
from lifecycle_msgs.msg import State, Transition
from rclpy.parameter import Parameter

from step_ros.streaming.frame_timer import FrameTimer


def test_good_bundle_works_after_a_bad_one(managed_node, user, tiny_bundle, tmp_path):
    (tmp_path / 'bundle.yaml').write_text('format: 1\n')
    node = managed_node(bundle=str(tmp_path))
    assert not user.change(Transition.TRANSITION_CONFIGURE)
    assert user.state == State.PRIMARY_STATE_UNCONFIGURED
    node.set_parameters([Parameter('bundle', value=str(tiny_bundle.path))])
    assert user.change(Transition.TRANSITION_CONFIGURE)
    assert user.change(Transition.TRANSITION_ACTIVATE)


@pytest.mark.parametrize(
    'parameters',
    [
        {'image_topics': ['/a', '/b']},
        {'device': 'abacus'},
        {'max_gap': 0.05},
        {'bundle': 'no-such-bundle'},
    ],
)
def test_bad_settings_fail_to_configure(managed_node, user, parameters):
    managed_node(**parameters)
    assert not user.change(Transition.TRANSITION_CONFIGURE)
    assert user.state == State.PRIMARY_STATE_UNCONFIGURED


def test_failed_transition_leaves_the_node_unconfigured(managed_node, user, monkeypatch):
    def break_down(*_):
        raise RuntimeError('out of memory')

    managed_node()
    monkeypatch.setattr(FrameTimer, 'run', break_down)
    assert not user.change(Transition.TRANSITION_CONFIGURE)
    assert user.state == State.PRIMARY_STATE_UNCONFIGURED
    monkeypatch.undo()
    assert user.change(Transition.TRANSITION_CONFIGURE)


def test_ranges_and_choices_are_enforced(managed_node, user):
    node = managed_node()
    for name, value in [('top_k', 0), ('max_gap', -1.0), ('transport', 'pigeon')]:
        (result,) = node.set_parameters([Parameter(name, value=value)])
        assert not result.successful
        assert result.reason


def test_value_out_of_range_ends_the_process_with_one_line(start_node):
    process = start_node('perception_node', top_k=0)
    assert process.wait() == 1
    assert 'top_k' in process.output
    assert 'Traceback' not in process.output
