"""Real videos and annotation files for miniature datasets."""

import shutil
from collections import Counter

import av
import numpy as np
import pytest

CODECS = {'.avi': 'mpeg4', '.mp4': 'libx264', '.webm': 'libvpx'}


@pytest.fixture(scope='session')
def put_video(tmp_path_factory):
    """Put a real video of ten frames somewhere: `put_video(path)`."""
    made = {}

    def put(path):
        if path.suffix not in made:
            made[path.suffix] = tmp_path_factory.mktemp('video') / f'tiny{path.suffix}'
            with av.open(str(made[path.suffix]), 'w') as container:
                stream = container.add_stream(CODECS[path.suffix], rate=30)
                stream.width, stream.height, stream.pix_fmt = 32, 32, 'yuv420p'
                for level in range(10):
                    image = np.full((32, 32, 3), 25 * level, np.uint8)
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format='rgb24')))
                container.mux(stream.encode(None))
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(made[path.suffix], path)

    return put


@pytest.fixture(scope='session')
def put_text():
    """Write a text file: `put_text(path, *lines)`."""

    def put(path, *lines):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
        return path

    return put


@pytest.fixture(scope='session')
def kinds():
    """Count a dataset's problems by kind: `kinds(dataset)`."""
    return lambda dataset: Counter(problem.kind for problem in dataset.problems)
