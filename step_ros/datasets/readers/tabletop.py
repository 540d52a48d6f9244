# SPDX-License-Identifier: Apache-2.0
"""The synthetic tabletop as `step_ros data render` writes it: videos and a CSV file."""

from dataclasses import replace

from step_ros.datasets.clip import ANNOTATIONS
from step_ros.datasets.reader import Option, Reading
from step_ros.datasets.readers.csv import read_csv

OPTIONS: tuple[Option, ...] = ()


def read_tabletop(reading: Reading) -> None:
    """Read the clips of a rendered folder.

    Raises:
        DatasetError: The annotations are missing, because rendering did not finish.
    """
    options = {'file': ANNOTATIONS, 'config': reading.config.name}
    # The copy shares its records and problems with the reading.
    read_csv(replace(reading, options=options))
