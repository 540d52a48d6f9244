"""The papers' findings, and whether they show in an ablation."""

import math
from dataclasses import dataclass

from step_ros.experiments.run import AblationResult
from step_ros.experiments.spec import Finding, Side
from step_ros.experiments.tables import COUNTS, cell, figure_of


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A finding of the papers, and what came out here.

    Attributes:
        finding: It.
        figure: The figure that it is about, with its place.
        against: What that is compared with, likewise.
        shows: Whether it shows here; None where a figure is missing.
        chance: Whether other test clips might have turned that round.
        difference: How far the first lies above the second, in points, or why that is not known.
    """

    finding: Finding
    figure: str
    against: str
    shows: bool | None
    chance: bool
    difference: str

    @property
    def verdict(self) -> str:
        """What to say of it."""
        if self.shows is None:
            return 'cannot be told here'
        verdict = 'shows' if self.shows else 'does not show here'
        return f'{verdict}, but may be chance' if self.chance else verdict

    @property
    def wanted(self) -> str:
        """What the difference has to be."""
        least = self.finding.at_least
        if least is None:
            return 'the same'
        return f'at least {least:+g}' if least else 'above 0'


def judge(result: AblationResult) -> tuple[Judged, ...]:
    """Compare the papers' findings with what came out."""
    return tuple(_judge(result, finding) for finding in result.spec.findings)


def chance_points(clips: int) -> float:
    """Return the difference of two accuracies that may be chance, in points.

    Two standard errors, for accuracies near a half on other clips each; less where both are far
    from a half, more where only some of the clips count.
    """
    return 200 * math.sqrt(0.5 / max(clips, 1))


def _judge(result: AblationResult, finding: Finding) -> Judged:
    (one, one_text, scale), (other, other_text, _) = (
        _side(result, side) for side in (finding.figure, finding.against)
    )
    shows, chance, difference = None, False, 'a figure is missing'
    if one is not None and other is not None:
        # Rounded, so that a difference of exactly the wanted size is one.
        points = round(scale * (one - other), 4)
        difference = f'{points:+.1f}' if points else '0'
        least = finding.at_least
        if least is None:
            shows = one == other
        else:
            # What is no difference does not lie above.
            shows = points >= least and (points > 0 or least < 0)
            chance = scale != 1 and abs(points - least) < chance_points(result.clips['test'])
    return Judged(
        finding=finding,
        figure=one_text,
        against=other_text,
        shows=shows,
        chance=chance,
        difference=difference,
    )


def _side(result: AblationResult, side: Side) -> tuple[float | None, str, float]:
    table = result.spec.tables[side.table]
    column = next(column for column in table.columns if column.title == side.column)
    row = table.rows[side.row]
    value = figure_of(result, side.table, side.row, column)
    scale = 1 if column.metric in COUNTS else 100
    return value, f'{row.title}, {column.title}: {cell(value, column)}', scale
