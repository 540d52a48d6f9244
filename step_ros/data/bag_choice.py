"""Which bags of a folder are read, and which of their topics."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from step_ros.data.bag_metadata import METADATA, BagError, is_bag
from step_ros.data.bag_reader import BagReader
from step_ros.data.clip_record import ClipRecord
from step_ros.data.dataset_schema import DatasetConfig
from step_ros.data.reading import Reading
from step_ros.io.errors import DatasetError

Bags = dict[str, BagReader]


def find_bags(root: Path, above: frozenset[Path] = frozenset()) -> Iterator[tuple[str, Path]]:
    """Yield the bags in a folder, also behind links, each with its name from there.

    Args:
        root: The folder, or a bag.
        above: Folders that hold it: a link back to one of them is not followed.
    """
    if is_bag(root):
        yield root.resolve().name, root
        return
    above |= {root.resolve()}
    for entry in sorted(root.iterdir()):
        if is_bag(entry):
            yield entry.name, entry
        elif entry.is_dir() and entry.resolve() not in above:
            for name, path in find_bags(entry, above):
                yield f'{entry.name}/{name}', path


def open_bag(
    reading: Reading, bags: Bags, name: str, path: Path, *, file: Path, row: int = 0
) -> None:
    """Add a bag to others; one that is missing or damaged is a problem instead.

    Args:
        reading: Takes the problem.
        bags: The bags so far, by their names.
        name: Its name.
        path: The bag.
        file: What names it.
        row: Line in that file.
    """
    if not path.exists():
        reading.complain('missing video', file, row, 'video', path, 'a bag there')
        return
    try:
        bags[name] = BagReader(path)
    except BagError as error:
        complain_of_bag(reading, error, file, row)


def require_bags(reading: Reading, bags: Bags) -> None:
    """Check that a bag can be read.

    Raises:
        DatasetError: There is none.
    """
    if not bags:
        why = first_problem(reading) or f'; expected folders with {METADATA}, or .mcap or .db3'
        raise DatasetError(f'{reading.root}: no bag that can be read{why}')


def chosen_cameras(reading: Reading, bags: Bags) -> tuple[str, ...]:
    """Return the image topics that the option `topic` means.

    Raises:
        DatasetError: One of them is in no bag, or none is named and there are several.
    """
    there = {name for bag in bags.values() for name in bag.image_topics}
    value = reading.options['topic']
    if value == 'all' and there:
        return tuple(sorted(there))
    names = [name.strip() for name in value.split(',')]
    mend = ' (with commas between several), or all' if there else ''
    return tuple(
        sorted({_chosen(reading, 'topic', name, there, 'images', mend) for name in names})
    )


def chosen_labels(reading: Reading, bags: Bags) -> str:
    """Return the topic of action events that the option `labels` means.

    Raises:
        DatasetError: It is in no bag, or none is named and there are several.
    """
    there = {name for bag in bags.values() for name in bag.event_topics}
    value = reading.options['labels']
    return _chosen(reading, 'labels', value, there, 'ActionEvents', ', or a CSV file')


def view_names(config: DatasetConfig, topics: Sequence[str]) -> dict[str, str]:
    """Return the configuration's name of each camera.

    Raises:
        DatasetError: It has others.
    """
    names = [view.name for view in config.views]
    if set(topics) <= set(names):
        return {topic: topic for topic in topics}
    if len(names) == len(topics) == 1:
        return {topics[0]: names[0]}
    raise DatasetError(
        f'{config.name}: views {", ".join(names)}: expected the image topics {", ".join(topics)}'
    )


def add_clip(reading: Reading, record: ClipRecord, file: Path, row: int) -> None:
    """Take a clip, unless its name is taken: then that is a problem."""
    if record.clip_id in reading.records:
        expected = 'each clip once; the first is kept'
        reading.complain('duplicate', file, row, 'clip', record.clip_id, expected)
    else:
        reading.records[record.clip_id] = record


def complain_of_bag(reading: Reading, error: BagError, file: Path, row: int = 0) -> None:
    """Note that a bag cannot be read."""
    why = str(error).removeprefix(f'{error.path}: ')
    reading.complain('undecodable video', file, row, 'bag', error.path, f'a sound bag; {why}')


def first_problem(reading: Reading) -> str:
    """Return the end of an error message: why nothing is left."""
    count = len(reading.problems)
    return f'; {count} problems, the first: {reading.problems[0]}' if count else ''


def _chosen(
    reading: Reading, option: str, value: str, there: Collection[str], what: str, mend: str
) -> str:
    if not value and len(there) == 1:
        return next(iter(there))
    if value not in there:
        among = ', '.join(sorted(there)) or 'none'
        raise DatasetError(
            f'{reading.root}: option {option}={value!r}: expected one of the topics with {what}: '
            f'{among}{mend}'
        )
    return value
