# SPDX-License-Identifier: Apache-2.0
"""The feature cache: a reader gets the tokens of the backbone, after stops and kills too."""

import json
import multiprocessing
import os
import shutil
import signal
import time

import numpy as np
import pytest
import torch

from step_ros.datasets.clip import ClipRecord
from step_ros.datasets.frames import index_video, read_frames
from step_ros.datasets.sampling import spread_windows
from step_ros.encoders.base import TorchEncoder
from step_ros.experiments.run import QuantisedCacheView
from step_ros.io.video import VideoWriter
from step_ros.model.bundle import load_bundle
from step_ros.resources import find_bundle
from step_ros.training.feature_cache import spec as spec_module
from step_ros.training.feature_cache.cache import FeatureCache, estimate, extract
from step_ros.training.feature_cache.shard import ShardWriter
from step_ros.training.feature_cache.spec import (
    CacheError,
    CacheSpec,
    check_room,
    quantisation_error,
    spec_for,
)

CPU = torch.device('cpu')
SHAPE = (2, 3, 4, 8)


def small_spec(**changes):
    views, frames, tokens, width = SHAPE
    return CacheSpec(
        **{
            'dataset': 'toy',
            'backbone': 'vit',
            'digest': 'sha256:0',
            'tokens': 'patches',
            'image_size': (8, 8),
            'mean': (0, 0, 0),
            'std': (1, 1, 1),
            'sampling': {'interval': 2},
            'transform': {},
            'frames': frames,
            'views': views,
            'tokens_per_frame': tokens,
            'width': width,
            **changes,
        }
    )


def clips(count):
    return [
        ClipRecord(clip_id=f'clip{number:02d}', video='x.mp4', split='train', labels={'a': 'b'})
        for number in range(count)
    ]


def load(record, view):
    """Images of a value that identifies clip and view; clip 3 cannot be loaded."""
    number = int(record.clip_id[4:])
    if number == 3:
        raise ValueError('clip 3 is broken')
    return np.full((3, 8, 8, 3), 10 * number + view)


def encode(images):
    generator = torch.Generator().manual_seed(int(images[0, 0, 0, 0]))
    return torch.randn(SHAPE[1:], generator=generator)


def made(root, count=10, **changes):
    spec = small_spec(**changes)
    return FeatureCache(extract(root, spec, clips(count), load, encode, shard_clips=4), spec)


def expected(clip_id, view):
    return encode(np.full((1, 1, 1, 1), 10 * int(clip_id[4:]) + view))


# ---- reading


def test_tokens_are_read_in_half_precision(tmp_path):
    cache = made(tmp_path)
    assert len(cache.clips) == 9
    for clip_id in cache.clips:
        for view in range(2):
            wanted = expected(clip_id, view).half().float()
            torch.testing.assert_close(cache.read(clip_id, view), wanted, rtol=0, atol=0)
    cache.verify()


def test_int8_tokens_are_within_half_a_step(tmp_path):
    cache = made(tmp_path, dtype='int8')
    for clip_id in cache.clips:
        wanted = expected(clip_id, 1)
        step = wanted.abs().amax(dim=-1, keepdim=True) / 127
        assert ((cache.read(clip_id, 1) - wanted).abs() <= 0.501 * step).all()
    assert made(tmp_path / 'half').spec.clip_bytes / cache.spec.clip_bytes == 2 * 8 / (8 + 4)


def test_a_clip_that_cannot_be_loaded_is_a_failure(tmp_path):
    cache = made(tmp_path)
    assert 'clip03' not in cache
    assert [(failure.clip_id, failure.why) for failure in cache.failures] == [
        ('clip03', 'clip 3 is broken')
    ]
    with pytest.raises(KeyError):
        cache.read('clip03', 0)


def test_worker_processes_give_the_same_tokens(tmp_path):
    folder = extract(tmp_path, small_spec(), clips(6), load, encode, shard_clips=4, workers=2)
    one, other = FeatureCache(folder), made(tmp_path / 'other', count=6)
    for clip_id in other.clips:
        assert torch.equal(one.read(clip_id, 0), other.read(clip_id, 0))


