"""Model bundles: what is saved is what is loaded, and no damage goes unnoticed."""

import os
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from step_ros.model.bundle import (
    create_heads,
    load_bundle,
    model_id,
    read_spec,
    save_bundle,
)
from step_ros.model.bundle_files import BundleError
from step_ros.model.bundle_schema import HeadsSpec, TaskSpec
from step_ros.model.heads import create_head
from step_ros.model.multitask import MultiTaskModel
from step_ros.model.step import StepHead
from step_ros.model.weights import file_digest

NO_DIGEST = 'sha256:' + 64 * '0'
HEADS, BACKBONE, SPEC = 'heads.safetensors', 'backbone.safetensors', 'bundle.yaml'


class Copy:
    """A copy of a bundle, to be damaged."""

    def __init__(self, folder):
        self.folder = folder

    def edit(self, field, value):
        """Set a field of `bundle.yaml`, given as `tasks.0.name`; `...` takes it out."""
        path = self.folder / SPEC
        content = yaml.safe_load(path.read_text())
        *parents, last = (int(part) if part.isdigit() else part for part in field.split('.'))
        place = content
        for part in parents:
            place = place[part]
        if value is ...:
            del place[last]
        else:
            place[last] = value
        path.write_text(yaml.safe_dump(content, sort_keys=False))

    def write(self, name, data):
        """Write bytes into a weight file and correct its digest in `bundle.yaml`."""
        (self.folder / name).write_bytes(data)
        self._correct_digest(name)

    def edit_tensors(self, name, **changes):
        """Replace tensors of a weight file, `None` for taking one out; correct its digest."""
        tensors = load_file(self.folder / name) | changes
        save_file(
            {key: value for key, value in tensors.items() if value is not None},
            self.folder / name,
        )
        self._correct_digest(name)

    def _correct_digest(self, name):
        field = {HEADS: 'heads.digest', BACKBONE: 'backbone.digest'}[name]
        self.edit(field, file_digest(self.folder / name))

    def error(self):
        """Load the copy and return the error."""
        with pytest.raises(BundleError) as caught:
            load_bundle(self.folder)
        return caught.value


@pytest.fixture
def copy(tiny_bundle, tmp_path):
    return Copy(Path(shutil.copytree(tiny_bundle.path, tmp_path / 'copy')))


@pytest.fixture
def clips():
    return torch.randn(2, 4, 3, 32, 48, generator=torch.Generator().manual_seed(2))


def answers(model, clips):
    with torch.inference_mode():
        return model(clips)


def assert_equal(ones, others):
    assert list(ones) == list(others)
    for task in ones:
        assert torch.equal(ones[task], others[task]), task


# ---- round trip


@pytest.mark.parametrize('positions', ['learnable', 'none'])
@pytest.mark.parametrize('weights', [BACKBONE, 'eyes.safetensors', 'random'])
def test_a_round_trip_gives_bit_equal_answers(
    weights, positions, tiny_model, save_tiny_bundle, tmp_path, clips
):
    model = tiny_model(positions=positions)
    saved = save_tiny_bundle(tmp_path / 'a' / 'b', model, backbone_weights=weights)
    loaded = load_bundle(tmp_path / 'a' / 'b')
    expected = answers(model, clips)
    assert_equal(answers(saved.model, clips), expected)
    assert_equal(answers(loaded.model, clips), expected)
    assert loaded.spec == saved.spec
    assert loaded.model_id == saved.model_id
    assert loaded.path == tmp_path / 'a' / 'b'
    assert (loaded.path / BACKBONE).exists() == (weights == BACKBONE)
    assert not loaded.model.training
    assert not any(module.training for module in loaded.model.modules())


def test_a_round_trip_of_a_wide_image_gives_bit_equal_answers(tiny_model, tmp_path):
    # 9 x 16 patches are as many as 12 x 12: the positions must not be taken for a square.
    from step_ros.model.backbone import create_backbone

    arguments = {'embed_dim': 32, 'depth': 1, 'num_heads': 2}
    backbone = create_backbone(
        'vit_tiny_patch16_224', weights='random', image_size=(144, 256), arguments=arguments
    )
    model = MultiTaskModel(backbone, tiny_model().heads).eval()
    tasks = tuple(
        TaskSpec(name=task, labels=tuple(f'label {index}' for index in range(head.classes)))
        for task, head in model.heads.items()
    )
    bundle = save_bundle(
        tmp_path,
        model,
        name='wide',
        frame_period=0.1,
        tasks=tasks,
        backbone_arguments=arguments,
    )
    x_bt3hw = torch.randn(1, 4, 3, 144, 256)
    assert_equal(answers(bundle.model, x_bt3hw), answers(model, x_bt3hw))


