# SPDX-License-Identifier: Apache-2.0
"""Shipped dataset files equal the published facts; the schema refuses wrong files."""

import pytest
import yaml

from step_ros.datasets.registry import READERS
from step_ros.datasets.schema import load_dataset_config, names_a_side, shipped_datasets
from step_ros.io.errors import DatasetError
from step_ros.model.bundle_schema import TaskSpec

# Tables 15 to 17 of the longer paper, Sec. IV.A of the shorter one. (The longer one also prints
# 108 for NTU, which is impossible with 120 classes.)
PAIRED_AND_OTHERS = {
    'drive-and-act': (20, 14),
    'hri30': (20, 10),
    'ikea-asm': (14, 19),
    'ntu120': (18, 102),
    'ssv2': (0, 174),
}
DATASETS = sorted(PAIRED_AND_OTHERS)
# A minimal valid file.
SMALL = {
    'name': 'small',
    'title': 'Small',
    'tasks': [
        {
            'name': 'action',
            'classes': 4,
            'labels': ['open', 'close', 'turn left', 'turn right'],
            'pairs': [['open', 'close']],
            'mirrors': [['turn left', 'turn right']],
        }
    ],
    'views': [{'name': 'front', 'meaning': 'front'}],
    'splits': [{'name': '1', 'unit': 'subject', 'train': [1, 2], 'test': [3]}],
    'evaluation': {'sampling': 'interval', 'frames': 16, 'interval': 2, 'clips': 3},
}


def action(name):
    return load_dataset_config(name).task('action')


@pytest.fixture
def load(tmp_path):
    """Return a function that loads a content as a file: `load(content)`."""

    def load_content(content):
        path = tmp_path / 'small.yaml'
        path.write_text(yaml.safe_dump(content))
        return load_dataset_config(path)

    return load_content


def changed(**changes):
    """Return a copy of SMALL with other values for some fields of its task."""
    return {**SMALL, 'tasks': [{**SMALL['tasks'][0], **changes}]}


def test_every_shipped_dataset_has_a_reader():
    shipped = sorted([*DATASETS, 'tabletop'])
    assert list(shipped_datasets()) == shipped
    assert {name for name, reader in READERS.items() if reader.has_config} == set(shipped)


@pytest.mark.parametrize('name', DATASETS)
def test_paired_labels_are_as_many_as_in_the_papers(name):
    task = action(name)
    assert (len(task.counterparts), len(task.nonsymmetric)) == PAIRED_AND_OTHERS[name]
    assert 2 * len(task.pairs) == len(task.counterparts)
    assert len(task.labels) == sum(PAIRED_AND_OTHERS[name])


@pytest.mark.parametrize('name', DATASETS)
def test_tasks_are_valid_tasks_of_a_bundle(name):
    for task in load_dataset_config(name).tasks:
        spec = TaskSpec(name=task.name, labels=task.labels, counterparts=dict(task.counterparts))
        assert spec.labels == task.labels


@pytest.mark.parametrize('name', DATASETS)
def test_label_with_a_side_has_a_mirror_or_is_not_flipped(name):
    for task in load_dataset_config(name).tasks:
        for label in task.labels:
            mirror = task.flipped(label)
            if not names_a_side(label):
                assert mirror == label
            elif mirror is not None:
                swapped = label.replace('Left', '?').replace('Right', 'Left').replace('?', 'Right')
                words = {'left': 'right', 'right': 'left'}
                swapped = ' '.join(words.get(word, word) for word in swapped.split(' '))
                assert mirror == swapped
                assert task.flipped(mirror) == label


def test_left_and_right_are_found_as_whole_words():
    assert names_a_side('MoveLeftWhileDrilling')
    assert names_a_side('looking_back_right_shoulder')
    assert not names_a_side('Putting something upright on the table')
    assert not names_a_side('brighten')


