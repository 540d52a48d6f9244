# SPDX-License-Identifier: Apache-2.0
"""The user's own bags (rosbag2), labelled by action events in them or by a CSV file.

This module does not import `rosbags`, so that the registry and the other datasets work without it.
"""

from step_ros.datasets.reader import Option, Reading
from step_ros.datasets.readers.csv import CONFIG_OPTION
from step_ros.io.errors import DatasetError
from step_ros.reporting.installation import how_to_install

OPTIONS = (
    Option(
        name='labels',
        default='',
        help='topic of ActionEvents, for example /camera/truth, or a CSV file, from the root; by '
        'default the only topic of ActionEvents',
    ),
    Option(
        name='topic',
        default='',
        help='image topics, separated by commas, or all; by default the only one, or the topics '
        'that the CSV file names',
    ),
    Option(
        name='split',
        default='folder',
        help='folder: bags lie in train/, val/ and test/ under the root; or train, val or test '
        'for all bags; a CSV file has a column for it',
    ),
    CONFIG_OPTION,
)


def read_bag(reading: Reading) -> None:
    """Read the clips of a folder of bags, or of one bag.

    Action events carry stamps by the same clock as the images' headers. START and END of a task
    and label make a clip for each chosen camera. An event with a `frame_id` belongs to the cameras
    whose images have the same `frame_id`.

    A CSV file has the columns `video,start,end,split,TASK...` and optionally `view` and `subject`.
    `video` is the bag's folder, from the root; `view` is the image topic. `start` and `end` are
    seconds from the first image of that topic, by header stamps; both empty mean the whole bag.

    A clip may lack labels of some tasks.

    Raises:
        DatasetError: No bag can be read, an option fits no bag, or labels are missing.
    """
    # Imported late: it needs rosbags, which is optional.
    try:
        from step_ros.datasets.readers.bag_clips import read_clips
    except ModuleNotFoundError as error:
        raise DatasetError(
            f'bags: the module {error.name} is missing; {how_to_install(error.name or "rosbags")}'
        ) from error
    read_clips(reading)