def test_the_spec_says_what_was_saved(tiny_bundle):
    spec = read_spec(tiny_bundle.path)
    assert spec == tiny_bundle.spec
    assert (spec.name, spec.format, spec.frames, spec.frame_period) == ('tiny', 1, 4, 0.1)
    assert (spec.image.height, spec.image.width) == (32, 48)
    assert [task.name for task in spec.tasks] == ['action', 'verb', 'object']
    assert tiny_bundle.model.tasks == ('action', 'verb', 'object')
    assert spec.tasks[0].counterparts['lay down'] == 'pick up'
    assert spec.heads.digest == file_digest(tiny_bundle.path / HEADS)
    assert spec.backbone.digest == file_digest(tiny_bundle.path / BACKBONE)


def test_the_bundles_normalisation_holds_not_timms(tiny_bundle):
    backbone = tiny_bundle.model.backbone
    assert (backbone.mean, backbone.std) == ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
    assert backbone.vit.pretrained_cfg['mean'] != backbone.mean


def test_descriptions_come_back(tiny_model, save_tiny_bundle, tmp_path):
    about = {
        'description': 'Zwölf Griffe – «links» und «rechts»',
        'license': 'Apache-2.0',
        'provenance': {'seed': 1, 'data': ['a', 'b']},
        'metrics': {'action': {'top1': 0.5}},
    }
    spec = save_tiny_bundle(tmp_path, tiny_model(), **about).spec
    assert {key: getattr(spec, key) for key in about} == about


def test_saving_over_a_bundle_replaces_it(tiny_model, save_tiny_bundle, tmp_path):
    first = save_tiny_bundle(tmp_path, tiny_model())
    second = save_tiny_bundle(tmp_path, tiny_model(positions='none'), name='second')
    assert second.spec.name == 'second'
    assert load_bundle(tmp_path).model_id == second.model_id != first.model_id


def test_a_bundle_may_be_moved(copy, tiny_bundle, clips):
    moved = load_bundle(shutil.move(copy.folder, copy.folder.with_name('moved')))
    assert_equal(answers(moved.model, clips), answers(tiny_bundle.model, clips))


def test_heads_that_the_spec_cannot_tell_apart_are_refused(tiny_model, save_tiny_bundle, tmp_path):
    # Attention heads change the answers but no tensor's shape.
    model = tiny_model()
    given = {'width': 32, 'frames': 4, 'tokens': 6, 'classes': 3}
    model.heads['verb'] = create_head('step', **given, attention_heads=4)
    with pytest.raises(ValueError, match=r'alike.*attention_heads'):
        save_tiny_bundle(tmp_path, model)
    assert not list(tmp_path.iterdir())


def test_heads_that_the_registry_did_not_make_are_refused(tiny_model, save_tiny_bundle, tmp_path):
    model = tiny_model()
    for task, head in model.heads.items():
        model.heads[task] = StepHead(width=32, frames=4, classes=head.classes)
    with pytest.raises(ValueError, match='made by `create_head`'):
        save_tiny_bundle(tmp_path, model)


@pytest.mark.parametrize('task', ['fine verb', 'verb.fine', 'keys', 'type', 'training'])
def test_a_task_with_an_unusual_name_works_or_is_refused(task, copy, clips):
    # Either is fine, but torch must not stumble over a name that the schema takes.
    copy.edit('tasks.0.name', task)
    tensors = load_file(copy.folder / HEADS)
    save_file({re.sub('^action', task, key): v for key, v in tensors.items()}, copy.folder / HEADS)
    copy.edit('heads.digest', file_digest(copy.folder / HEADS))
    try:
        bundle = load_bundle(copy.folder)
    except BundleError as error:
        refused = (error.path.name, error.field)
    else:
        assert task in answers(bundle.model, clips)
        return
    assert refused == (SPEC, 'tasks.0.name')


# ---- identity