def test_a_real_backbone_on_real_videos(tiny_model, tmp_path):
    backbone = tiny_model().backbone
    encoder = TorchEncoder(backbone, device=CPU)
    records = []
    for number in range(3):
        path = tmp_path / f'{number}.mp4'
        with VideoWriter(path, size=(64, 48), rate=25) as writer:
            rng = np.random.default_rng(number)
            for frame in range(20):
                image = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
                writer.write(image, frame * 40_000_000)
        records.append(
            ClipRecord(clip_id=path.stem, video=path, split='train', labels={'action': 'wave'})
        )

    def windows(record, view):
        index = index_video(record.video)
        chosen = spread_windows(index.stamps_ns, frames=4, frame_period_ns=80_000_000, clips=2)
        return read_frames(index, chosen[view])

    spec = spec_for(backbone, dataset='toy', sampling={}, transform={}, frames=4, views=2)
    cache = FeatureCache(
        extract(tmp_path, spec, records, windows, lambda images: encoder.encode(list(images)))
    )
    for record in records:
        direct = encoder.encode(list(windows(record, 1)))
        torch.testing.assert_close(cache.read(record.clip_id, 1), direct, rtol=1e-3, atol=1e-3)


def test_quantisation_error_is_within_its_bound():
    """On a real encoder's tokens; the bound of int8 is half a step of the largest channel."""
    backbone = load_bundle(find_bundle('tabletop-tiny')).model.backbone
    backbone.give('patches')
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (4, 6, 8, 3), dtype=np.uint8)
    images = list(coarse.repeat(20, axis=1).repeat(20, axis=2))
    x_vtnd = TorchEncoder(backbone, device=CPU).encode(images)[None].numpy()
    half, byte = (quantisation_error(x_vtnd, dtype) for dtype in ('float16', 'int8'))
    assert 0 < half < 3e-4
    assert half < byte < 0.02
    largest_vtn = np.abs(x_vtnd).max(axis=-1)
    lengths_vtn = np.linalg.norm(x_vtnd, axis=-1)
    bound = (largest_vtn / 254 * x_vtnd.shape[-1] ** 0.5 / lengths_vtn).mean()
    assert byte <= bound
    assert quantisation_error(np.zeros((1, 1, 2, 4), np.float32), 'int8') == 0
    assert quantisation_error(x_vtnd.astype(np.float16), 'float16') == 0


# ---- stops, kills and several processes


def test_a_stopped_extraction_keeps_finished_shards(tmp_path):
    calls = []

    def stop_at_6(images):
        calls.append(int(images[0, 0, 0, 0]))
        if calls[-1] >= 60:
            raise KeyboardInterrupt
        return encode(images)

    with pytest.raises(KeyboardInterrupt):
        extract(tmp_path, small_spec(), clips(10), load, stop_at_6, shard_clips=4)
    folder = tmp_path / small_spec().key
    assert [path.name for path in sorted(folder.glob('*.bin'))] == ['shard-00000.bin']
    assert not list(folder.glob('*partial*'))
    with pytest.raises(CacheError, match='not finished'):
        FeatureCache(folder)
    calls.clear()
    extract(
        tmp_path,
        small_spec(),
        clips(10),
        load,
        lambda images: calls.append(int(images[0, 0, 0, 0])) or encode(images),
        shard_clips=4,
    )
    assert min(calls) == 40  # no clip of the first shard was encoded again
    assert len(FeatureCache(folder).clips) == 9
    calls.clear()
    extract(tmp_path, small_spec(), clips(10), load, encode, shard_clips=4)
    assert not calls


def _slow_worker(root, started):
    def slow(images):
        started.set()
        time.sleep(0.02)
        return encode(images)

    extract(root, small_spec(), clips(30), load, slow, shard_clips=4)


def _worker(root, done):
    def noted(images):
        done.append(int(images[0, 0, 0, 0]))
        return encode(images)

    extract(root, small_spec(), clips(30), load, noted, shard_clips=4)


