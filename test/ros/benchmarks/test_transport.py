# SPDX-License-Identifier: Apache-2.0
"""Images with and without the shared-memory profile, over real DDS."""

import pytest

from step_ros.ros.benchmarks.transport import COLUMNS, measure_transport, transport_table


@pytest.fixture(autouse=True)
def _no_choice(monkeypatch):
    for name in ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTDDS_BUILTIN_TRANSPORTS'):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize('profile', [True, False])
def test_small_images_arrive_with_and_without_the_profile(profile, tmp_path):
    times = measure_transport(
        width=64, height=48, rate=30.0, profile=profile, seconds=1.0, folder=tmp_path
    )
    assert 15 <= times.sent <= 90
    assert 0 < times.received <= times.sent
    assert 0 < times.latency_ms['p50'] <= times.latency_ms['p99'] <= times.latency_ms['max']
    assert times.as_dict()['received_percent'] == pytest.approx(times.received_percent)
    header, _, line = transport_table([times]).splitlines()
    assert [cell.strip() for cell in header.strip('|').split('|')] == list(COLUMNS)
    assert f'| 64x48 | {"yes" if profile else "no"} |' in line


def test_a_transport_chosen_in_the_environment_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv('FASTDDS_BUILTIN_TRANSPORTS', 'UDPv4')
    with pytest.raises(ValueError, match='FASTDDS_BUILTIN_TRANSPORTS is set'):
        measure_transport(
            width=64, height=48, rate=30.0, profile=True, seconds=1.0, folder=tmp_path
        )
