"""The launch files, where launch_ros is installed."""

import importlib.util
from pathlib import Path

import pytest

from step_ros.resources import load_defaults
from step_ros.ros.launch_values import overrides, typed_value

LAUNCH = Path(__file__).resolve().parents[2] / 'launch'
COMMON = {
    *('image_topics', 'cameras', 'bundle', 'device', 'autostart'),
    *('use_sim_time', 'params_file', 'namespace', 'respawn'),
}
EXPECTED = {
    'perception.launch.py': COMMON,
    'demo.launch.py': COMMON
    | {'source', 'loop', 'seed', 'view', 'rate', 'width', 'transport', 'reliability'}
    | {'camera_params_file'},
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
def test_is_python(name):
    compile((LAUNCH / name).read_text(), name, 'exec')


@needs_launch
@pytest.mark.parametrize('name', EXPECTED)
def test_arguments_are_described_and_left_to_the_parameter_file(name):
    arguments = {argument.name: argument for argument in load(name).get_launch_arguments()}
    assert set(arguments) == EXPECTED[name]
    for argument in arguments.values():
        assert len(argument.description) > 10
        default = ''.join(part.text for part in argument.default_value)
        assert default == ('false' if argument.name == 'respawn' else '')


@needs_launch
def test_every_argument_of_a_node_is_one_of_its_parameters():
    for name, config in (('perception', 'perception.yaml'), ('demo', 'camera.yaml')):
        parameters = set(module_of(name).PARAMETERS) - {'use_sim_time'}
        assert parameters <= set(load_defaults(config))


@needs_launch
@pytest.mark.parametrize('name', ['perception', 'demo'])
def test_nodes_can_be_made_with_nothing_given(name):
    from launch import LaunchContext

    module, context = module_of(name), LaunchContext()
    texts = {**dict.fromkeys((*module.PARAMETERS, *module.OTHERS), ''), 'respawn': 'false'}
    context.launch_configurations.update(texts)
    kind = {'perception': 'perception', 'demo': 'camera'}[name]
    (node,) = getattr(module, kind)(context)
    assert (node.node_package, node.node_executable) == ('step_ros', f'{kind}_node')


def test_only_what_is_given_overrides():
    given = {'device': '', 'bundle': '  ', 'cameras': 'front, side', 'use_sim_time': 'True'}
    assert overrides('perception.yaml', given) == {
        'cameras': ['front', 'side'],
        'use_sim_time': True,
    }
    # A rate without a point is a number all the same.
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
def test_texts_become_values(text, like, expected):
    assert typed_value('name', text, like) == expected


@pytest.mark.parametrize(
    ('text', 'like', 'said'),
    [('yes', True, 'true or false'), ('fast', 1.0, 'a number'), ('[a', ['x'], 'a list')],
)
def test_texts_that_are_no_values(text, like, said):
    with pytest.raises(ValueError, match=rf'argument name:=.*expected {said}'):
        typed_value('name', text, like)
