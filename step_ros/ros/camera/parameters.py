# SPDX-License-Identifier: Apache-2.0
"""The parameters of the camera node. Their defaults are in `config/camera.yaml`."""

from step_ros.images.encodings import PUBLISHED_ENCODINGS
from step_ros.ros.parameters import Parameter

DEFAULTS_FILE = 'camera.yaml'

# All are read once, when the node starts.
PARAMETERS = (
    Parameter(
        name='source',
        description='Source of the images: `tabletop` (the synthetic scene) or the path of a '
        'video file.',
    ),
    Parameter(
        name='loop',
        description='Restart a video when it ends; otherwise the node exits.',
    ),
    Parameter(
        name='seed',
        description='Number of the tabletop scene within its split.',
        minimum=0,
        maximum=2**31 - 1,
    ),
    Parameter(
        name='split',
        description='Split of the tabletop scenes: `val` and `test` are kept apart from training.',
        choices=('train', 'val', 'test'),
    ),
    Parameter(
        name='view',
        description='Viewpoint on the tabletop.',
        choices=('front', 'side', 'top'),
    ),
    Parameter(
        name='width',
        description="Image width; 0: from the height and the source's aspect ratio.",
        unit='px',
        minimum=0,
        maximum=8192,
    ),
    Parameter(
        name='height',
        description="Image height; 0: from the width and the source's aspect ratio.",
        unit='px',
        minimum=0,
        maximum=8192,
    ),
    Parameter(
        name='rate',
        description='Images per second; 0: at the times of the frames in the video.',
        unit='Hz',
        minimum=0.0,
        maximum=1000.0,
    ),
    Parameter(
        name='transport',
        description='Publish `image_raw` (`sensor_msgs/Image`) or `image_raw/compressed` '
        '(`sensor_msgs/CompressedImage`).',
        choices=('raw', 'compressed'),
    ),
    Parameter(
        name='encoding',
        description='Encoding of raw images.',
        choices=PUBLISHED_ENCODINGS,
    ),
    Parameter(
        name='jpeg_quality',
        description='Quality of compressed images.',
        minimum=1,
        maximum=100,
    ),
    Parameter(
        name='reliability',
        description='Reliability of the images; `truth` is always reliable.',
        choices=('best_effort', 'reliable'),
    ),
    Parameter(
        name='camera',
        description='Name of the camera in the messages on `truth`.',
    ),
    Parameter(
        name='frame_id',
        description='Coordinate frame of the images.',
    ),
    Parameter(
        name='start_delay',
        description='Time before the first image, so that subscribers can find the node.',
        unit='s',
        minimum=0.0,
        maximum=3600.0,
    ),
)
