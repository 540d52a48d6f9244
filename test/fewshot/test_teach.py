# SPDX-License-Identifier: Apache-2.0
"""`step_ros teach`: the bundle learns the new task, and its other tasks stay bit-identical."""

import csv

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from step_ros.encoders.base import TorchEncoder
from step_ros.fewshot.classifier import LinearLayer, fit_classifier, folds
from step_ros.fewshot.examples import FewShotError, encode_examples, read_examples
from step_ros.fewshot.features import last_layer
from step_ros.fewshot.teach import teach
from step_ros.io.errors import DatasetError
from step_ros.io.video import VideoWriter
from step_ros.model.bundle import load_bundle
from step_ros.model.heads.registry import HEADS, create_head

PAIR = {'brighten': 'darken'}


def film(action, seed):
    """Return a scene whose light rises, falls or stays; falling is rising reversed."""
    rng = np.random.default_rng(seed)
    scene = np.random.default_rng(0).integers(120, 256, (4, 6, 3)) - rng.integers(0, 10, (4, 6, 3))
    scene = scene.repeat(8, axis=0).repeat(8, axis=1)
    light = np.linspace(0.1, 1, 12) ** rng.uniform(0.9, 1.1)
    light = {'brighten': light, 'darken': light[::-1]}.get(
        action, np.full(12, rng.uniform(0.5, 0.6))
    )
    return np.round(scene * light[:, None, None, None]).astype(np.uint8)


def write_video(path, images):
    with VideoWriter(path, size=(48, 32), rate=20) as writer:
        for number, image in enumerate(images):
            writer.write(image, number * 50_000_000)


@pytest.fixture
def record(tmp_path):
    """Return a function that adds examples to one folder and returns the folder."""
    root = tmp_path / 'examples'
    root.mkdir()
    path = root / 'annotations.csv'

    def add(counts, *, task='light', split='train'):
        new = not path.is_file()
        with path.open('a', newline='') as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(['video', 'start', 'end', 'split', task])
            for label, count in counts.items():
                for number in range(count):
                    name = f'{split}-{label}-{number}.mp4'
                    seed = 1000 * ('train', 'val', 'test').index(split) + number
                    write_video(root / name, film(label, seed))
                    writer.writerow([name, '0', '0.6', split, label])
        return root

    return add


def extend(bundle, root, output, **options):
    return teach(bundle, read_examples(root), output, **options)


def test_new_task_is_learned_and_other_tasks_stay(tiny_bundle, record, tmp_path):
    root = record({'brighten': 4, 'darken': 4, 'stay': 4})
    record({'brighten': 4, 'darken': 4, 'stay': 4}, split='test')
    extended = extend(tiny_bundle, root, tmp_path / 'extended', pairs=PAIR)

    task = extended.spec.tasks[-1]
    assert task.name == 'light'
    assert task.labels == ('brighten', 'darken', 'stay')
    assert task.counterparts == {'brighten': 'darken', 'darken': 'brighten'}
    metrics = extended.spec.metrics['taught']['light']
    assert metrics['examples'] == {'brighten': 4, 'darken': 4, 'stay': 4}
    assert metrics['test']['top1'] >= 0.8
    assert metrics['test']['within_pair'] >= 0.8
    assert metrics['cross_validation']['top1'] >= 0.8
    assert extended.spec.provenance['taught'][0]['bundle'] == tiny_bundle.model_id
    assert not (tmp_path / 'extended.features').exists()

    assert extended.spec.tasks[:-1] == tiny_bundle.spec.tasks
    old, new = tiny_bundle.model.state_dict(), extended.model.state_dict()
    assert new.keys() - old.keys() == {key for key in new if key.startswith('heads.light.')}
    assert all(torch.equal(new[key], old[key]) for key in old)
    assert extended.spec.backbone == tiny_bundle.spec.backbone
    assert extended.spec.image == tiny_bundle.spec.image


@pytest.fixture(scope='module')
def extended_pair(tmp_path_factory, tiny_bundle):
    root = tmp_path_factory.mktemp('pair')
    rows = ['video,start,end,split,light']
    for label in ('brighten', 'darken'):
        write_video(root / f'{label}.mp4', film(label, 1))
        rows.append(f'{label}.mp4,,,train,{label}')
    (root / 'annotations.csv').write_text('\n'.join(rows) + '\n')
    return extend(tiny_bundle, root, root / 'extended')


@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(0.01, 100), count=st.integers(1, 3))
def test_other_heads_give_bit_identical_logits(tiny_bundle, extended_pair, seed, scale, count):
    generator = torch.Generator().manual_seed(seed)
    model = tiny_bundle.model
    shape = (count, tiny_bundle.spec.frames, model.backbone.tokens, model.backbone.width)
    x_btnd = scale * torch.randn(shape, generator=generator)
    with torch.inference_mode():
        before, after = model.predict(x_btnd), extended_pair.model.predict(x_btnd)
    assert after.keys() - before.keys() == {'light'}
    for task, logits_bk in before.items():
        assert torch.equal(after[task], logits_bk)


