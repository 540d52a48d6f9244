"""The synthetic tabletop as `step_ros data render` writes it: videos and a CSV file."""

from dataclasses import replace

from step_ros.datasets.clip import ANNOTATIONS
from step_ros.datasets.reader import Option, Reading
from step_ros.datasets.readers.csv import read_csv

OPTIONS: tuple[Option, ...] = ()


def read_tabletop(reading: Reading) -> None:
    """Read the clips.

    Raises:
        DatasetError: The annotations are missing: the folder was not rendered to its end.
    """
    options = {'file': ANNOTATIONS, 'config': reading.config.name}
    # The lists of the copy are those of the reading.
    read_csv(replace(reading, options=options))
