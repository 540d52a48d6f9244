"""One's own videos: a CSV file `video,start,end,split,TASK...`, perhaps with `view`, `subject`."""

from pathlib import Path

from step_ros.data.clip_record import ClipRecord
from step_ros.data.own_data import CONFIG_OPTION, own_config, parse_row, place_of, read_rows
from step_ros.data.reading import Option, Reading

OPTIONS = (
    Option(name='file', default='annotations.csv', help='the CSV file, from the root'),
    CONFIG_OPTION,
)


def read_csv(reading: Reading) -> None:
    """Read the clips; videos lie beside the file or where an absolute path says.

    Start and end count seconds; both empty mean the whole video.

    Raises:
        DatasetError: The file is missing, lacks a column or has no task.
    """
    path = reading.root / reading.options['file']
    tasks, rows = read_rows(reading, path)
    reading.known = own_config(
        reading.options['config'],
        name=path.stem,
        where=str(path),
        title=path.name,
        labels={task: {cells[task] for _, cells in rows} - {''} for task in tasks},
        views=sorted({cells.get('view', '') for _, cells in rows}),
    )
    for row, cells in rows:
        _read_row(reading, path, row, cells)


def _read_row(reading: Reading, path: Path, row: int, cells: dict[str, str]) -> None:
    clip = parse_row(reading, path, row, cells)
    if clip is None:
        return
    views = [view.name for view in reading.config.views]
    view = cells.get('view', views[0] if len(views) == 1 else '')
    if view not in views:
        reading.complain('bad value', path, row, 'view', view, f'one of {", ".join(views)}')
        return
    reading.add(
        ClipRecord(
            clip_id=f'{clip.video}{place_of(clip.span)}',
            video=path.parent / clip.video,
            span=clip.span,
            split=clip.split,
            labels=clip.labels,
            view=view,
            subject=cells.get('subject', ''),
        ),
        file=path,
        row=row,
    )