@pytest.mark.parametrize('name', DATASETS)
def test_evaluation_protocol_equals_the_papers(name):
    evaluation = load_dataset_config(name).evaluation
    assert evaluation.frames == 16
    expected = {'ntu120': ('segments', None, 1, 1), 'ssv2': ('segments', None, 1, 3)}
    assert (
        evaluation.sampling,
        evaluation.interval,
        evaluation.clips,
        evaluation.crops,
    ) == expected.get(name, ('interval', 2, 3, 1))


@pytest.mark.parametrize('name', DATASETS)
def test_unknown_details_name_existing_options(name):
    config = load_dataset_config(name)
    options = {option.name for option in READERS[name].options}
    assert config.unknown
    assert {unknown.option for unknown in config.unknown} - {''} <= options


def test_labels_have_the_published_order():
    assert action('hri30').labels[0] == 'DeliverObject'
    assert action('hri30').labels[26:28] == ('Walking', 'WalkingWithObject')
    assert action('ikea-asm').labels[:2] == ('NA', 'align leg screw with table thread')
    for name in ('drive-and-act', 'ikea-asm', 'ssv2'):
        assert list(action(name).labels) == sorted(action(name).labels)
    numbers = {label: index for index, label in enumerate(action('ntu120').labels, start=1)}
    pairs = [sorted((numbers[one], numbers[two])) for one, two in action('ntu120').pairs]
    assert sorted(pairs) == [
        [8, 9], [14, 15], [16, 17], [18, 19], [20, 21], [59, 60], [61, 62], [87, 88], [89, 90]
    ]  # fmt: skip
    assert numbers['finger-guessing game (playing rock-paper-scissors)'] == 120


def test_split_sizes_equal_the_published_ones():
    # 14 groups of 7 clips of each of 30 classes.
    sizes = [(len(s.train) * 210, len(s.test) * 210) for s in load_dataset_config('hri30').splits]
    assert sizes == [(2100, 840), (2310, 630), (1890, 1050)]
    subject, setup = load_dataset_config('ntu120').splits
    assert len(subject.train) == 53
    assert subject.part_of(1) == 'train'
    assert subject.part_of(3) == 'test'
    assert [setup.part_of(number) for number in (2, 3)] == ['train', 'test']
    environments = load_dataset_config('ikea-asm').splits[0]
    found = {
        calibration: environments.part_of(environments.number_of(calibration), validation=(3,))
        for calibration in range(1, 12)
        if environments.number_of(calibration) is not None
    }
    assert [number for number, part in found.items() if part == 'test'] == [4, 5, 8]
    assert [number for number, part in found.items() if part == 'val'] == [6, 7]
    assert [number for number, part in found.items() if part == 'train'] == [1, 2, 9, 10, 11]


def test_validation_takes_no_number_of_the_test_part():
    split = load_dataset_config('ikea-asm').splits[0]
    assert split.part_of(2, validation=(2,)) == 'test'


def test_action_determines_verb_and_object():
    config = load_dataset_config('ikea-asm')
    assert [task.classes for task in config.tasks] == [33, 14, 12]
    for label, verb, thing in (
        ('NA', 'NA', 'NA'),
        ('align side panel holes with front panel dowels', 'align', 'side panel'),
        ('attach shelf to table', 'attach', 'shelf'),
        ('slide bottom of drawer', 'slide', 'bottom panel'),
        ('lay down table top', 'lay down', 'table top'),
    ):
        assert config.all_labels({'action': label}) == {
            'action': label,
            'verb': verb,
            'object': thing,
        }
    for label in config.task('action').labels:
        assert label.startswith(config.all_labels({'action': label})['verb'])


def test_known_misspelling_gives_its_label():
    assert action('hri30').find('NoCollaborativeWithDrilll') == 'NoCollaborativeWithDrill'
    assert action('hri30').find('Dancing') is None


