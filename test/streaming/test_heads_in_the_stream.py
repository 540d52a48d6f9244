# SPDX-License-Identifier: Apache-2.0
"""Every head of the registry, and every image adapter, streams from a bundle."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from step_ros.encoders.base import TorchEncoder, normalise
from step_ros.model.bundle import BundleError, load_bundle
from step_ros.model.heads.registry import HEADS
from step_ros.model.peft.registry import PEFT_METHODS, insert_adapters
from step_ros.streaming.recogniser import StreamingRecogniser

CPU = torch.device('cpu')
FRAMES, PERIOD_NS = 4, 100_000_000
IMAGE_METHODS = [name for name, method in PEFT_METHODS.items() if not method.temporal]


def whole_clips(model, images):
    """Return the logits of every window of the images, without the stream."""
    x_b3hw = normalise(
        torch.from_numpy(np.stack(images)), mean=model.backbone.mean, std=model.backbone.std
    )
    x_bt3hw = torch.stack([x_b3hw[i : i + FRAMES] for i in range(len(images) - FRAMES + 1)])
    with torch.inference_mode():
        return model(x_bt3hw)


def check_stream(bundle, film):
    frames = [film.frame(10**9 + index * PERIOD_NS) for index in range(7)]
    images = [frame.load() for frame in frames]
    recogniser = StreamingRecogniser(
        bundle, TorchEncoder(bundle.model.backbone, device=CPU), order_evidence=True
    )
    hypotheses = [hypothesis for frame in frames for hypothesis in recogniser.process([frame])]
    expected = whole_clips(bundle.model, images)
    assert len(hypotheses) == 4
    for spec_index, spec in enumerate(bundle.spec.tasks):
        scores = np.stack([hypothesis.tasks[spec_index].scores_k for hypothesis in hypotheses])
        expected_scores = (expected[spec.name] / spec.temperature).softmax(dim=-1).numpy()
        np.testing.assert_allclose(scores, expected_scores, atol=1e-4)
    return hypotheses


@pytest.mark.parametrize('name', HEADS)
def test_every_head_streams_from_a_bundle(name, tiny_model, save_tiny_bundle, film, tmp_path):
    bundle = save_tiny_bundle(tmp_path, tiny_model(head=name))
    assert bundle.spec.heads.name == name
    hypotheses = check_stream(load_bundle(tmp_path), film)
    evidence = max(task.order_evidence for hypothesis in hypotheses for task in hypothesis.tasks)
    if bundle.model.heads['action'].order_aware:
        assert evidence > 1e-5
    else:
        assert evidence < 1e-6


@pytest.mark.parametrize(
    'options',
    [
        {'positions': 'token-wise', 'cls': 'frame'},
        {'positions': 'hybrid', 'block': 'full', 'pooling': 'cls', 'classifier': 'mlp'},
    ],
)
def test_head_options_are_kept_in_the_bundle(
    options, tiny_model, save_tiny_bundle, film, tmp_path
):
    save_tiny_bundle(tmp_path, tiny_model(options=options))
    bundle = load_bundle(tmp_path)
    assert options.items() <= bundle.model.heads['verb'].options.items()
    check_stream(bundle, film)


@pytest.mark.parametrize('token_grid', [(1, 3), (2, 1), (1, 1)])
@pytest.mark.parametrize(
    'head',
    [
        pytest.param({'options': {'positions': 'hybrid'}}, id='step'),
        pytest.param({'options': {'positions': 'token-wise', 'cls': 'frame'}}, id='all tokens'),
        pytest.param({'head': 'attentive'}, id='plain heads'),
        pytest.param({'head': 'linear'}, id='cls alone'),
    ],
)
def test_fewer_tokens_stream_from_a_bundle(
    head, token_grid, tiny_model, save_tiny_bundle, film, tmp_path
):
    save_tiny_bundle(tmp_path, tiny_model(token_grid=token_grid, **head))
    check_stream(load_bundle(tmp_path), film)


# ---- adapters


def adapted(tiny_model, method, **options):
    torch.manual_seed(3)
    model = tiny_model()
    insert_adapters(model.backbone, method, frames=FRAMES, **options)
    for parameter in model.backbone.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(std=0.2)
    return model.eval()


@pytest.mark.parametrize('weights', ['backbone.safetensors', 'random'])
@pytest.mark.parametrize('method', IMAGE_METHODS)
def test_image_adapters_stream_from_a_bundle(
    method, weights, tiny_model, save_tiny_bundle, film, tmp_path
):
    model = adapted(tiny_model, method)
    bundle = save_tiny_bundle(tmp_path, model, backbone_weights=weights)
    assert bundle.spec.backbone.adapters.name == method
    assert not bundle.model.backbone.learns
    x_bt3hw = torch.randn(2, FRAMES, 3, 32, 48)
    with torch.inference_mode():
        before, after = model(x_bt3hw), bundle.model(x_bt3hw)
        bare = tiny_model()(x_bt3hw)
    for task in before:
        torch.testing.assert_close(after[task], before[task])
        assert not torch.allclose(after[task], bare[task])
    check_stream(bundle, film)


@pytest.mark.parametrize('method', sorted(PEFT_METHODS.keys() - set(IMAGE_METHODS)))
def test_bundle_refuses_adapters_that_mix_frames(method, tiny_model, save_tiny_bundle, tmp_path):
    model = adapted(tiny_model, method)
    with pytest.raises(ValueError, match=r'mix the frames.*these stream: vpt-deep'):
        save_tiny_bundle(tmp_path, model)


def test_loading_adapters_keeps_the_random_state(tiny_model, save_tiny_bundle, tmp_path):
    save_tiny_bundle(tmp_path, adapted(tiny_model, 'vpt-deep'))
    torch.manual_seed(5)
    load_bundle(tmp_path)
    first = torch.rand(2)
    torch.manual_seed(5)
    load_bundle(tmp_path)
    torch.testing.assert_close(torch.rand(2), first)


def rewrite(folder, change):
    path = folder / 'bundle.yaml'
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change))


@pytest.mark.parametrize(
    ('change', 'field', 'why'),
    [
        (('name: vpt-deep', 'name: lora'), 'backbone.adapters', "'lora' are unknown"),
        (('name: vpt-deep', 'name: aim'), 'backbone.adapters', 'mix the frames'),
        (('prompts: 8', 'prompts: 0'), 'backbone.adapters', 'prompts=0; expected an integer'),
        (('prompts: 8', 'prompts: 5'), '', 'has shape'),
        (('prompts: 8', 'frames: 8'), 'backbone.adapters', 'frames'),
    ],
)
def test_damaged_description_of_adapters_is_named(
    change, field, why, tiny_model, save_tiny_bundle, tmp_path
):
    save_tiny_bundle(tmp_path, adapted(tiny_model, 'vpt-deep'))
    rewrite(tmp_path, change)
    with pytest.raises(BundleError, match=why) as caught:
        load_bundle(tmp_path)
    assert caught.value.field == field


def test_damaged_weights_of_adapters_are_named(tiny_model, save_tiny_bundle, tmp_path):
    save_tiny_bundle(tmp_path, adapted(tiny_model, 'vpt-deep'))
    path = tmp_path / 'adapters.safetensors'
    tensors = load_file(path)
    save_file({key: value + 1 for key, value in tensors.items()}, path)
    with pytest.raises(BundleError, match=r'bundle\.yaml expects') as caught:
        load_bundle(tmp_path)
    assert (caught.value.path, caught.value.field) == (path, 'backbone.adapters.digest')
    path.unlink()
    with pytest.raises(BundleError, match=r'names it in backbone\.adapters\.weights'):
        load_bundle(tmp_path)