def test_several_processes_encode_each_clip_once(tmp_path):
    context = multiprocessing.get_context('fork')
    with context.Manager() as manager:
        done = manager.list()
        workers = [context.Process(target=_worker, args=(tmp_path, done)) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
            assert worker.exitcode == 0
        assert sorted(done) == sorted(
            10 * number + view for number in range(30) if number != 3 for view in range(2)
        )
    cache = FeatureCache(tmp_path / small_spec().key)
    cache.verify()
    assert len(cache.clips) == 29


def test_a_killed_process_blocks_no_other(tmp_path):
    context = multiprocessing.get_context('fork')
    started = context.Event()
    worker = context.Process(target=_slow_worker, args=(tmp_path, started))
    worker.start()
    assert started.wait(30)
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(30)
    cache = FeatureCache(extract(tmp_path, small_spec(), clips(30), load, encode, shard_clips=4))
    cache.verify()
    assert len(cache.clips) == 29


def test_key_without_token_grid_is_as_before_token_grids():
    assert small_spec().key == small_spec(token_grid=None).key == 'e9d0c26dc9d7b399'
    assert 'token_grid' not in small_spec().model_dump(mode='json')


# ---- errors


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('digest', 'sha256:1'),
        ('token_grid', (2, 2)),
        ('sampling', {'interval': 1}),
        ('std', (2, 2, 2)),
        ('views', 3),
    ],
)
def test_a_cache_of_other_tokens_is_refused(field, value, tmp_path):
    made(tmp_path)
    other = small_spec(**{field: value})
    assert other.key != small_spec().key
    with pytest.raises(CacheError, match=f'{field} is .*, expected .*; extract'):
        FeatureCache(tmp_path / small_spec().key, other)


def test_other_clips_under_the_same_name_are_refused(tmp_path):
    made(tmp_path)
    with pytest.raises(CacheError, match='made of other clips'):
        made(tmp_path, count=11)


def test_clips_with_the_same_name_are_refused(tmp_path):
    with pytest.raises(CacheError, match="two clips have the name 'clip01'"):
        extract(tmp_path, small_spec(), [*clips(3), clips(2)[1]], load, encode)


@pytest.mark.parametrize('dtype', ['float16', 'int8'])
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_tokens_that_are_not_finite_are_refused(value, dtype, tmp_path):
    def poisoned(images):
        tokens = encode(images)
        if images[0, 0, 0, 0] == 50:
            tokens[1, 2, 3] = value
        return tokens

    with pytest.raises(CacheError, match="clip 'clip05' has tokens that are not finite"):
        extract(tmp_path, small_spec(dtype=dtype), clips(10), load, poisoned, shard_clips=4)
    folder = tmp_path / small_spec(dtype=dtype).key
    assert len(list(folder.glob('*.bin'))) == 1


def test_damage_is_found(tmp_path):
    made(tmp_path)
    folder = tmp_path / small_spec().key
    data = folder / 'shard-00001.bin'
    content = bytearray(data.read_bytes())
    content[10] ^= 1
    data.write_bytes(bytes(content))
    with pytest.raises(
        CacheError, match=r'shard-00001\.bin: the content differs from its checksum'
    ):
        FeatureCache(folder).verify()
    content[10:12] = np.float16('nan').tobytes()
    data.write_bytes(bytes(content))
    cache = FeatureCache(folder)
    with pytest.raises(CacheError, match='not finite'):
        cache.read('clip04', 0)
    data.write_bytes(bytes(content[:-2]))
    with pytest.raises(CacheError, match=r'shard-00001\.bin: \d+ bytes, expected'):
        FeatureCache(folder)
    (folder / 'shard-00002.json').unlink()
    data.write_bytes(bytes(content))
    with pytest.raises(CacheError, match='not finished'):
        FeatureCache(folder)
    with pytest.raises(CacheError, match='no such file'):
        FeatureCache(tmp_path / 'nowhere')


def small_disk(monkeypatch, tmp_path, free):
    """Show a disk of 100 kB with some bytes free; caches leave 2 kB of them free."""
    disk = shutil.disk_usage(tmp_path)._replace(total=100_000, free=free)
    monkeypatch.setattr(spec_module.shutil, 'disk_usage', lambda _: disk)