def test_pairs_and_mirrors_go_both_ways(load):
    task = load(SMALL).task('action')
    assert task.counterparts == {'open': 'close', 'close': 'open'}
    assert task.nonsymmetric == ('turn left', 'turn right')
    assert task.flipped('turn left') == 'turn right'
    assert task.flipped('open') == 'open'


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ({**SMALL, 'colour': 'red'}, ['colour', 'Extra inputs']),
        (changed(colour='red'), ['tasks.0.colour', 'Extra inputs']),
        (changed(classes=5), ['tasks.0', 'labels: 4 found', 'classes is 5']),
        (changed(classes='4'), ['tasks.0.classes', "found '4'"]),
        (changed(labels=['a', 'b', 'b', 'c'], pairs=[], mirrors=[]), ["['b']", 'twice']),
        (changed(pairs=[['open', 'shut']]), ["pairs: 'shut' is no label"]),
        (changed(pairs=[['open', 'open']]), ["pairs: ['open']"]),
        (changed(pairs=[['open', 'close'], ['open', 'turn left']]), ["pairs: ['open']"]),
        (changed(mirrors=[['turn left', 'up']]), ["mirrors: 'up' is no label"]),
        (changed(mirrors=[]), ["'turn left' names a side", 'no_flip']),
        (changed(no_flip=['turn left']), ["no_flip: 'turn left' has a mirror"]),
        (changed(aliases={'opn': 'opened'}), ["aliases: 'opened' is no label"]),
        (changed(ignored=['open']), ["ignored: 'open' is a label"]),
        (changed(derived_from='verb'), ['derived_from and derivation']),
        ({**SMALL, 'tasks': SMALL['tasks'] * 2}, ["tasks: ['action']"]),
        ({**SMALL, 'views': []}, ['views']),
        ({**SMALL, 'evaluation': {**SMALL['evaluation'], 'frames': 0}}, ['evaluation.frames']),
        ({**SMALL, 'evaluation': {**SMALL['evaluation'], 'interval': None}}, ['interval']),
        ({**SMALL, 'evaluation': {**SMALL['evaluation'], 'trained_view': 'top'}}, ["'top'"]),
        (
            {**SMALL, 'splits': [{'name': '1', 'unit': 'subject', 'train': [1], 'test': [1]}]},
            ["split '1': [1]"],
        ),
        ({**SMALL, 'splits': [{'name': '1', 'unit': 'files', 'train': [1]}]}, ['unit files']),
        ({**SMALL, 'splits': [{'name': '1', 'unit': 'moon', 'train': [1]}]}, ['splits.0.unit']),
    ],
)
def test_error_names_file_and_field(load, content, words):
    with pytest.raises(DatasetError) as error:
        load(content)
    for word in ['small.yaml', *words]:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ('derivation', 'word'),
    [
        ({'move': ['open', 'close', 'turn left', 'turn right']}, 'name each of its labels'),
        ({'move': ['open', 'close'], 'turn': ['turn left']}, "['turn right']"),
        ({'move': ['open', 'close'], 'turn': ['turn left', 'turn right', 'open']}, "['open']"),
    ],
)
def test_derivation_must_hold_each_label_once(load, derivation, word):
    verb = {'name': 'verb', 'classes': 2, 'labels': ['move', 'turn'], 'derived_from': 'action'}
    content = {**SMALL, 'tasks': [*SMALL['tasks'], {**verb, 'derivation': derivation}]}
    with pytest.raises(DatasetError, match='derivation') as error:
        load(content)
    assert word in str(error.value)


def test_missing_or_damaged_file_is_named(tmp_path):
    with pytest.raises(DatasetError, match='hri30'):
        load_dataset_config('hri31')
    with pytest.raises(DatasetError, match=r'gone\.yaml'):
        load_dataset_config(tmp_path / 'gone.yaml')
    (tmp_path / 'odd.yaml').write_text('tasks: [')
    with pytest.raises(DatasetError, match=r'odd\.yaml: not readable'):
        load_dataset_config(tmp_path / 'odd.yaml')
    with pytest.raises(DatasetError, match=r"no task 'verb'; expected one of action"):
        load_dataset_config('ssv2').task('verb')
