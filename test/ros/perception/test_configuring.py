# SPDX-License-Identifier: Apache-2.0
"""Configuring: the node stays responsive, says how far it is, and keeps a failure's reason."""

import signal
import threading

import pytest
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState

from step_ros.ros.perception import model_loading


@pytest.fixture
def slow_bundle(monkeypatch):
    """An event without which no bundle is loaded: it stands for a slow disk."""
    release = threading.Event()
    load = model_loading.load_bundle

    def waiting(*arguments, **options):
        assert release.wait(60)
        return load(*arguments, **options)

    monkeypatch.setattr(model_loading, 'load_bundle', waiting)
    yield release
    release.set()


def request(user, transition):
    """Request a transition without waiting for the response."""
    client = user.make(lambda: user.node.create_client(ChangeState, '/perception/change_state'))
    user.wait_for(client.service_is_ready, 'the service')
    return client.call_async(ChangeState.Request(transition=Transition(id=transition)))


def test_configuring_node_serves_and_says_how_far_it_is(managed_node, user, slow_bundle):
    managed_node()
    response = request(user, Transition.TRANSITION_CONFIGURE)
    status = user.wait_for_words('node', 'configuring: 1/3, loading the bundle', 's so far')
    assert status.level == status.OK
    assert user.state == State.PRIMARY_STATE_UNCONFIGURED
    assert user.set(top_k=2) == ''
    assert not response.done()
    slow_bundle.set()
    user.wait_for(response.done, 'the response')
    assert response.result().success
    assert user.state == State.PRIMARY_STATE_INACTIVE
    user.wait_for_words('node', 'inactive')


def test_repeated_request_joins_the_first(managed_node, user, slow_bundle):
    managed_node()
    responses = [request(user, Transition.TRANSITION_CONFIGURE) for _ in range(2)]
    user.wait_for_words('node', 'configuring')
    slow_bundle.set()
    user.wait_for(lambda: all(each.done() for each in responses), 'both responses')
    assert [each.result().success for each in responses] == [True, True]
    assert user.state == State.PRIMARY_STATE_INACTIVE


def test_shutdown_while_configuring_wins(managed_node, user, slow_bundle):
    managed_node()
    response = request(user, Transition.TRANSITION_CONFIGURE)
    user.wait_for_words('node', 'configuring')
    assert user.change(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    slow_bundle.set()
    user.wait_for(response.done, 'the response')
    assert not response.result().success
    assert user.state == State.PRIMARY_STATE_FINALIZED


def test_failed_configure_stays_in_diagnostics(managed_node, user, tiny_bundle):
    managed_node(bundle='/no/such/bundle')
    assert not user.change(Transition.TRANSITION_CONFIGURE)
    status = user.wait_for_words('node', 'not configured', '/no/such/bundle')
    assert status.level == status.ERROR
    assert not user.change(Transition.TRANSITION_CONFIGURE)
    user.statuses.clear()
    assert user.wait_for_words('node', '/no/such/bundle').level == status.ERROR
    assert user.set(bundle=str(tiny_bundle.path)) == ''
    assert user.change(Transition.TRANSITION_CONFIGURE)
    user.statuses.clear()
    assert user.wait_for_words('node', 'inactive').level == status.OK


def test_failed_activation_stays_in_diagnostics(managed_node, user):
    managed_node(fusion='mean')
    assert user.change(Transition.TRANSITION_CONFIGURE)
    user.change(Transition.TRANSITION_ACTIVATE)
    status = user.wait_for_words('node', 'not activated: fusion=mean')
    assert status.level == status.ERROR
    assert user.change(Transition.TRANSITION_CLEANUP)
    user.statuses.clear()
    assert user.wait_for_words('node', 'unconfigured').level == status.OK


@pytest.mark.parametrize('executor', ['auto', 'single'])
def test_interrupted_while_configuring_ends_at_once(executor, user, tiny_bundle, start_node):
    process = start_node(
        'perception_node',
        executor=executor,
        bundle=str(tiny_bundle.path),
        image_topics=['/camera/image_raw'],
        autostart=True,
    )
    user.wait_for(
        lambda: user.statuses and user.status('node').message != 'unconfigured',
        'the node to configure itself',
        60,
    )
    assert process.end(signal.SIGINT) == 0, process.output
    assert 'Traceback' not in process.output
    assert 'configuring: 1/3' in process.output


def test_each_transition_logs_a_line(user, tiny_bundle, start_node):
    process = start_node(
        'perception_node',
        bundle=str(tiny_bundle.path),
        image_topics=['/camera/image_raw'],
        autostart=False,
    )
    for transition in (
        Transition.TRANSITION_CONFIGURE,
        Transition.TRANSITION_ACTIVATE,
        Transition.TRANSITION_DEACTIVATE,
        Transition.TRANSITION_CLEANUP,
        Transition.TRANSITION_UNCONFIGURED_SHUTDOWN,
    ):
        assert user.change(transition)
    assert process.end() == 0
    for words in ('configured: ', 'active: ', 'deactivated: ', 'cleaned up: ', 'shut down: '):
        assert process.output.count(f']: {words}') == 1, (words, process.output)


def test_typing_error_in_a_parameter_name_is_logged(user, start_node):
    process = start_node('perception_node', autostart=False, bundel='mine')
    user.wait_for(lambda: user.statuses, 'the node', 60)
    assert process.end() == 0
    assert "parameter 'bundel' is ignored" in process.output
    assert "the nearest is 'bundle'" in process.output