def test_model_id_is_the_name_and_a_digest(tiny_bundle):
    assert re.fullmatch(r'tiny@[0-9a-f]{12}', tiny_bundle.model_id)
    assert tiny_bundle.model_id == model_id(tiny_bundle.spec)


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('description', 'another'),
        ('license', 'MIT'),
        ('provenance', {'seed': 2}),
        ('metrics', {'top1': 1.0}),
    ],
)
def test_model_id_does_not_change_with_what_decides_nothing(field, value, copy, tiny_bundle):
    copy.edit(field, value)
    assert load_bundle(copy.folder).model_id == tiny_bundle.model_id


def test_model_id_keeps_its_digest_under_another_name(copy, tiny_bundle):
    copy.edit('name', 'other')
    name, digest = load_bundle(copy.folder).model_id.split('@')
    assert name == 'other'
    assert digest == tiny_bundle.model_id.split('@')[1]


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('frame_period', 0.2),
        ('image.mean', [0.1, 0.2, 0.3]),
        ('tasks.0.labels.0', 'rest'),
        ('tasks.0.temperature', 2.0),
        ('heads.options.attention_heads', 4),
    ],
)
def test_model_id_changes_with_what_decides_an_answer(field, value, copy, tiny_bundle):
    copy.edit(field, value)
    assert load_bundle(copy.folder).model_id != tiny_bundle.model_id


@pytest.mark.parametrize(
    ('name', 'tensor'), [(HEADS, 'verb.cls_d'), (BACKBONE, 'blocks.0.attn.qkv.bias')]
)
def test_model_id_changes_with_the_weights(name, tensor, copy, tiny_bundle):
    changed = load_file(copy.folder / name)[tensor]
    changed[0] += 1e-3
    copy.edit_tensors(name, **{tensor: changed})
    assert load_bundle(copy.folder).model_id != tiny_bundle.model_id


# ---- damage: files


def test_a_missing_folder(tmp_path):
    with pytest.raises(BundleError, match=r'nowhere: no such folder.*bundle\.yaml') as caught:
        load_bundle(tmp_path / 'nowhere')
    assert caught.value.path == tmp_path / 'nowhere'


def test_a_file_in_place_of_the_folder(copy):
    with pytest.raises(BundleError, match=r'bundle\.yaml: no such folder'):
        load_bundle(copy.folder / SPEC)


@pytest.mark.parametrize('name', [SPEC, HEADS, BACKBONE])
@pytest.mark.parametrize('by_a_folder', [False, True])
def test_a_missing_file(name, by_a_folder, copy):
    (copy.folder / name).unlink()
    if by_a_folder:
        (copy.folder / name).mkdir()
    error = copy.error()
    assert str(copy.folder / name) in str(error)
    assert 'no such file' in str(error) or 'do not exist' in str(error)


@pytest.mark.parametrize(
    'content',
    [
        pytest.param(b'name: [tiny', id='broken'),
        pytest.param(b'name: tiny\n\tframes: 4', id='tab'),
        pytest.param(b'\xff\xfe\x00name', id='not text'),
        pytest.param(b'name: \x00', id='control character'),
        pytest.param(b'!!python/object/apply:os.mkdir [pwned]', id='python object'),
    ],
)
def test_what_is_no_yaml(content, copy, monkeypatch):
    monkeypatch.chdir(copy.folder)
    (copy.folder / SPEC).write_bytes(content)
    error = copy.error()
    assert error.path == copy.folder / SPEC
    assert 'not readable as YAML' in str(error)
    assert 'pwned' not in os.listdir()


@pytest.mark.parametrize(
    ('content', 'found'),
    [('', 'NoneType'), ('- name: tiny', 'list'), ('tiny', 'str'), ('4', 'int')],
)
def test_yaml_that_is_no_mapping(content, found, copy):
    (copy.folder / SPEC).write_text(content)
    error = copy.error()
    assert error.path == copy.folder / SPEC
    assert f'expected a mapping, found {found}' in str(error)


