# SPDX-License-Identifier: Apache-2.0
"""Write the parameter tables of the integration guide from the declarations; `make docs` does."""

import re
from pathlib import Path

from step_ros.resources import load_defaults
from step_ros.ros.camera import parameters as camera_parameters
from step_ros.ros.parameters import parameter_table
from step_ros.ros.perception import parameters as perception_parameters

GUIDE = Path(__file__).resolve().parents[1] / 'docs' / 'integration.md'
NODES = {'perception': perception_parameters, 'camera': camera_parameters}


def with_tables(text: str) -> str:
    """Put each node's current table between its marks."""
    for name, declared in NODES.items():
        table = parameter_table(declared.PARAMETERS, load_defaults(declared.DEFAULTS_FILE))
        marks = re.compile(rf'(<!-- parameters: {name} -->\n).*?(<!-- end -->)', re.DOTALL)
        text, count = marks.subn(lambda found, new=table: f'{found[1]}{new}\n{found[2]}', text)
        if count != 1:
            raise SystemExit(f'{GUIDE}: expected one place for the parameters of {name}')
    return text


if __name__ == '__main__':
    GUIDE.write_text(with_tables(GUIDE.read_text(encoding='utf-8')), encoding='utf-8')
