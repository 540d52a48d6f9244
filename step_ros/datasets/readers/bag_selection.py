# SPDX-License-Identifier: Apache-2.0
"""Select the bags of a folder, and the topics of images and labels in them."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from step_ros.datasets.clip import ClipRecord
from step_ros.datasets.reader import Reading
from step_ros.datasets.schema import DatasetConfig
from step_ros.files import find_spelled
from step_ros.io.bags.metadata import METADATA, BagError, is_bag
from step_ros.io.bags.pictures import choose_pictures
from step_ros.io.bags.predictions import why_predicted
from step_ros.io.bags.reader import BagReader
from step_ros.io.errors import DatasetError

Bags = dict[str, BagReader]


def find_bags(root: Path, above: frozenset[Path] = frozenset()) -> Iterator[tuple[str, Path]]:
    """Yield the bags in a folder, following links, each with its name from the root.

    Args:
        root: The folder, or a bag.
        above: Folders that hold `root`; links back to them are not followed.
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
    """Add a bag to `bags`, or note a problem if it is missing or damaged.

    Args:
        reading: The reading that notes the problem.
        bags: The bags so far, by their names.
        name: Name of the bag.
        path: Path of the bag.
        file: The file that names the bag.
        row: Line in that file, from 1; 0 for none.
    """
    path = find_spelled(path)
    if not path.exists():
        reading.add_problem('missing video', file, row, 'video', path, 'an existing bag')
        return
    try:
        bags[name] = BagReader(path)
    except BagError as error:
        add_bag_problem(reading, error, file, row)


def require_bags(reading: Reading, bags: Bags) -> None:
    """Check that at least one bag can be read.

    Raises:
        DatasetError: No bag can be read.
    """
    if not bags:
        why = reading.first_problem() or f'; expected folders with {METADATA}, or .mcap or .db3'
        raise DatasetError(f'{reading.root}: no bag that can be read{why}')


def chosen_cameras(reading: Reading, bags: Bags) -> tuple[str, ...]:
    """Return the image topics that the option `topic` selects.

    Raises:
        DatasetError: No bag has one of them, or the option is empty and there are several.
    """
    found = {name for bag in bags.values() for name in bag.image_topics}
    value = reading.options['topic']
    if found and value in ('', 'all'):
        pictures = _pictures(reading, bags)
        if value == 'all' or len(pictures) == 1:
            return tuple(sorted(pictures))
        found = pictures
    names = [name.strip() for name in value.split(',')]
    holds = '; '.join(f'{name} holds {bag.describe_topics()}' for name, bag in bags.items())
    mend = ' (separate several by commas), or all' if found else f'; {holds}'
    return tuple(
        sorted({_chosen(reading, 'topic', name, found, 'images', mend) for name in names})
    )


def _pictures(reading: Reading, bags: Bags) -> set[str]:
    """Return the topics with pictures, each camera of a bag once; count those left out.

    Raises:
        DatasetError: No bag has such a topic.
    """
    found: set[str] = set()
    why_not: dict[str, str] = {}
    for name, bag in [*bags.items()]:
        try:
            chosen = choose_pictures(bag)
        except BagError as error:
            add_bag_problem(reading, error, bag.path)
            del bags[name]
            continue
        found |= set(chosen.topics)
        why_not |= chosen.left_out
        for topic, why in chosen.left_out.items():
            reading.left_out[f'topic {topic}, {why}'] += 1
    require_bags(reading, bags)
    if not found:
        listed = '; '.join(f'{topic}: {why}' for topic, why in why_not.items())
        raise DatasetError(
            f'{reading.root}: no topic with pictures; {listed}; name one by option topic'
        )
    # A topic may be a copy in one bag and the only one in another.
    return found


def chosen_labels(reading: Reading, bags: Bags) -> str:
    """Return the topic of action events that the option `labels` selects.

    A perception node's own events are never chosen.

    Raises:
        DatasetError: No bag has it, or the option is empty and there are several.
    """
    found = {name for bag in bags.values() for name in bag.event_topics}
    value = reading.options['labels']
    mend = ', or a CSV file'
    if not value:
        # A topic that a node published in one bag is no choice for the others, either.
        own = sorted(name for name in found if _is_predicted(bags, name))
        found -= set(own)
        if own:
            mend += f'; no prediction is a true label, so not {", ".join(own)}'
    return _chosen(reading, 'labels', value, found, 'ActionEvents', mend)


def _is_predicted(bags: Bags, topic: str) -> bool:
    for bag in bags.values():
        try:
            if topic in bag.event_topics and why_predicted(bag, topic):
                return True
        except BagError:
            # The bag is a problem where its events are read.
            continue
    return False


def view_names(config: DatasetConfig, topics: Sequence[str]) -> dict[str, str]:
    """Return the configuration's view name of each image topic.

    Raises:
        DatasetError: The configuration has other views.
    """
    names = [view.name for view in config.views]
    if set(topics) <= set(names):
        return {topic: topic for topic in topics}
    if len(names) == len(topics) == 1:
        return {topics[0]: names[0]}
    raise DatasetError(
        f'{config.name}: views {", ".join(names)}: expected the image topics {", ".join(topics)}'
    )


def add_bag_clip(reading: Reading, record: ClipRecord, file: Path, row: int) -> None:
    """Add a clip, or note a problem if the reading has a clip of that name."""
    if record.clip_id in reading.records:
        expected = 'each clip once; the first is kept'
        reading.add_problem('duplicate', file, row, 'clip', record.clip_id, expected)
    else:
        reading.records[record.clip_id] = record


def add_bag_problem(reading: Reading, error: BagError, file: Path, row: int = 0) -> None:
    """Note that a bag cannot be read."""
    why = str(error).removeprefix(f'{error.path}: ')
    reading.add_problem('undecodable video', file, row, 'bag', error.path, f'an intact bag; {why}')


def _chosen(
    reading: Reading, option: str, value: str, found: Collection[str], content: str, mend: str
) -> str:
    if not value and len(found) == 1:
        return next(iter(found))
    if value not in found:
        known = ', '.join(sorted(found)) or 'none'
        raise DatasetError(
            f'{reading.root}: option {option}={value!r}: expected one of the topics with '
            f'{content}: {known}{mend}'
        )
    return value
