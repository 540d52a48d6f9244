# SPDX-License-Identifier: Apache-2.0
"""`step_ros bench node`, `soak` and `transport` as a user runs them: short, over real DDS."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ros, pytest.mark.slow]

COMMAND = [sys.executable, '-c', 'from step_ros.cli import main; main()', 'bench']


@pytest.fixture
def bench(tmp_path):
    """Run a benchmark in an empty folder; return exit code, output and its JSON file."""
    chosen = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTDDS_BUILTIN_TRANSPORTS')
    environment = {key: value for key, value in os.environ.items() if key not in chosen}
    environment['ROS_DOMAIN_ID'] = str(1 + os.getpid() % 100)

    def run(*arguments):
        file = tmp_path / 'out' / 'figures.json'
        done = subprocess.run(
            [*COMMAND, *map(str, arguments), '--json', str(file)],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
            check=False,
        )
        content = json.loads(file.read_text()) if file.is_file() else None
        return done.returncode, done.stdout, content

    return run


def test_node_measures_latency_and_searches_the_top_rate(bench):
    code, output, content = bench(
        *('node', '--cameras', 1, '--rate', 30, '--seconds', 3),
        *('--search-cameras', 2, '--search-seconds', 2, '--search-steps', 0),
        *('--search-tries', 1),
    )
    assert code == 0, output
    (row,) = content['rows']
    assert (row['cameras'], row['rate']) == (1, 30.0)
    # The shipped bundle has five grid frames a second.
    assert 3 <= row['seconds'] <= 30
    assert 1 <= row['hypotheses'] <= 5 * row['seconds'] + 2
    latency = row['latency_ms']
    assert 0 < latency['p50'] <= latency['p95'] <= latency['p99'] <= latency['max']
    assert row['added_ms']['p99'] == pytest.approx(latency['p99'] - content['own_frame_ms'])
    assert row['resident_mb'] > 50
    beside = {'publisher', 'listener', 'others'}
    assert set(row['cpu_percent']) == {'executor', 'model', 'dds', *beside}
    assert row['cpu_percent']['model'] > 0
    search = content['search']
    assert {probe['times']['cameras'] for probe in search['probes']} == {2}
    kept = [probe['share'] for probe in search['probes'] if probe['kept']]
    assert search['share'] == max(kept, default=0)
    assert not search['probes'][-1]['kept']
    for probe in search['probes']:
        assert probe['own']['frames_per_s'] > 0
        assert probe['rate'] == pytest.approx(probe['share'] * probe['own']['frames_per_s'])
        assert probe['rate'] == pytest.approx(2 * probe['times']['rate'])
    assert content['bundle']['model_id'].startswith('tabletop-tiny@')
    assert len(content['bars']) == 2
    assert '| cameras | rate_hz |' in output
    assert 'highest share kept' in output


def test_soak_accounts_for_every_image(bench):
    code, output, content = bench('soak', '--minutes', 8 / 60, '--cameras', 2)
    assert content is not None, output
    passed = {condition['what'].split()[0]: condition for condition in content['conditions']}
    assert passed['received']['passed'], output
    assert code == (0 if all(each['passed'] for each in passed.values()) else 1), output
    assert content['restarts'] >= 1
    for frames in content['frames'].values():
        counts = frames['counts']
        assert 0 < counts['received'] <= frames['sent']
        accounted = counts['used'] + counts['off_grid'] + counts['waiting']
        assert counts['received'] == accounted + sum(counts['dropped'].values())
    assert len(content['samples']) >= 2
    assert all(sample['memory']['resident'] > 50e6 for sample in content['samples'])
    assert '| camera0 |' in output
    if code:
        assert 'does not hold' in output


def test_transport_measures_with_and_without_profile(bench):
    code, output, content = bench('transport', '--size', '320x240', '--seconds', 1)
    assert code == 0, output
    assert [row['profile'] for row in content['rows']] == [False, True]
    assert all(row['sent'] >= row['received'] > 0 for row in content['rows'])
    assert '| 320x240 | yes |' in output


def test_a_terminated_benchmark_leaves_no_node_behind(tmp_path):
    environment = {**os.environ, 'ROS_DOMAIN_ID': str(1 + os.getpid() % 100)}
    process = subprocess.Popen(
        [*COMMAND, 'soak'], cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL
    )
    log = tmp_path / 'demo_output' / 'bench' / 'camera0.log'
    try:
        deadline = time.monotonic() + 120
        while not log.is_file():  # the cameras start after the node
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        nodes = children(process.pid)
        assert len(nodes) >= 2
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
        assert not [pid for pid in nodes if Path(f'/proc/{pid}').exists()]
    finally:
        process.kill()
        process.wait()


def children(pid):
    """Return the processes that a process has started."""
    text = Path(f'/proc/{pid}/task/{pid}/children').read_text()
    return [int(child) for child in text.split()]


@pytest.mark.parametrize(
    ('arguments', 'why'),
    [
        (('node', '--bundle', 'no-such-bundle'), 'no-such-bundle'),
        (('soak', '--bundle', 'no-such-bundle'), 'no-such-bundle'),
        (('transport', '--size', '640'), '--size 640: expected WIDTHxHEIGHT'),
    ],
)
def test_wrong_arguments_are_one_error_line(arguments, why, bench):
    code, output, _ = bench(*arguments)
    assert code == 1
    assert why in output
    assert 'Traceback' not in output
