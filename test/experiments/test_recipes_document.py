# SPDX-License-Identifier: Apache-2.0
"""docs/recipes.md is what the schemas say."""

import re
from pathlib import Path

import pytest

from step_ros.experiments.recipes_document import described_models, recipes_document
from step_ros.resources import share_directory

DOCUMENT = Path(__file__).resolve().parents[2] / 'docs' / 'recipes.md'
CONFIG = share_directory() / 'config'


def test_the_document_is_up_to_date():
    assert DOCUMENT.read_text(encoding='utf-8') == recipes_document(), 'run `make docs`'


@pytest.mark.parametrize(
    ('key', 'model'), [pytest.param(*section, id=section[0]) for section in described_models()]
)
def test_every_key_has_a_description(key, model):
    for name, field in model.model_fields.items():
        assert field.description, f'{key}.{name}'


def test_links_lead_to_sections_of_the_page():
    text = recipes_document()
    sections = {
        re.sub(r'[^a-z0-9_-]', '', title.lower().replace(' ', '-'))
        for title in re.findall(r'^#+ (.+)$', text, re.MULTILINE)
    }
    links = re.findall(r'\]\(#([^)]+)\)', text)
    assert len(links) > 15
    assert set(links) <= sections


@pytest.mark.parametrize(
    'row',
    [
        '| `optimiser` | `adamw`, `sgd` | `adamw` | – | – |',
        '| `image_height` | integer | 224 | > 0 | pixels |',
        '| `rand_augment` | [`augmentation.rand_augment`](#augmentationrand_augment) | none | – |',
        '| `token_grid` | pair of integer | none | > 0 |',
        '| `rows` | mapping of text to [`tables.NAME.rows.NAME`](#tablesnamerowsname) |',
        '| `most_left_out` | number | 0.02 | >= 0, < 1 |',
    ],
)
def test_rows_show_type_default_range_and_unit(row):
    assert row in recipes_document()


@pytest.mark.parametrize('path', sorted(CONFIG.glob('*/*.yaml')), ids=lambda path: path.name)
def test_files_with_a_schema_point_to_the_page(path):
    if path.parent.name in ('training', 'ablations', 'datasets'):
        assert 'docs/recipes.md' in path.read_text(encoding='utf-8')
