"""One's own bags (rosbag2): labels from action events in them, or from a CSV file beside them."""

from step_ros.data.own_data import CONFIG_OPTION
from step_ros.data.reading import Option, Reading
from step_ros.io.errors import DatasetError

OPTIONS = (
    Option(
        name='labels',
        default='',
        help='topic of ActionEvents, as /camera/truth, or a CSV file, from the root; without it '
        'the only such topic',
    ),
    Option(
        name='topic',
        default='',
        help='image topics, with commas between them, or all; without it the only one, or those '
        'that the CSV file names',
    ),
    Option(
        name='split',
        default='folder',
        help='folder: bags lie in train/, val/ and test/ under the root; or train, val or test '
        'for all of them; a CSV file says it in each row',
    ),
    CONFIG_OPTION,
)


def read_bag(reading: Reading) -> None:
    """Read the clips of a folder of bags, or of one bag.

    Action events carry stamps by the same clock as the images' headers; START and END of a task
    and label make a clip, for each camera that was chosen. An event with a `frame_id` belongs to
    the cameras whose images have the same one.

    A CSV file has the columns `video,start,end,split,TASK...`, perhaps with `view` and `subject`.
    `video` is the bag's folder, from the root; `view` the image topic; start and end are seconds
    from the first image of that topic, by the headers' stamps, both empty for all of it.

    Tasks need not have a label in each clip.

    Raises:
        DatasetError: No bag can be read, an option fits none of them, or there are no labels.
    """
    # Only here: the other datasets must be readable without what reads bags.
    try:
        from step_ros.data.bag_clips import read_clips
    except ModuleNotFoundError as error:
        raise DatasetError(
            f"bags: the package {error.name} is missing: pip install 'step_ros[train]'"
        ) from error
    read_clips(reading)
