# SPDX-License-Identifier: Apache-2.0
"""Read any dataset by its name: configuration, options and the clips of a copy on disk."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from step_ros.datasets.clip import ClipRecord
from step_ros.datasets.reader import Option, Problem, Reading
from step_ros.datasets.readers import (
    bag,
    csv,
    drive_and_act,
    hri30,
    ikea_asm,
    ntu120,
    ssv2,
    tabletop,
)
from step_ros.datasets.schema import DatasetConfig, load_dataset_config
from step_ros.files import expand_home, find_spelled
from step_ros.io.errors import DatasetError


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The clips of a dataset, not yet decoded.

    Attributes:
        config: Labels, pairs, views, splits and protocol.
        options: Value of each of the reader's options.
        records: The clips, sorted by name.
        problems: Wrong entries, which were left out, in the order of the files.
        left_out: Number of entries left out on purpose, by reason.
    """

    config: DatasetConfig
    options: Mapping[str, str]
    records: tuple[ClipRecord, ...]
    problems: tuple[Problem, ...]
    left_out: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Reader:
    """The reader of a dataset.

    Attributes:
        read: Fills a `Reading` with clips and problems.
        options: Options that the user may set.
        has_config: Whether `config/datasets/` holds its labels; if not, the data does.
        about: Description of a dataset without a configuration.
    """

    read: Callable[[Reading], None]
    options: tuple[Option, ...]
    has_config: bool = True
    about: str = ''


READERS: Mapping[str, Reader] = {
    'csv': Reader(
        read=csv.read_csv,
        options=csv.OPTIONS,
        has_config=False,
        about='your own videos: one task for each further column of a CSV file',
    ),
    'bag': Reader(
        read=bag.read_bag,
        options=bag.OPTIONS,
        has_config=False,
        about='your own rosbags, annotated with ActionEvents or a CSV file',
    ),
    'drive-and-act': Reader(read=drive_and_act.read_drive_and_act, options=drive_and_act.OPTIONS),
    'hri30': Reader(read=hri30.read_hri30, options=hri30.OPTIONS),
    'ikea-asm': Reader(read=ikea_asm.read_ikea_asm, options=ikea_asm.OPTIONS),
    'ntu120': Reader(read=ntu120.read_ntu120, options=ntu120.OPTIONS),
    'ssv2': Reader(read=ssv2.read_ssv2, options=ssv2.OPTIONS),
    'tabletop': Reader(read=tabletop.read_tabletop, options=tabletop.OPTIONS),
}


def read_dataset(name: str, root: str | Path, /, **options: object) -> Dataset:
    """Return the clips of a dataset, without opening a video.

    Args:
        name: One of `READERS`.
        root: Folder of the dataset.
        **options: Options of the reader; the others keep their defaults.

    Raises:
        DatasetError: The name, an option or the folder is wrong, or annotations are missing.
    """
    reader = READERS.get(name)
    if reader is None:
        raise DatasetError(f'dataset {name!r}: expected one of {", ".join(READERS)}')
    config = load_dataset_config(name) if reader.has_config else None
    values = _options(name, reader, config, options)
    root = find_spelled(expand_home(root))
    if not root.is_dir():
        raise DatasetError(f'{root}: no such folder; expected the root of dataset {name}')
    reading = Reading(root=root, known=config, options=values)
    reader.read(reading)
    return Dataset(
        config=reading.config,
        options=reading.options,
        records=tuple(reading.records[clip_id] for clip_id in sorted(reading.records)),
        problems=tuple(reading.problems),
        left_out=dict(sorted(reading.left_out.items())),
    )


def _options(
    name: str, reader: Reader, config: DatasetConfig | None, given: Mapping[str, object]
) -> dict[str, str]:
    known = {option.name: option for option in reader.options}
    for key in given:
        if key not in known:
            raise DatasetError(f'{name}: no option {key!r}; expected one of {", ".join(known)}')
    values = {}
    for option in reader.options:
        value = str(given.get(option.name, option.default))
        choices = option.choices(config)
        if choices and value not in choices:
            raise DatasetError(
                f'{name}: option {option.name}={value!r}: expected one of {", ".join(choices)}'
            )
        values[option.name] = value
    return values
