# SPDX-License-Identifier: Apache-2.0
"""ROS parameter files: what the node takes, replay takes, too."""

import pytest

from step_ros.resources import read_parameters

KNOWN = {'on_threshold': 0.6, 'top_k': 3, 'device': 'auto', 'ignored_labels': ['']}
OURS = '  ros__parameters: {on_threshold: 0.7}\n'


@pytest.fixture
def read(tmp_path):
    """Write a parameter file and read it: `read(text, node='')`."""

    def call(text, node=''):
        path = tmp_path / 'params.yaml'
        path.write_text(text)
        return read_parameters(path, known=KNOWN, node=node)

    return call


@pytest.mark.parametrize(
    'text',
    [
        '/perception:\n' + OURS,
        'perception:\n' + OURS,
        '/**:\n' + OURS,
        '/watcher:\n' + OURS,
        '/robot1/perception:\n' + OURS,
        'robot1:\n  perception:\n    ros__parameters: {on_threshold: 0.7}\n',
        '/robot1:\n  /arm:\n    perception: {ros__parameters: {on_threshold: 0.7}}\n',
        '/perception:\n  ros__parameters: {use_sim_time: true, on_threshold: 0.7}\n',
        '/perception:\n  ros__parameters:\n    on_threshold: 0.7\n'
        '    qos_overrides: {/perception/hypotheses: {publisher: {depth: 50}}}\n',
        '/perception:\n  ros__parameters:\n    on_threshold: 0.7\n'
        '    qos_overrides./perception/events.publisher.depth: 50\n',
        '/camera/usb_cam:\n  ros__parameters: {framerate: 30.0, device: x}\n/perception:\n' + OURS,
        '/**:\n  ros__parameters: {use_sim_time: true, framerate: 1}\n'
        '/cam: {ros__parameters: {framerate: 30}}\n/perception:\n' + OURS,
        # The node's own section goes before a wildcard section, wherever it stands.
        '/perception:\n' + OURS + '/**: {ros__parameters: {on_threshold: 0.2}}\n',
        '/*/perception: {ros__parameters: {on_threshold: 0.2}}\n/robot1/perception:\n' + OURS,
    ],
)
def test_files_that_the_node_takes_are_taken(read, text):
    assert read(text) == {'on_threshold': 0.7}


def test_integers_are_taken_for_floats_and_empty_sections(read):
    value = read('/perception: {ros__parameters: {on_threshold: 1}}')['on_threshold']
    assert (value, type(value)) == (1.0, float)
    assert read('/perception:\n  ros__parameters:\n') == {}
    assert read('/perception: {ros__parameters: {ignored_labels: []}}') == {'ignored_labels': []}


TWO = ''.join(
    f'/robot{n}/perception:\n  ros__parameters: {{on_threshold: 0.{n}}}\n' for n in (1, 2)
)


def test_two_robots_need_the_name_of_one(read):
    with pytest.raises(ValueError, match=r'/robot1/perception, /robot2/perception; .*--node'):
        read(TWO)
    with pytest.raises(ValueError, match='--node'):
        read(TWO, node='perception')
    for node in ('/robot1/perception', 'robot1/perception'):
        assert read(TWO, node=node) == {'on_threshold': 0.1}
    with pytest.raises(ValueError, match="'robot3/perception'; it has only /robot1/perception"):
        read(TWO, node='/robot3/perception')
    text = '/**: {ros__parameters: {top_k: 5}}\n' + TWO
    assert read(text, node='/robot2/perception') == {'top_k': 5, 'on_threshold': 0.2}


@pytest.mark.parametrize(
    ('text', 'why'),
    [
        ('/perception: {ros__parameters: {hat: 1}}', "/perception: no parameter 'hat'"),
        ('/perception: {ros__parameters: {hat: {size: 1}}}', "no parameter 'hat.size'"),
        ('/**: {ros__parameters: {on_treshold: 0.7}}', "no parameter 'on_treshold'"),
        ('/perception: {ros__parameters: {top_k: many}}', "top_k: 'many'; expected a value like"),
        ('/perception: {ros__parameters: {on_threshold: true}}', 'on_threshold: True; expected'),
        ('/perception: {ros__parameters: {ignored_labels: [no]}}', 'ignored_labels: .False.'),
        ('/a: {ros__parameters: {x: 1}}\n/b: {ros__parameters: {x: 1}}', 'it has only /a, /b'),
        (
            '/**: {ros__parameters: {top_k: 1}}\n/watcher: {ros__parameters: {top_k: 2}}',
            'it has only /.., /watcher; name the node with --node',
        ),
        ('/perception:\n' + OURS + '/perception:\n' + OURS, "'/perception' occurs twice"),
        ('/perception: {on_threshold: 0.7}', 'expected ros__parameters, found 0.7'),
        ('[]', 'no ROS parameter file'),
        ('', 'no ROS parameter file'),
        ('{}', 'no ROS parameter file'),
        ('a: [', 'no ROS parameter file'),
    ],
)
def test_files_that_no_node_could_mean_are_refused(read, text, why):
    with pytest.raises(ValueError, match=rf'params\.yaml: .*{why}'):
        read(text)
