"""The clips of bags that a CSV file labels; `read_bag.py` says what its columns mean."""

from collections.abc import Mapping
from pathlib import Path

from step_ros.data.bag_choice import (
    Bags,
    add_clip,
    chosen_cameras,
    open_bag,
    require_bags,
    view_names,
)
from step_ros.data.clip_record import ClipRecord
from step_ros.data.own_data import own_config, parse_row, place_of, read_rows
from step_ros.data.reading import Reading
from step_ros.io.errors import DatasetError


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
