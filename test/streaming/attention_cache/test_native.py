# SPDX-License-Identifier: Apache-2.0
"""The compiled passes: what they compute, how they are built, found, and done without."""

import logging
import platform
import stat
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from step_ros.model.heads.step import StepHead
from step_ros.streaming.attention_cache import library, passes
from step_ros.streaming.attention_cache.cache import HeadCache
from step_ros.streaming.attention_cache.library import NativeError
from step_ros.streaming.attention_cache.native import NativeCache
from step_ros.streaming.attention_cache.passes import NativePasses, find_native, load_native
from step_ros.streaming.attention_cache.stacked_heads import StreamingHeads
from step_ros.streaming.attention_cache.storage import allocate
from step_ros.streaming.attention_cache.torch_kernels import TorchPasses, column_sums

pytestmark = pytest.mark.slow


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """Return an empty cache folder; nothing is loaded or installed yet."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(library, 'installed_folders', lambda: [tmp_path / 'installed'])
    passes.forget()
    yield tmp_path / 'step_ros'
    passes.forget()


def executable(path, text):
    path.write_text(f'#!/bin/sh\n{text}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def supported_levels():
    levels = library.LEVELS.get(platform.machine(), {})
    features = library.processor_features()
    return [level for level, (_, needed) in levels.items() if features.issuperset(needed)]


def test_first_use_compiles_once(fresh, monkeypatch):
    assert isinstance(load_native(), NativePasses)
    (built,) = fresh.iterdir()
    made = built.stat().st_mtime_ns
    passes.forget()
    monkeypatch.setattr(library, 'compile_to', None)
    load_native()
    assert built.stat().st_mtime_ns == made


def test_installed_library_needs_no_compiler(fresh, tmp_path, monkeypatch):
    library.compile_levels(tmp_path / 'installed')
    monkeypatch.setenv('CXX', 'no-such-compiler')
    assert isinstance(load_native(), NativePasses)
    assert not fresh.exists()
    best = library.file_name(supported_levels()[0], library.source_digest())
    assert library.find_library().name == best


def test_lesser_processor_gets_the_lower_level(tmp_path, monkeypatch):
    machine, (_, *lower) = 'x86_64', library.LEVELS['x86_64']
    monkeypatch.setattr(library.platform, 'machine', lambda: machine)
    for level in lower:
        needed = frozenset(library.LEVELS[machine][level][1])
        monkeypatch.setattr(library, 'processor_features', lambda needed=needed: needed)
        path = tmp_path / library.file_name(level, library.source_digest())
        path.touch()
        for higher in library.LEVELS[machine]:
            (tmp_path / library.file_name(higher, library.source_digest())).touch()
        assert library.find_installed([tmp_path]) == path
    monkeypatch.setattr(library, 'processor_features', frozenset)
    assert library.find_installed([tmp_path]) is None


def test_library_of_other_sources_is_not_loaded_and_gets_removed(tmp_path):
    stale = tmp_path / library.file_name(supported_levels()[0], 16 * '0')
    stale.touch()
    assert library.find_installed([tmp_path]) is None
    made = library.compile_levels(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(made)
    assert library.compile_levels(tmp_path, compiler='no-such-compiler') == made


def test_installation_goes_on_without_a_compiler(tmp_path):
    done = subprocess.run(
        [sys.executable, library.__file__, str(tmp_path), '--compiler', 'no-such-compiler'],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert 'not compiled: no C++ compiler (no-such-compiler)' in done.stderr


@pytest.fixture(scope='module', params=supported_levels())
def passes_of_a_level(request, tmp_path_factory):
    """Return passes compiled for one of the levels that this processor supports."""
    path = tmp_path_factory.mktemp('level') / f'{request.param}.so'
    flags = library.LEVELS[platform.machine()][request.param][0]
    library.compile_to(path, library.find_compiler(), flags)
    return NativePasses(path)


@pytest.mark.parametrize('kept', ['float32', 'bfloat16'])
@pytest.mark.parametrize('tokens', [1, 5, 37, 64])
def test_every_level_computes_the_same(passes_of_a_level, tokens, kept):
    torch.manual_seed(tokens)
    head = StepHead(frames=3, tokens=tokens, width=24, classes=4, attention_heads=2).eval()
    heads = StreamingHeads({'task': head}, tokens=tokens)
    x_3nd = torch.randn(3, tokens, 24)
    cache = HeadCache(heads, kept=kept, native=passes_of_a_level)
    for place in range(3):
        cache.store_frame(place, heads.project(x_3nd[[place]])[0])
    logits_vk = cache.logits([(0, 1, 2), (2, 1, 0)])['task']
    with torch.inference_mode():
        wanted_vk = head(torch.stack([x_3nd, x_3nd.flip(0)]))
    tolerance = 1e-3 if kept == 'bfloat16' else 1e-5
    torch.testing.assert_close(logits_vk, wanted_vk, rtol=10 * tolerance, atol=tolerance)


def test_missing_compiler_is_logged_once_and_torch_works(fresh, monkeypatch, caplog):
    monkeypatch.setenv('CXX', 'no-such-compiler')
    with caplog.at_level(logging.WARNING, logger='step_ros'):
        assert find_native() is None
        assert find_native() is None
    assert caplog.text.count('no C++ compiler (no-such-compiler)') == 1


def test_failing_compiler_is_quoted_and_leaves_nothing(fresh, tmp_path, monkeypatch):
    monkeypatch.setenv('CXX', executable(tmp_path / 'c++', 'echo "disk on fire" >&2; exit 1'))
    with pytest.raises(NativeError, match='disk on fire'):
        load_native()
    assert list(fresh.iterdir()) == []


def test_nothing_is_loaded_from_where_others_can_write(fresh, caplog):
    fresh.mkdir()
    fresh.chmod(0o777)
    with caplog.at_level(logging.WARNING, logger='step_ros'):
        assert find_native() is None
    assert 'other users can write' in caplog.text
    assert list(fresh.iterdir()) == []


def test_missing_source_is_named(fresh, tmp_path, monkeypatch):
    monkeypatch.setattr(library, 'SOURCE', tmp_path / 'gone.cpp')
    with pytest.raises(NativeError, match=r'gone\.cpp'):
        load_native()


def test_folder_that_cannot_be_made_is_named(fresh, tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    with pytest.raises(NativeError, match='file'):
        load_native()


def test_damaged_library_is_an_error_not_a_crash(fresh, tmp_path, monkeypatch):
    script = 'while [ "$1" != -o ]; do shift; done; echo nonsense > "$2"'
    monkeypatch.setenv('CXX', executable(tmp_path / 'c++', script))
    with pytest.raises(NativeError, match='attention_sums'):
        load_native()


@given(
    tokens=st.integers(1, 40),
    frames=st.integers(1, 3),
    half=st.booleans(),
    most=st.sampled_from([1, 3, 7]),
)
def test_exponentials_are_those_of_torch(tokens, frames, half, most):
    torch.manual_seed(tokens)
    head = StepHead(frames=frames, tokens=tokens, width=12, classes=4, attention_heads=2).eval()
    heads = StreamingHeads({'task': head}, tokens=tokens)
    tensors = allocate(heads, 'bfloat16' if half else 'float32', by_row=True)
    native = NativeCache(load_native(), heads, tensors)
    # Whole numbers: their scores have no rounding.
    qkv_t3gnc = torch.randint(-most, most + 1, (frames, 3, heads.groups, tokens, 6)).float()
    for place, qkv_3gnc in enumerate(qkv_t3gnc):
        native.store_frame(place, qkv_3gnc)
    q_tgnc, k_tgnc, _ = qkv_t3gnc.unbind(1)
    scores_gttnn = torch.einsum('rgnc,sgmc->grsnm', q_tgnc, k_tgnc)
    kept = tensors.exponentials
    assert torch.equal(kept.shift_gttn, scores_gttnn.amax(dim=-1))
    wanted = (scores_gttnn - kept.shift_gttn[..., None]).exp()
    torch.testing.assert_close(
        kept.kept_gttnn.float(),
        wanted.to(kept.kept_gttnn.dtype).float(),
        rtol=2**-7 if half else 1e-6,
        atol=1e-37,
    )
    assert (kept.kept_gttnn.amax(dim=-1) == 1).all()


@given(
    tokens=st.integers(1, 40),
    frames=st.integers(1, 4),
    kept=st.sampled_from(['float32', 'bfloat16']),
    scale=st.sampled_from([0.1, 3.0, 10.0]),
    threads=st.integers(1, 3),
)
def test_compiled_passes_keep_what_torch_keeps(tokens, frames, kept, scale, threads):
    torch.manual_seed(tokens)
    head = StepHead(frames=frames, tokens=tokens, width=12, classes=4, attention_heads=2).eval()
    heads = StreamingHeads({'task': head}, tokens=tokens)
    compiled, plain = (allocate(heads, kept, by_row=by_row) for by_row in (True, False))
    native = NativeCache(load_native(), heads, compiled)
    native.store_threads = threads
    with torch.inference_mode():
        for place in [*range(frames), 0]:
            qkv_3gnc = heads.project(scale * torch.randn(1, tokens, 12))[0]
            spread = native.store_frame(place, qkv_3gnc)
            assert spread == pytest.approx(
                TorchPasses(heads, plain).store_frame(place, qkv_3gnc), 1e-4
            )
        for name, wanted in vars(plain.exponentials).items():
            tolerance = 2**-7 if (name, kept) == ('kept_gttnn', 'bfloat16') else 1e-3
            said = getattr(compiled.exponentials, name)
            torch.testing.assert_close(said, wanted, rtol=tolerance, atol=1e-4)
        assert (compiled.exponentials.kept_gttnn.amax(dim=-1) == 1).all()
        slots_vt = torch.stack([torch.randperm(frames) for _ in range(3)])
        said_vgc = native.attended(slots_vt, newest=0)
        alone_vgc = [native.attended(slots_vt[[v]], newest=0)[0] for v in range(3)]
        torch.testing.assert_close(said_vgc, torch.stack(alone_vgc))


@given(
    rows=st.integers(1, 40),
    length=st.integers(1, 70),
    compiled=st.booleans(),
    scale=st.sampled_from([0.1, 30.0]),
)
def test_column_sums_are_those_of_the_whole_matrix(rows, length, compiled, scale):
    torch.manual_seed(rows)
    q, k = scale * torch.randn(2, rows, 3), torch.randn(2, length, 3)
    weights = torch.rand(rows)
    wanted = (weights[:, None] * (q @ k.mT).softmax(dim=-1)).sum(dim=1)
    said = column_sums(q, k, weights, native=load_native() if compiled else None)
    torch.testing.assert_close(said, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('compiled', [True, False])
def test_column_sums_of_many_blocks_of_rows(compiled, monkeypatch):
    monkeypatch.setattr('step_ros.streaming.attention_cache.torch_kernels.BLOCK_ELEMENTS', 1)
    q, k, weights = torch.randn(3, 50, 4), torch.randn(3, 33, 4), torch.rand(50)
    wanted = (weights[:, None] * (q @ k.mT).softmax(dim=-1)).sum(dim=1)
    said = column_sums(q, k, weights, native=load_native() if compiled else None)
    torch.testing.assert_close(said, wanted)


def test_number_of_threads_changes_nothing(monkeypatch):
    q, k, weights = torch.randn(1, 64, 4), torch.randn(1, 40, 4), torch.rand(64)
    said = []
    for threads in (1, 3):
        monkeypatch.setattr(passes, 'threads_for', lambda _, threads=threads: threads)
        said.append(column_sums(q, k, weights, native=load_native()))
    torch.testing.assert_close(*said)