def test_one_example_of_each_label_is_enough(extended_pair):
    metrics = extended_pair.spec.metrics['taught']['light']
    assert metrics['cross_validation'] is None
    assert metrics['temperature_fitted_on'] == 'nothing'
    assert extended_pair.spec.tasks[-1].temperature == 1.0


def test_same_examples_give_the_same_heads(tiny_bundle, record, tmp_path):
    root = record({'brighten': 3, 'darken': 3})
    digests = {extend(tiny_bundle, root, tmp_path / name).spec.heads.digest for name in 'ab'}
    assert len(digests) == 1


def test_validation_examples_calibrate_the_scores(tiny_bundle, record, tmp_path):
    root = record({'brighten': 2, 'darken': 2})
    record({'brighten': 2, 'darken': 2}, split='val')
    metrics = extend(tiny_bundle, root, tmp_path / 'extended').spec.metrics['taught']['light']
    assert metrics['temperature_fitted_on'] == 'validation examples'
    assert metrics['val']['examples'] == 4


def test_reversed_examples_count_as_counterparts(tiny_bundle, record, tmp_path):
    # The only example of `darken` is almost black. Reversed examples of `brighten` are clear.
    root = record({'brighten': 5, 'darken': 1, 'stay': 5})
    write_video(root / 'train-darken-0.mp4', film('darken', 0) // 8)
    record({'brighten': 5, 'darken': 5, 'stay': 5}, split='test')
    accuracies = [
        extend(
            tiny_bundle, root, tmp_path / str(reverse), pairs=PAIR, reverse_pairs=reverse
        ).spec.metrics['taught']['light']['test']['symmetric_top1']
        for reverse in (False, True)
    ]
    assert accuracies[1] > accuracies[0]
    assert accuracies[1] >= 0.8


def test_new_labels_join_the_old_labels_of_a_task(tiny_bundle, record, tmp_path):
    root = record({'brighten': 3, 'darken': 3})
    first = extend(tiny_bundle, root, tmp_path / 'first', pairs=PAIR)
    record({'stay': 3})
    record({'brighten': 3, 'darken': 3, 'stay': 3}, split='test')
    second = extend(first, root, tmp_path / 'second')
    assert [task.name for task in second.spec.tasks] == [task.name for task in first.spec.tasks]
    task = second.spec.tasks[-1]
    assert task.labels == ('brighten', 'darken', 'stay')
    assert task.counterparts == {'brighten': 'darken', 'darken': 'brighten'}
    assert second.spec.metrics['taught']['light']['test']['top1'] >= 0.8
    assert len(second.spec.provenance['taught']) == 2
    old, new = first.model.state_dict(), second.model.state_dict()
    changed = {key for key in new if not torch.equal(new[key], old[key])}
    assert changed == {'heads.light.classifier.weight', 'heads.light.classifier.bias'}


def test_old_labels_without_examples_are_refused(tiny_bundle, record, tmp_path):
    root = record({'push': 1, 'shove': 1}, task='verb')
    with pytest.raises(
        FewShotError, match=r'without a training example: rest, pull; .* forgotten'
    ):
        extend(tiny_bundle, root, tmp_path / 'extended')
    assert not (tmp_path / 'extended').exists()


def test_run_resumes_after_a_broken_video_is_mended(tiny_bundle, record, tmp_path):
    root = record({'brighten': 2, 'darken': 2})
    broken = root / 'train-darken-1.mp4'
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FewShotError, match=r'1 of 4 examples cannot be used(.|\n)*darken-1'):
        extend(tiny_bundle, root, tmp_path / 'extended')
    assert len(list((tmp_path / 'extended.features').iterdir())) == 3
    broken.write_bytes(whole)
    extended = extend(tiny_bundle, root, tmp_path / 'extended')
    assert load_bundle(tmp_path / 'extended').model_id == extended.model_id


def test_exchanged_videos_give_other_features(tiny_bundle, record, tmp_path):
    root = record({'brighten': 2, 'darken': 2})
    options = {'heads': dict(tiny_bundle.model.heads), 'folder': tmp_path / 'features'}
    encoder = TorchEncoder(tiny_bundle.model.backbone, device=torch.device('cpu'))
    before = encode_examples(read_examples(root), tiny_bundle, encoder, **options)
    one, two = root / 'train-brighten-0.mp4', root / 'train-darken-0.mp4'
    contents = one.read_bytes(), two.read_bytes()
    two.write_bytes(contents[0])
    one.write_bytes(contents[1])
    after = encode_examples(read_examples(root), tiny_bundle, encoder, **options)
    for task in before.forward:
        assert torch.equal(before.of([0]).forward[task], after.of([2]).forward[task])
        assert torch.equal(before.of([2]).forward[task], after.of([0]).forward[task])
        assert not torch.equal(before.of([0]).forward[task], after.of([0]).forward[task])


