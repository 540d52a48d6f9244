# SPDX-License-Identifier: Apache-2.0
"""Write docs/recipes.md from the schemas of the YAML files; `make docs` calls it."""

from pathlib import Path

from step_ros.experiments.recipes_document import recipes_document

DOCUMENT = Path(__file__).resolve().parents[1] / 'docs' / 'recipes.md'

if __name__ == '__main__':
    DOCUMENT.write_text(recipes_document(), encoding='utf-8')