def test_a_too_small_disk_is_refused_before_encoding(tmp_path, monkeypatch):
    needed = 10 * small_spec().clip_bytes
    small_disk(monkeypatch, tmp_path, needed + 1999)
    with pytest.raises(
        CacheError, match=r'need 3\.8 kB, the disk has room for 3\.8 kB; free disk space'
    ):
        made(tmp_path / 'cache')
    assert not (tmp_path / 'cache').exists()
    small_disk(monkeypatch, tmp_path, needed + 2000)
    assert len(made(tmp_path / 'cache').clips) == 9


def test_caches_must_fit_together(tmp_path, monkeypatch):
    specs = small_spec(), small_spec(dataset='other')
    small_disk(monkeypatch, tmp_path, 2000 + 15 * specs[0].clip_bytes)
    both = [estimate(tmp_path, spec, clips(10)) for spec in specs]
    for one in both:
        check_room([one])
    with pytest.raises(
        CacheError, match=r'the caches need 7\.7 kB, the disk has room for 5\.8 kB'
    ):
        check_room(both)
    check_room([])
    # Finished shards need no more room.
    made(tmp_path)
    small_disk(monkeypatch, tmp_path, 0)
    check_room([estimate(tmp_path, specs[0], clips(10), shard_clips=4)])


def test_the_estimate_counts_missing_clips_and_writes_nothing(tmp_path, capsys):
    root = tmp_path / 'not' / 'there'
    before = estimate(root, small_spec(), clips(10), shard_clips=4)
    assert not root.parent.exists()
    assert (before.clips, before.clips_left, before.bytes_left) == (10, 10, 3840)

    def stop_at_6(images):
        if images[0, 0, 0, 0] >= 60:
            raise KeyboardInterrupt
        return encode(images)

    with pytest.raises(KeyboardInterrupt):
        extract(root, small_spec(), clips(10), load, stop_at_6, shard_clips=4)
    left = estimate(root, small_spec(), clips(10), shard_clips=4)
    assert (left.clips_left, left.bytes_left) == (6, 6 * 384)
    assert '6 of 10 clips to encode, 2.3 kB of 3.8 kB; the disk has room for' in str(left)
    capsys.readouterr()
    made(root)
    assert '6 of 10 clips to encode, 2.3 kB of 3.8 kB' in capsys.readouterr().out
    assert str(estimate(root, small_spec(), clips(10), shard_clips=4)).endswith(
        'all 10 clips are encoded, 3.8 kB'
    )


def test_a_full_disk_keeps_finished_shards(tmp_path, monkeypatch):
    original = ShardWriter.add

    def full(writer, clip_id, tokens):
        if clip_id == 'clip06':
            raise OSError(28, 'No space left on device')
        original(writer, clip_id, tokens)

    monkeypatch.setattr(ShardWriter, 'add', full)
    with pytest.raises(CacheError, match=r'shard 1 cannot be written: .*No space left'):
        made(tmp_path)
    folder = tmp_path / small_spec().key
    assert [path.name for path in sorted(folder.glob('*.json'))] == [
        'manifest.json',
        'shard-00000.json',
    ]
    assert len(json.loads((folder / 'shard-00000.json').read_text())['clips']) == 3


def test_a_backbone_with_adapters_has_no_cache(tiny_model):
    from step_ros.model.peft.registry import insert_adapters

    backbone = insert_adapters(tiny_model().backbone, 'vpt-deep', frames=4)
    with pytest.raises(ValueError, match='has adapters'):
        spec_for(backbone, dataset='toy', sampling={}, transform={}, frames=4, views=1)


def test_quantised_view_reads_as_an_int8_cache(tmp_path):
    fine, coarse = made(tmp_path), made(tmp_path, dtype='int8')
    rounded = QuantisedCacheView(fine.folder, fine.spec, dtype='int8')
    assert rounded.clips == fine.clips
    for clip in fine.clips[:3]:
        # Half a step of the scale, at most, lies between rounding once and twice.
        step = coarse.read(clip, 1).abs().amax(dim=-1, keepdim=True) / 127
        assert bool(((rounded.read(clip, 1) - coarse.read(clip, 1)).abs() <= 1.01 * step).all())
        assert not torch.equal(rounded.read(clip, 1), fine.read(clip, 1))
        same = QuantisedCacheView(fine.folder, fine.spec, dtype='float16')
        assert torch.equal(same.read(clip, 1), fine.read(clip, 1))