@pytest.mark.parametrize(
    ('options', 'why'),
    [
        ({'pairs': {'brighten': 'dim'}}, "'dim' is no label of task 'light'; there are brighten"),
        ({'pairs': {'stay': 'stay'}}, 'a label has one counterpart'),
        (
            {'pairs': {'brighten': 'darken', 'stay': 'darken'}},
            "'darken' is paired with 'brighten'",
        ),
        ({'reverse_pairs': True}, 'no nearly symmetric labels to reverse'),
    ],
)
def test_wrong_pairs_are_refused(tiny_bundle, record, tmp_path, options, why):
    root = record({'brighten': 1, 'darken': 1, 'stay': 1})
    with pytest.raises(FewShotError, match=why):
        extend(tiny_bundle, root, tmp_path / 'extended', **options)


def test_existing_bundle_is_not_overwritten(tiny_bundle, record):
    root = record({'brighten': 1, 'darken': 1})
    before = {path: path.read_bytes() for path in tiny_bundle.path.iterdir()}
    with pytest.raises(FewShotError, match='exists; a bundle is not written over'):
        extend(tiny_bundle, root, tiny_bundle.path)
    assert {path: path.read_bytes() for path in tiny_bundle.path.iterdir()} == before


def test_label_without_a_training_example_is_named(tiny_bundle, record, tmp_path):
    root = record({'brighten': 1, 'darken': 1})
    record({'stay': 1}, split='test')
    with pytest.raises(FewShotError, match='without a training example: stay; record some'):
        extend(tiny_bundle, root, tmp_path / 'extended')


def test_wrong_annotations_are_named(record):
    root = record({'brighten': 1, 'darken': 1})
    with (root / 'annotations.csv').open('a') as file:
        file.write('train-darken-0.mp4,0.4,0.2,train,darken\n')
    with pytest.raises(
        FewShotError, match=r'1 annotations are wrong(.|\n)*csv:4.*0 <= start < end'
    ):
        read_examples(root)


def test_unknown_and_ambiguous_tasks_are_refused(record):
    root = record({'brighten': 1, 'darken': 1})
    with pytest.raises(FewShotError, match="no task 'lid'; the examples have light"):
        read_examples(root, task='lid')
    text = (root / 'annotations.csv').read_text().splitlines()
    ends = ('hand', 'left', 'right')
    (root / 'annotations.csv').write_text(
        '\n'.join(f'{line},{end}' for line, end in zip(text, ends, strict=True)) + '\n'
    )
    with pytest.raises(FewShotError, match='several tasks; choose one of light, hand'):
        read_examples(root)
    assert read_examples(root, task='hand').labels == ('left', 'right')


def test_single_label_is_refused(record):
    with pytest.raises(DatasetError, match='expected at least two labels'):
        read_examples(record({'brighten': 2}))


# The classifier


@given(counts=st.lists(st.integers(1, 6), min_size=2, max_size=4), seed=st.integers(0, 2**32 - 1))
def test_folds_hold_each_example_out_once(counts, seed):
    targets = np.repeat(np.arange(len(counts)), counts)
    examples = 10 * np.arange(len(targets))
    parts = list(folds(examples, targets, seed=seed))
    assert bool(parts) == (min(counts) > 1)
    if parts:
        held_out = np.concatenate([part for _, part in parts])
        assert sorted(held_out) == sorted(examples)
    for training, held_out in parts:
        assert not set(training) & set(held_out)
        assert set(targets[training // 10]) == set(targets)


def test_labels_count_equally_whatever_their_examples():
    # One feature, and label 1 has ten times as many windows: the boundary stays at zero.
    few, many = torch.full((4, 1), -1.0), torch.full((40, 1), 1.0)
    layer = fit_classifier(
        torch.cat([few, many]), torch.tensor([0] * 4 + [1] * 40), classes=2, decay=0.01
    )
    logits_wk = layer(torch.tensor([[-0.05], [0.05], [0.0]]))
    assert logits_wk.argmax(dim=1)[:2].tolist() == [0, 1]
    assert logits_wk[2, 0].item() == pytest.approx(logits_wk[2, 1].item(), abs=1e-3)


@given(seed=st.integers(0, 2**32 - 1))
def test_strong_decay_keeps_the_weights_of_the_prior(seed):
    generator = torch.Generator().manual_seed(seed)
    x_wd = 3 * torch.randn(30, 4, generator=generator) + 1
    prior = LinearLayer(
        weight_kd=torch.randn(2, 4, generator=generator),
        bias_k=torch.randn(2, generator=generator),
    )
    layer = fit_classifier(x_wd, torch.arange(30) % 3, classes=3, decay=1e6, prior=prior)
    torch.testing.assert_close(layer.weight_kd[:2], prior.weight_kd, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(layer.weight_kd[2], torch.zeros(4), atol=1e-3, rtol=0)


def test_every_registered_head_ends_in_a_linear_layer():
    for name in HEADS:
        head = create_head(name, width=16, frames=3, tokens=4, classes=5)
        assert last_layer(head).out_features == 5, name