# ---- damage: fields


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        pytest.param('colour', 'green', id='unknown key'),
        pytest.param('image.colour', 'green', id='unknown key of the image'),
        pytest.param('backbone.colour', 'green', id='unknown key of the backbone'),
        pytest.param('heads.dropout', 0.1, id='unknown key of the heads'),
        pytest.param('tasks.1.colour', 'green', id='unknown key of a task'),
        *(
            pytest.param(field, ..., id=f'{field} is missing')
            for field in (
                'name',
                'frames',
                'frame_period',
                'image',
                'image.height',
                'image.mean',
                'image.std',
                'backbone',
                'backbone.name',
                'backbone.weights',
                'backbone.digest',
                'heads',
                'heads.digest',
                'tasks',
                'tasks.2.name',
                'tasks.2.labels',
            )
        ),
        ('format', 2),
        ('format', 0),
        ('format', 'one'),
        ('name', 4),
        ('name', ''),
        ('name', '../tiny'),
        ('frames', 'four'),
        ('frames', 4.5),
        ('frames', 0),
        ('frames', None),
        ('frames', [4]),
        ('frame_period', 'fast'),
        ('frame_period', 0),
        ('frame_period', -0.1),
        ('frame_period', float('nan')),
        ('frame_period', float('inf')),
        ('image', 224),
        ('image.height', 0),
        ('image.width', 'wide'),
        ('image.mean', [0.5, 0.5]),
        ('image.mean', 0.5),
        ('image.mean', [0.5, 0.5, float('nan')]),
        ('image.std', [0.5, 0.5, 0.5, 0.5]),
        ('image.std', [0.5, 0.5, 0.0]),
        ('image.std', [0.5, 0.5, float('inf')]),
        ('backbone', 'vit_tiny_patch16_224'),
        ('backbone.name', ''),
        ('backbone.arguments', [1]),
        ('backbone.weights', 7),
        ('heads.options', 'few'),
        ('heads.weights', 'other.safetensors'),
        ('heads.digest', 'none'),
        ('heads.digest', 'sha256:12'),
        ('tasks', []),
        ('tasks', 'action'),
        ('tasks.0', 'action'),
        ('tasks.0.name', ''),
        ('tasks.0.labels', 'idle'),
        ('tasks.0.labels', ['idle']),
        ('tasks.0.labels.1', False),
        ('tasks.0.labels.1', 3),
        ('tasks.0.counterparts', ['open', 'close']),
        ('tasks.0.temperature', 0),
        ('tasks.0.temperature', 'hot'),
        ('tasks.0.temperature', float('inf')),
        ('provenance', 'unknown'),
        ('metrics', 0.5),
    ],
)
def test_a_broken_field_is_named(field, value, copy):
    copy.edit(field, value)
    error = copy.error()
    assert error.path == copy.folder / SPEC
    assert re.match(re.escape(field) + r'(\.|$)', error.field)
    assert str(error).startswith(f'{copy.folder / SPEC}: {error.field}: ')


@pytest.mark.parametrize(
    ('field', 'value', 'where', 'why'),
    [
        ('tasks.0.counterparts.open', 'shut', 'tasks.0', "counterpart 'shut' is no label"),
        ('tasks.0.counterparts.shut', 'open', 'tasks.0', "counterpart 'shut' is no label"),
        ('tasks.0.counterparts.close', ..., 'tasks.0', "'open' -> 'close' has no way back"),
        ('tasks.0.counterparts.close', 'idle', 'tasks.0', 'has no way back'),
        ('tasks.0.counterparts.idle', 'idle', 'tasks.0', "'idle' -> 'idle'"),
        ('tasks.0.labels.1', 'idle', 'tasks.0', 'repeat'),
        ('tasks.1.labels.0', '', 'tasks.1', 'empty'),
        ('tasks.1.name', 'action', '', "tasks repeat: ['action', 'action', 'object']"),
        ('backbone.weights', 'weights.pth', 'backbone', "'weights.pth'"),
        ('backbone.weights', 'random', 'backbone', 'random:SEED'),
        ('backbone.digest', 'random:0', 'backbone', 'expected sha256:'),
        ('backbone.digest', 'md5:0', 'backbone', 'expected sha256:'),
    ],
)
def test_fields_that_do_not_fit_together_are_named(field, value, where, why, copy):
    copy.edit(field, value)
    error = copy.error()
    assert (error.path, error.field) == (copy.folder / SPEC, where)
    assert why in str(error)


def test_several_broken_fields_are_counted(copy):
    copy.edit('frames', 0)
    copy.edit('frame_period', 0)
    copy.edit('colour', 'green')
    error = copy.error()
    assert 'frames' in error.field
    assert 'found 0' in str(error)
    assert '(and 2 more)' in str(error)


@pytest.mark.parametrize('weights', ['../other.safetensors', '/tmp/other.safetensors'])
def test_backbone_weights_lie_in_the_bundle(weights, copy, tmp_path):
    shutil.copy(copy.folder / BACKBONE, tmp_path / 'other.safetensors')
    copy.edit('backbone.weights', weights.replace('/tmp', str(tmp_path)))
    error = copy.error()
    assert error.path == copy.folder / SPEC
    assert error.field.startswith('backbone')


