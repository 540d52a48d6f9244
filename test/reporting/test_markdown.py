# SPDX-License-Identifier: Apache-2.0
"""Markdown tables."""

import pytest

from step_ros.reporting.markdown import Grid, figures_table, markdown_table


def test_figures_table_aligns_all_but_the_first_column_right():
    lines = figures_table(('what', 'ms'), [['a', '1'], ['b', '22']]).splitlines()
    assert lines == ['| what | ms |', '| --- | ---: |', '| a | 1 |', '| b | 22 |']


def test_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match='1 cells'):
        figures_table(('what', 'ms'), [['a']])


def test_columns_with_words_are_aligned_left():
    grid = Grid(head=('', 'ms', 'note'), rows=(('a', '1.5', 'fast'), ('b', '–', '')))
    assert grid.markdown().splitlines()[1] == '| --- | ---: | --- |'


def test_bar_inside_a_cell_is_escaped():
    assert markdown_table(('a', 'b'), [['x|y', r'x\|y']], figures='none').splitlines() == [
        '| a | b |',
        '| --- | --- |',
        r'| x\|y | x\|y |',
    ]
