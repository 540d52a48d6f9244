# SPDX-License-Identifier: Apache-2.0
"""The launch files: their arguments, and the nodes that they start (needs launch_ros)."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from step_ros.resources import load_defaults
from step_ros.ros.launch_values import overrides, parameter_files, typed_value

LAUNCH = Path(__file__).resolve().parents[2] / 'launch'
COMMON = {
    *('image_topics', 'cameras', 'region_topics', 'fusion', 'bundle', 'device', 'runtime'),
    *('autostart', 'use_sim_time', 'params_file', 'namespace', 'lifecycle_manager', 'respawn'),
    *('name', 'log_level', 'transport', 'reliability', 'threads'),
    *('on_threshold', 'off_threshold'),
}
EXPECTED = {
    'perception.launch.py': COMMON,
    'demo.launch.py': COMMON
    | {'source', 'loop', 'seed', 'view', 'rate', 'width', 'camera_params_file'},
    'replay.launch.py': {
        *('bag', 'bundle', 'device', 'threads', 'topics', 'labels', 'out', 'rate', 'player'),
        *('params_file', 'node', 'domain'),
    },
}
# Defaults of arguments that are not parameters of a node.
SWITCHES = {
    'respawn': 'false',
    'lifecycle_manager': 'false',
    'name': 'perception',
    'log_level': 'info',
}
DEFAULTS = {
    'perception.launch.py': SWITCHES,
    'demo.launch.py': SWITCHES,
    'replay.launch.py': {'out': 'runs/replay', 'rate': '1.0', 'player': 'auto'},
}

needs_launch = pytest.mark.skipif(
    importlib.util.find_spec('launch_ros') is None,
    reason='launch_ros is not installed (it comes with an apt ROS)',
)


def load(name):
    from launch import LaunchContext
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    return PythonLaunchDescriptionSource(str(LAUNCH / name)).get_launch_description(
        LaunchContext()
    )


def module_of(name):
    path = LAUNCH / f'{name}.launch.py'
    spec = importlib.util.spec_from_file_location(f'{name}_launch', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize('name', EXPECTED)
def test_launch_file_compiles(name):
    compile((LAUNCH / name).read_text(), name, 'exec')


@needs_launch
@pytest.mark.parametrize('name', EXPECTED)
def test_arguments_have_descriptions_and_empty_defaults(name):
    arguments = {argument.name: argument for argument in load(name).get_launch_arguments()}
    assert set(arguments) == EXPECTED[name]
    for argument in arguments.values():
        assert len(argument.description) > 10
        default = ''.join(part.text for part in argument.default_value or ())
        assert default == DEFAULTS[name].get(argument.name, '')


@needs_launch
def test_node_arguments_are_node_parameters():
    nodes = {'perception': 'perception', 'demo': 'camera', 'replay': 'perception'}
    for name, config in ((name, f'{node}.yaml') for name, node in nodes.items()):
        parameters = set(module_of(name).PARAMETERS) - {'use_sim_time'}
        assert parameters <= set(load_defaults(config))


@needs_launch
@pytest.mark.parametrize('name', ['perception', 'demo'])
def test_nodes_are_created_without_arguments(name):
    from launch import LaunchContext

    module, context = module_of(name), LaunchContext()
    texts = {**dict.fromkeys((*module.PARAMETERS, *module.OTHERS), ''), **SWITCHES}
    context.launch_configurations.update(texts)
    kind = {'perception': 'perception', 'demo': 'camera'}[name]
    (node,) = getattr(module, kind)(context)
    assert (node.node_package, node.node_executable) == ('step_ros', f'{kind}_node')


RUN = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
file = PythonLaunchDescriptionSource(sys.argv[1])
arguments = [tuple(text.split(':=', 1)) for text in sys.argv[2:]]
service = LaunchService()
included = IncludeLaunchDescription(file, launch_arguments=arguments)
service.include_launch_description(LaunchDescription([included]))
sys.exit(service.run())
"""
# Several nodes import torch at once, perhaps on a busy machine.
TIMEOUT = 120


