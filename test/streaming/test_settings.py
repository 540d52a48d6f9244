# SPDX-License-Identifier: Apache-2.0
"""Stream settings: they come from the node's parameters and reach recogniser and events."""

import pytest

from step_ros.encoders.base import TorchEncoder, choose_device
from step_ros.resources import load_defaults
from step_ros.streaming.settings import StreamSettings

DEFAULTS = load_defaults('perception.yaml')


def test_default_parameters_are_valid_settings():
    settings = StreamSettings.from_values(DEFAULTS)
    events = settings.events()
    assert events.on_threshold == DEFAULTS['on_threshold']
    assert events.minimum_gap_ns == round(DEFAULTS['minimum_gap'] * 1e9)
    assert 'idle' in events.ignored_labels


def test_recogniser_gets_the_settings(tiny_bundle):
    settings = StreamSettings.from_values({**DEFAULTS, 'order_tolerance': 0.25, 'max_gap': 0.75})
    encoder = TorchEncoder(tiny_bundle.model.backbone, device=choose_device('cpu'))
    grid = settings.recogniser(tiny_bundle, encoder).settings
    assert (grid.order_tolerance_ns, grid.max_gap_ns) == (250_000_000, 750_000_000)


def test_empty_name_ignores_nothing():
    settings = StreamSettings.from_values({**DEFAULTS, 'ignored_labels': ['']})
    assert settings.events().ignored_labels == frozenset()


@pytest.mark.parametrize(
    ('change', 'named'),
    [
        ({'on_threshold': 0.1}, 'off_threshold'),
        ({'smoothing': -1.0}, 'smoothing'),
        ({'order_evidence': False, 'minimum_order_evidence': 0.1}, 'without order_evidence'),
    ],
)
def test_invalid_stream_settings_are_refused(change, named):
    with pytest.raises(ValueError, match=named):
        StreamSettings.from_values({**DEFAULTS, **change})