# ---- damage: weights


@pytest.mark.parametrize('name', [HEADS, BACKBONE])
def test_a_changed_weight_file(name, copy):
    path = copy.folder / name
    expected, data = file_digest(path), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    error = copy.error()
    assert error.field in ('heads.digest', 'backbone.digest', 'backbone.weights')
    for part in (str(path), expected, file_digest(path)):
        assert part in str(error)


@pytest.mark.parametrize('name', [HEADS, BACKBONE])
@pytest.mark.parametrize('kept', [0, 4, 200, -8])
def test_a_truncated_weight_file_with_its_digest(name, kept, copy):
    copy.write(name, (copy.folder / name).read_bytes()[:kept])
    assert str(copy.folder / name) in str(copy.error())


HEAD_TENSOR, BACKBONE_TENSOR = 'verb.block.attention.out.weight', 'blocks.0.attn.proj.weight'


@pytest.mark.parametrize(
    ('name', 'tensor', 'value', 'why'),
    [
        pytest.param(HEADS, HEAD_TENSOR, None, 'missing', id='missing'),
        pytest.param(HEADS, 'verb.positions.learned_td', None, 'missing', id='positions missing'),
        pytest.param(HEADS, 'tool.cls_d', torch.zeros(32), 'no task', id='of no task'),
        pytest.param(HEADS, 'verb.extra', torch.zeros(1), 'no task', id='extra'),
        pytest.param(HEADS, HEAD_TENSOR, torch.zeros(32, 31), '[32, 31]', id='shape'),
        pytest.param(HEADS, HEAD_TENSOR, torch.zeros(32 * 32), '[1024]', id='flat'),
        pytest.param(HEADS, HEAD_TENSOR, torch.full((32, 32), torch.nan), 'not finite', id='nan'),
        pytest.param(
            HEADS, HEAD_TENSOR, torch.full((32, 32), torch.inf), 'not finite', id='infinite'
        ),
        pytest.param(BACKBONE, BACKBONE_TENSOR, None, '', id='backbone, missing'),
        pytest.param(BACKBONE, 'extra.weight', torch.zeros(1), '', id='backbone, extra'),
        pytest.param(BACKBONE, BACKBONE_TENSOR, torch.zeros(32, 31), '', id='backbone, shape'),
        pytest.param(
            BACKBONE, BACKBONE_TENSOR, torch.full((32, 32), torch.nan), '', id='backbone, nan'
        ),
    ],
)
def test_a_wrong_tensor_is_named(name, tensor, value, why, copy):
    copy.edit_tensors(name, **{tensor: value})
    error = copy.error()
    assert str(copy.folder / name) in str(error)
    assert tensor in str(error)
    assert why in str(error)


def test_a_single_value_that_is_not_finite_is_found(copy):
    weight = load_file(copy.folder / HEADS)['object.classifier.bias']
    weight[-1] = torch.nan
    copy.edit_tensors(HEADS, **{'object.classifier.bias': weight})
    error = copy.error()
    assert (error.path, error.field) == (copy.folder / HEADS, 'object.classifier.bias')


@pytest.mark.parametrize(
    ('field', 'value', 'tensor'),
    [
        ('frames', 5, 'action.positions.learned_td'),
        ('tasks.1.name', 'deed', 'deed.block.attention.out.bias'),
        ('heads.options.positions', 'none', 'action.positions.learned_td'),
    ],
)
def test_heads_that_the_spec_does_not_fit(field, value, tensor, copy):
    copy.edit(field, value)
    error = copy.error()
    assert (error.path, error.field) == (copy.folder / HEADS, tensor)


def test_a_label_more_than_the_heads_have_outputs(copy):
    labels = list(load_bundle(copy.folder).spec.tasks[0].labels)
    copy.edit('tasks.0.labels', [*labels, 'another'])
    error = copy.error()
    assert error.field == 'action.classifier.bias'
    assert 'shape [5]' in str(error)
    assert '[6]' in str(error)


# ---- damage: the parts do not fit together


