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


BAG_ZERO_NS = 1_700_000_000 * 10**9
BAG_PERIOD_NS = 50_000_000


@pytest.fixture(scope='session')
def bag_image():
    """Return the picture that a test bag has at a frame number: `bag_image(number)`."""
    return lambda number: np.full((16, 24, 3), (5 * number, 255 - 5 * number, number), np.uint8)


@pytest.fixture(scope='session')
def put_bag(bag_image):
    """Put a bag of 20 Hz cameras somewhere: `put_bag(path, '/camera/image_raw', ...)`.

    A camera's name is its topic; those that end in `compressed` are PNG. `labelled` are tuples
    (start in seconds, end in seconds, {task: label}), which become events on `events_topic`.
    """
    from step_ros.data.bag_reader import END, START, BagEvent
    from step_ros.data.bag_writer import BagWriter

    def put(
        path,
        *cameras,
        storage='mcap',
        frames=12,
        labelled=(),
        events_topic='/camera/truth',
        frame_ids=None,
        event_frame_id='',
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        with BagWriter(path, storage) as writer:
            for number in range(frames):
                for late, topic in enumerate(cameras):
                    writer.image(
                        topic,
                        bag_image(number),
                        BAG_ZERO_NS + number * BAG_PERIOD_NS + late * 1000,
                        (frame_ids or {}).get(topic, 'optical'),
                        encoding='png' if topic.endswith('compressed') else 'rgb8',
                        log_ns=BAG_ZERO_NS + number * BAG_PERIOD_NS + 7_000_000,
                    )
            for start_s, end_s, labels in labelled:
                start_ns, end_ns = (BAG_ZERO_NS + round(s * 1e9) for s in (start_s, end_s))
                for kind, stamp_ns in ((START, start_ns), (END, end_ns)):
                    for task, label in labels.items():
                        event = BagEvent(
                            type=kind,
                            stamp_ns=stamp_ns,
                            start_ns=start_ns,
                            task=task,
                            label=label,
                            frame_id=event_frame_id,
                        )
                        writer.event(events_topic, event)
        return path

    return put
