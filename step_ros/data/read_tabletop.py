"""The synthetic tabletop as `step_ros data render` writes it: videos and a CSV file."""

from dataclasses import replace

from step_ros.data.clip_record import ANNOTATIONS
from step_ros.data.read_csv import read_csv
from step_ros.data.reading import Option, Reading

OPTIONS: tuple[Option, ...] = ()


def read_tabletop(reading: Reading) -> None:
    """Read the clips.

    Raises:
        DatasetError: The annotations are missing: the folder was not rendered to its end.
    """
    options = {'file': ANNOTATIONS, 'config': reading.config.name}
    # The lists of the copy are those of the reading.
    read_csv(replace(reading, options=options))