class Launched:
    """A launch file in its own process, whose output goes to a file."""

    def __init__(self, log, command):
        self._log = log
        with log.open('w') as output:
            self._process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                # The prefix in which `ros2 launch` finds our programs.
                env={'AMENT_PREFIX_PATH': sys.prefix, **os.environ},
            )

    @property
    def output(self):
        return self._log.read_text(errors='replace')

    def wait_for(self, text, *, times=1):
        end = time.monotonic() + TIMEOUT
        while self.output.count(text) < times:
            assert self._process.poll() is None, self.output
            assert time.monotonic() < end, f'no {text!r} within {TIMEOUT} s:\n{self.output}'
            time.sleep(0.1)

    def interrupt(self, *, killed=0):
        """Stop it as Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)
        self.wait(killed=killed)

    def wait(self, *, killed=0):
        """Wait for its end, and check that all nodes but the killed ones ended cleanly."""
        assert self._process.wait(TIMEOUT) == 0, self.output
        finished = self.output.count('process has finished cleanly')
        assert finished == len(self.pids()) - killed, self.output
        assert 'Traceback' not in self.output

    def pids(self):
        return [int(pid) for pid in re.findall(r'started with pid \[(\d+)\]', self.output)]

    def close(self):
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(TIMEOUT)


@pytest.fixture
def launch(tmp_path):
    """Launch a file: `launch('demo', 'seed:=1', ...)`."""
    launched = []

    def start(name, *arguments):
        path = LAUNCH / f'{name}.launch.py'
        command = [sys.executable, '-c', RUN, str(path), *arguments]
        launched.append(Launched(tmp_path / f'{len(launched)}.log', command))
        return launched[-1]

    yield start
    for each in launched:
        each.close()


@needs_launch
@pytest.mark.parametrize('manager', ['false', 'true'])
def test_killed_node_becomes_active_again(launch, tiny_bundle, manager):
    arguments = {
        'bundle': tiny_bundle.path,
        'device': 'cpu',
        'runtime': 'torch',
        'namespace': 'robot',
        'image_topics': 'camera/image_raw',
        'respawn': 'true',
        'lifecycle_manager': manager,
    }
    launched = launch('perception', *(f'{name}:={text}' for name, text in arguments.items()))
    launched.wait_for('active: camera on /robot/camera/image_raw')
    (pid,) = launched.pids()
    os.kill(pid, signal.SIGKILL)
    launched.wait_for('active: camera on /robot/camera/image_raw', times=2)
    launched.interrupt(killed=1)


@needs_launch
def test_demo_runs_and_ends(launch, tiny_bundle):
    launched = launch('demo', f'bundle:={tiny_bundle.path}', 'device:=cpu', 'namespace:=robot')
    launched.wait_for('publishing tabletop on /robot/camera/image_raw')
    launched.wait_for('active: camera on /robot/camera/image_raw')
    launched.interrupt()


@needs_launch
def test_replay_ends_by_itself_and_agrees(launch, tiny_bundle, put_bag, tmp_path):
    bag = put_bag(tmp_path / 'bag', '/camera/image_raw', frames=30)
    arguments = {
        'bag': bag,
        'out': tmp_path / 'out',
        'bundle': tiny_bundle.path,
        'device': 'cpu',
        'threads': '1',
        'player': 'builtin',
    }
    launched = launch('replay', *(f'{name}:={text}' for name, text in arguments.items()))
    launched.wait()
    found = json.loads((tmp_path / 'out' / 'agreement.json').read_text())
    assert found['agrees']
    (camera,) = found['recordings']
    assert camera['received'] == camera['frames'] == 30
    assert camera['both'] > 5
    assert '## Through DDS' in (tmp_path / 'out' / 'report.md').read_text()


@needs_launch
def test_replay_that_fails_ends_with_exit_code_1(tiny_bundle, put_bag, tmp_path):
    # The bundle does not know the label, so the comparison fails.
    bag = put_bag(
        tmp_path / 'bag', '/camera/image_raw', frames=30, labelled=[(0, 1, {'verb': 'juggle'})]
    )
    arguments = {'bag': bag, 'out': tmp_path / 'out', 'bundle': tiny_bundle.path}
    arguments |= {'device': 'cpu', 'threads': '1', 'player': 'builtin'}
    texts = [f'{name}:={text}' for name, text in arguments.items()]
    command = [sys.executable, '-c', RUN, str(LAUNCH / 'replay.launch.py'), *texts]
    environment = {'AMENT_PREFIX_PATH': sys.prefix, **os.environ}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    output = done.stdout + done.stderr
    assert done.returncode == 1, output
    assert 'the bag could not be replayed, or node and replay differ (exit code 1)' in output
    # Not in the domain of this environment, where a robot may run.
    assert f'ROS_DOMAIN_ID={os.environ.get("ROS_DOMAIN_ID", 0)}\n' not in output


@pytest.mark.skipif(
    importlib.util.find_spec('launch_testing') is None,
    reason='launch_testing is not installed (it comes with an apt ROS)',
)
def test_two_robots_share_a_machine():
    done = subprocess.run(
        [
            *(sys.executable, '-m', 'launch_testing.launch_test'),
            str(Path(__file__).with_name('two_robots.launch.py')),
        ],
        env={'AMENT_PREFIX_PATH': sys.prefix, **os.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=2 * TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_empty_arguments_do_not_override():
    given = {'device': '', 'bundle': '  ', 'cameras': 'front, side', 'use_sim_time': 'True'}
    assert overrides('perception.yaml', given) == {
        'cameras': ['front', 'side'],
        'use_sim_time': True,
    }
    # A rate without a decimal point is a float, too.
    assert overrides('camera.yaml', {'rate': '30', 'seed': '4'}) == {'rate': 30.0, 'seed': 4}


@pytest.mark.parametrize(
    ('text', 'like', 'expected'),
    [
        ('/a/image,/b/image', ['x'], ['/a/image', '/b/image']),
        ('[/a/image, /b/image]', ['x'], ['/a/image', '/b/image']),
        ('0', False, False),
        ('TRUE', False, True),
        ('0', 'auto', '0'),
    ],
)
def test_text_becomes_a_typed_value(text, like, expected):
    assert typed_value('name', text, like) == expected


@pytest.mark.parametrize(
    ('text', 'like', 'kind'),
    [('yes', True, 'true or false'), ('fast', 1.0, 'a number'), ('[a', ['x'], 'a list')],
)
def test_text_of_the_wrong_type_is_rejected(text, like, kind):
    with pytest.raises(ValueError, match=rf'argument name:=.*expected {kind}'):
        typed_value('name', text, like)


@pytest.mark.parametrize('name', ['params_file', 'camera_params_file'])
def test_missing_parameter_file_is_refused(name, tmp_path):
    missing = tmp_path / 'missing.yaml'
    with pytest.raises(FileNotFoundError, match=rf'{name}:=.*there is no such file.*missing'):
        parameter_files(name, str(missing))
    with pytest.raises(FileNotFoundError, match='there is no such file'):
        parameter_files(name, str(tmp_path))
    missing.write_text('{}')
    assert parameter_files(name, str(missing)) == [str(missing)]
    assert parameter_files(name, ' ') == []


@needs_launch
@pytest.mark.parametrize(('name', 'function'), [('perception', 'perception'), ('demo', 'camera')])
def test_launch_file_refuses_a_missing_parameter_file(name, function, tmp_path):
    from launch import LaunchContext

    module, context = module_of(name), LaunchContext()
    file = 'params_file' if name == 'perception' else 'camera_params_file'
    texts = {**dict.fromkeys((*module.PARAMETERS, *module.OTHERS), ''), **SWITCHES}
    context.launch_configurations.update({**texts, file: str(tmp_path / 'missing.yaml')})
    with pytest.raises(FileNotFoundError, match='missing'):
        getattr(module, function)(context)


@needs_launch
@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        ({}, 'camera/image_raw'),
        ({'transport': 'compressed'}, 'camera/image_raw/compressed'),
        ({'image_topics': '/mine'}, '/mine'),
    ],
)
def test_demo_takes_image_topics_of_the_user(given, expected):
    from launch import LaunchContext

    context = LaunchContext()
    context.launch_configurations.update(given)
    assert module_of('demo').ImageTopics().perform(context) == expected
