"""One's own bags (rosbag2): labels from action events in them, or from a CSV file beside them."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from step_ros.datasets.clip import ClipRecord
from step_ros.datasets.reader import Option, ProblemKind, Reading
from step_ros.datasets.readers.csv import CONFIG_OPTION, own_config, parse_row, place_of, read_rows
from step_ros.datasets.schema import DatasetConfig
from step_ros.io.bags.metadata import METADATA, BagError, is_bag
from step_ros.io.bags.reader import END, START, BagEvent, BagReader
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
        from step_ros.datasets.readers.bag_clips import read_clips
    except ModuleNotFoundError as error:
        raise DatasetError(
            f"bags: the package {error.name} is missing: pip install 'step_ros[train]'"
        ) from error
    read_clips(reading)


# ---- Action events to labelled stretches of time: each START with its END.

# Kind of problem, number of the event from 1, field, value, and what was expected.
Complain = Callable[[ProblemKind, int, str, object, str], None]


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """A stretch of time with its labels.

    Attributes:
        row: Number of the event that began it, from 1.
        frame_id: Coordinate frame of the camera; empty for every camera.
        start_ns: Its beginning, as a stamp in nanoseconds.
        end_ns: Its end.
        labels: Label of each task that has one.
    """

    row: int
    frame_id: str
    start_ns: int
    end_ns: int
    labels: dict[str, str]


def pair_events(events: Iterable[BagEvent], complain: Complain) -> list[Annotation]:
    """Pair START and END for each camera, task and label, in the order of the events.

    What begins and ends at the same time is one annotation with the labels of several tasks. Odd
    events are complained about and left out.

    Args:
        events: The events of a bag, in the order of recording.
        complain: Takes what is wrong.

    Returns:
        The annotations in the order of their ends.
    """
    begun: dict[tuple[str, str, str, str], tuple[int, BagEvent]] = {}
    found: dict[tuple[str, int, int], Annotation] = {}
    for row, event in enumerate(events, start=1):
        if not _sound(row, event, complain):
            continue
        key = (event.camera, event.frame_id, event.task, event.label)
        if event.type == START:
            if key in begun:
                complain(
                    'bad span', begun[key][0], 'type', 'START', 'an END before the next START'
                )
            begun[key] = (row, event)
        elif key not in begun:
            complain(
                'bad span', row, 'type', f'END of {event.task} {event.label!r}', 'a START first'
            )
        else:
            _close(found, *begun.pop(key), row, event, complain)
    for row, event in begun.values():
        value = f'START of {event.task} {event.label!r}'
        complain('bad span', row, 'type', value, 'an END before the bag ends')
    return list(found.values())


def _sound(row: int, event: BagEvent, complain: Complain) -> bool:
    for field, value in (('task', event.task), ('label', event.label)):
        if not value or value != value.strip():
            complain('bad value', row, field, value, 'a word, without blanks around it')
            return False
    if event.type not in (START, END):
        complain('bad value', row, 'type', event.type, f'START ({START}) or END ({END})')
        return False
    # Zero is how ROS says that a stamp was not set.
    if event.type == START and event.start_ns not in (0, event.stamp_ns):
        expected = f"the header's stamp, {event.stamp_ns} ns, or 0"
        complain('bad value', row, 'start_stamp', event.start_ns, expected)
        return False
    return True


def _close(
    found: dict[tuple[str, int, int], Annotation],
    started: int,
    start: BagEvent,
    row: int,
    end: BagEvent,
    complain: Complain,
) -> None:
    if end.start_ns not in (0, start.stamp_ns):
        expected = (
            f'{start.stamp_ns} ns, when START of {end.task} {end.label!r} says it began, or 0'
        )
        complain('bad value', row, 'start_stamp', end.start_ns, expected)
        return
    if end.stamp_ns <= start.stamp_ns:
        complain('bad span', row, 'stamp', end.stamp_ns, f'after its START at {start.stamp_ns} ns')
        return
    annotation = found.setdefault(
        (end.frame_id, start.stamp_ns, end.stamp_ns),
        Annotation(
            row=started,
            frame_id=end.frame_id,
            start_ns=start.stamp_ns,
            end_ns=end.stamp_ns,
            labels={},
        ),
    )
    other = annotation.labels.setdefault(end.task, end.label)
    if other != end.label:
        complain('duplicate', row, end.task, end.label, f'one label at a time; {other!r} is kept')


# ---- Which bags of a folder are read, and which of their topics.

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


# ---- The clips of bags that a CSV file labels; `read_bag.py` says what its columns mean.


def read_table(reading: Reading, path: Path) -> None:
    """Read the clips that a CSV file names.

    Raises:
        DatasetError: The file or an option cannot be used, or no bag can be read.
    """
    if reading.options['split'] != 'folder':
        raise DatasetError(
            f'bag: option split={reading.options["split"]!r}: {path} has a column for it'
        )
    tasks, rows = read_rows(reading, path)
    bags: Bags = {}
    seen: set[str] = set()
    for row, cells in rows:
        name = cells['video']
        if name and name not in seen:
            seen.add(name)
            open_bag(reading, bags, name, reading.root / name, file=path, row=row)
    require_bags(reading, bags)
    named = {cells.get('view', '') for _, cells in rows}
    all_named = '' not in named and not reading.options['topic']
    topics = tuple(sorted(named)) if all_named else chosen_cameras(reading, bags)
    reading.known = own_config(
        reading.options['config'],
        name=path.stem,
        where=str(path),
        title=path.name,
        labels={task: {cells[task] for _, cells in rows} - {''} for task in tasks},
        views=topics,
    )
    views = view_names(reading.config, topics)
    told: set[str] = set()
    for row, cells in rows:
        name = cells['video']
        if name in bags or not name:
            _read_row(reading, path, row, cells, bags, views)
        elif name in told:
            # A problem once for each bag: it may hold hundreds of clips.
            reading.left_out['further clips of missing or damaged bags'] += 1
        else:
            told.add(name)


def _read_row(
    reading: Reading,
    path: Path,
    row: int,
    cells: dict[str, str],
    bags: Bags,
    views: Mapping[str, str],
) -> None:
    clip = parse_row(reading, path, row, cells, lacking=True)
    if clip is None:
        return
    bag = bags[clip.video]
    topic = cells.get('view', '')
    if topic in bag.image_topics and topic not in views:
        reading.left_out['clips of other cameras'] += 1
        return
    cameras = [name for name in bag.image_topics if name in views and topic in ('', name)]
    if len(cameras) != 1:
        among = ', '.join(bag.image_topics) or 'none'
        expected = f'one of the image topics of {bag.path}: {among}'
        reading.complain('bad value', path, row, 'view', topic, expected)
        return
    record = ClipRecord(
        clip_id=f'{clip.video}{cameras[0]}{place_of(clip.span)}',
        video=bag.path,
        topic=cameras[0],
        span=clip.span,
        split=clip.split,
        labels=clip.labels,
        view=views[cameras[0]],
        subject=cells.get('subject', ''),
    )
    add_clip(reading, record, path, row)
