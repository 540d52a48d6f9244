# SPDX-License-Identifier: Apache-2.0
"""Write docs/heads.md from the registries; `make docs` calls it."""

from pathlib import Path

from step_ros.experiments.heads_document import heads_document

DOCUMENT = Path(__file__).resolve().parents[1] / 'docs' / 'heads.md'

if __name__ == '__main__':
    DOCUMENT.write_text(heads_document(), encoding='utf-8')