@pytest.mark.parametrize(
    ('field', 'value', 'why'),
    [
        ('heads.name', 'stepp', "head 'stepp' is unknown; there are step, linear, attentive"),
        ('heads.options.attention_heads', 3, 'attention_heads=3 does not divide width=32'),
        ('heads.options.attention_heads', 0, 'attention_heads=0 does not divide width=32'),
        ('heads.options.attention_heads', 'two', "attention_heads='two' does not divide"),
        ('heads.options.attention_heads', True, 'attention_heads=True does not divide'),
        ('heads.options.positions', 'sine', "'sine': expected one of learnable, fixed, hybrid"),
        ('heads.options.heads', 2, "no option 'heads'; its options and their defaults are"),
    ],
)
def test_heads_that_do_not_exist_are_refused_with_those_that_do(copy, field, value, why):
    copy.edit(field, value)
    error = copy.error()
    assert error.path == copy.folder / SPEC
    assert field.startswith(error.field)
    assert why in str(error)


def test_attention_heads_that_do_not_divide_the_width(copy):
    copy.edit('heads.options.attention_heads', 3)
    error = copy.error()
    assert (error.path, error.field) == (copy.folder / SPEC, 'heads.options')
    assert 'attention_heads=3 does not divide width=32' in str(error)


@pytest.mark.parametrize('weights', [BACKBONE, 'random'])
@pytest.mark.parametrize(('side', 'pixels'), [('height', 33), ('width', 50), ('height', 8)])
def test_an_image_that_patches_do_not_fill(side, pixels, weights, copy):
    if weights == 'random':
        copy.edit('backbone.weights', 'random')
        copy.edit('backbone.digest', 'random:0')
    copy.edit(f'image.{side}', pixels)
    error = copy.error()
    assert error.path == copy.folder / SPEC
    assert re.search(rf'\b{pixels}\b', str(error).replace(str(copy.folder), ''))


@pytest.mark.parametrize('weights', [BACKBONE, 'random'])
@pytest.mark.parametrize(
    ('name', 'why'),
    [
        ('no_such_backbone', 'unknown'),
        ('vit_tiny_patch16_224.no_such_weights', 'no_such_weights'),
        ('resnet18', 'resnet18'),
    ],
)
def test_an_unknown_backbone(name, why, weights, copy):
    copy.edit('backbone.weights', weights)
    copy.edit('backbone.digest', 'random:0' if weights == 'random' else NO_DIGEST)
    copy.edit('backbone.name', name)
    copy.edit('backbone.arguments', {})
    if weights != 'random':
        copy.write(BACKBONE, (copy.folder / BACKBONE).read_bytes())
    error = copy.error()
    assert error.path == copy.folder / SPEC
    assert error.field.startswith('backbone')
    assert why in str(error)


@pytest.mark.parametrize(
    'arguments',
    [
        {'embed_dim': 48},
        {'num_heads': 3},
        {'depth': 2},
        {'depth': 0},
        {'colour': 'green'},
        {'global_pool': 'avg'},
        {'depth': 'deep'},
        {'embed_dim': -1},
    ],
)
def test_backbone_arguments_that_do_not_fit(arguments, copy):
    given = read_spec(copy.folder).backbone.arguments
    copy.edit('backbone.arguments', {**given, **arguments})
    error = copy.error()
    assert error.path == copy.folder / SPEC
    assert error.field.startswith('backbone')


def test_random_weights_follow_the_seed_of_the_bundle(
    tiny_model, save_tiny_bundle, tmp_path, clips
):
    bundle = save_tiny_bundle(tmp_path, tiny_model(), backbone_weights='random')
    assert bundle.spec.backbone.digest == 'random:0'
    other = Copy(tmp_path)
    other.edit('backbone.digest', 'random:1')
    reseeded = load_bundle(tmp_path)
    assert reseeded.model_id != bundle.model_id
    one, another = answers(bundle.model, clips), answers(reseeded.model, clips)
    assert not torch.allclose(one['action'], another['action'], atol=1e-3)


def test_create_heads_makes_one_for_each_task(tiny_bundle):
    spec = HeadsSpec(options={'attention_heads': 4, 'positions': 'none'}, digest=NO_DIGEST)
    heads = create_heads(spec, tiny_bundle.spec.tasks, width=32, frames=7, tokens=6)
    assert [(task, head.classes) for task, head in heads.items()] == [
        ('action', 5),
        ('verb', 3),
        ('object', 4),
    ]
    for head in heads.values():
        assert head.positions is None
        assert (head.frames, head.width, head.block.attention.attention_heads) == (7, 32, 4)
    with pytest.raises(ValueError, match='attention_heads=4 does not divide width=30'):
        create_heads(spec, tiny_bundle.spec.tasks, width=30, frames=7, tokens=6)
