# SPDX-License-Identifier: Apache-2.0
"""What the node holds on to: nothing of a session or a model once they are over."""

import gc
import weakref

import pytest
from lifecycle_msgs.msg import State, Transition

from step_ros.ros.perception import model_loading, pipeline
from step_ros.ros.perception import node as node_module
from step_ros.streaming.settings import StreamSettings

TOPIC = '/camera/image_raw'


@pytest.fixture
def made(monkeypatch):
    """Weak references to recognisers, encoders, workers and sessions, by kind, as they are made.

    The garbage collector is off meanwhile: only reference counting may free them.
    """
    references = {'recogniser': [], 'encoder': [], 'worker': [], 'session': [], 'bundle': []}

    def watch(kind, make):
        def making(*arguments, **options):
            thing = make(*arguments, **options)
            references[kind].append(weakref.ref(thing))
            return thing

        return making

    monkeypatch.setattr(
        StreamSettings, 'recogniser', watch('recogniser', StreamSettings.recogniser)
    )
    monkeypatch.setattr(
        model_loading, 'create_encoder', watch('encoder', model_loading.create_encoder)
    )
    monkeypatch.setattr(model_loading, 'load_bundle', watch('bundle', model_loading.load_bundle))
    monkeypatch.setattr(pipeline, 'Worker', watch('worker', pipeline.Worker))
    monkeypatch.setattr(
        node_module, 'PerceptionSession', watch('session', node_module.PerceptionSession)
    )
    gc.disable()
    yield references
    gc.enable()


def alive(made, *kinds):
    return {
        kind: sum(reference() is not None for reference in made[kind]) for kind in kinds or made
    }


def run(user, film):
    user.wait_for(film.publisher.get_subscription_count, 'the subscription')
    user.hypotheses.clear()
    film.show(4)
    user.wait_for(lambda: user.hypotheses, 'a hypothesis')


def test_deactivated_node_frees_worker_and_recogniser(made, managed_node, user):
    managed_node(region_topics=['/person/region'], overlay_attention='action')
    film = user.film()
    assert user.change(Transition.TRANSITION_CONFIGURE)
    for _ in range(3):
        assert user.change(Transition.TRANSITION_ACTIVATE)
        run(user, film)
        assert user.change(Transition.TRANSITION_DEACTIVATE)
        user.wait_for(
            lambda: not any(alive(made, 'worker', 'recogniser', 'session').values()),
            'the session to be freed by reference counting',
        )
    assert len(made['worker']) == len(made['session']) == 3


def test_cleaned_up_node_frees_model_and_encoder(made, managed_node, user):
    managed_node()
    film = user.film()
    for _ in range(3):
        user.activate(TOPIC)
        run(user, film)
        assert user.change(Transition.TRANSITION_DEACTIVATE)
        assert user.change(Transition.TRANSITION_CLEANUP)
        assert user.state == State.PRIMARY_STATE_UNCONFIGURED
        user.wait_for(lambda: not any(alive(made).values()), f'{alive(made)} to be freed')
    assert len(made['encoder']) >= 3


def test_failed_activation_frees_what_it_started(made, managed_node, user, monkeypatch):
    managed_node()
    assert user.change(Transition.TRANSITION_CONFIGURE)

    def broken(*arguments, **options):
        raise MemoryError('no room')

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, 'ImageSubscriptions', broken)
        user.change(Transition.TRANSITION_ACTIVATE)
    assert user.state == State.PRIMARY_STATE_UNCONFIGURED
    assert len(made['worker']) == 1
    user.wait_for(lambda: not any(alive(made).values()), 'everything to be freed')


def test_crashed_worker_is_freed_with_its_model(made, managed_node, user, monkeypatch):
    from step_ros.ros.perception import publishers

    managed_node()
    film = user.film()
    user.activate(TOPIC)

    def broken(*arguments, **options):
        raise OverflowError('too many labels')

    with monkeypatch.context() as patch:
        patch.setattr(publishers, 'hypothesis_message', broken)
        film.show(4)
        user.wait_for(
            lambda: user.state == State.PRIMARY_STATE_UNCONFIGURED, 'the node to be unconfigured'
        )
    user.wait_for(lambda: not any(alive(made).values()), 'everything to be freed')
