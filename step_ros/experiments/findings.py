# SPDX-License-Identifier: Apache-2.0
"""The papers' findings, and whether an ablation confirms them."""

import math
from dataclasses import dataclass

from step_ros.experiments.run import AblationResult
from step_ros.experiments.spec import Finding, Side
from step_ros.experiments.tables import COUNTS, cell, figure_of


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A finding of the papers, and the outcome of this ablation.

    Attributes:
        finding: The finding.
        figure: The figure of the finding, with its row and column, as text.
        against: The figure to compare with, with its row and column, as text.
        shows: Whether the finding shows here; None if a figure is missing.
        chance: Whether other test clips might have given the opposite outcome.
        difference: Difference of the two figures in points, or the reason why there is none.
    """

    finding: Finding
    figure: str
    against: str
    shows: bool | None
    chance: bool
    difference: str

    @property
    def verdict(self) -> str:
        """The outcome in words."""
        if self.shows is None:
            return 'cannot be judged here'
        verdict = 'shows' if self.shows else 'does not show here'
        return f'{verdict}, but may be chance' if self.chance else verdict

    @property
    def required(self) -> str:
        """The required difference in words."""
        least = self.finding.at_least
        if least is None:
            return 'the same'
        return f'at least {least:+g}' if least else 'above 0'


def judge(result: AblationResult) -> tuple[Judged, ...]:
    """Compare the papers' findings with the results of an ablation."""
    return tuple(_judge(result, finding) for finding in result.spec.findings)


def chance_points(clips: int) -> float:
    """Return the difference of two accuracies that may be chance, in points.

    It is two standard errors of the difference of two accuracies near one half, each measured on
    clips of its own. The true value is smaller if both accuracies are far from one half, and
    larger if only some of the clips count.

    Args:
        clips: Number of test clips.
    """
    return 200 * math.sqrt(0.5 / max(clips, 1))


def _judge(result: AblationResult, finding: Finding) -> Judged:
    (one, one_text, scale), (other, other_text, _) = (
        _side(result, side) for side in (finding.figure, finding.against)
    )
    shows, chance, difference = None, False, 'a figure is missing'
    if one is not None and other is not None:
        # Rounding lets a difference of exactly the required size count.
        points = round(scale * (one - other), 4)
        difference = f'{points:+.1f}' if points else '0'
        least = finding.at_least
        if least is None:
            shows = one == other
        else:
            # No difference is not above 0.
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
