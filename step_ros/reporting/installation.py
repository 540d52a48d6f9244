# SPDX-License-Identifier: Apache-2.0
"""How this package was installed, and how a missing package is installed there.

An error about a missing module must name a command that works on this kind of installation: the
extras of pip mean nothing in a colcon workspace. The file imports the standard library alone,
because it runs where packages are missing.
"""

import json
import os
import re
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

# Files of requirements/, and the modules that their packages bring under another name.
FILES = ('core', 'train', 'openvino', 'onnx', 'dev')
_PACKAGES = {
    'cv2': 'opencv-python-headless',
    'yaml': 'pyyaml',
    'sklearn': 'scikit-learn',
    'markdown_it': 'markdown-it-py',
    'PIL': 'pillow',
}
# What ROS 2 itself brings, and our own message types, which the build generates.
_ROS_MODULE = re.compile(
    r'^(rclpy|rpyutils|launch(_\w+)?|ament_\w+|cv_bridge|rosidl_\w+|\w+_(msgs|interfaces)'
    r'|step_ros\.(msg|action).*)$'
)

Kind = Literal['make', 'colcon', 'checkout', 'pip']


@dataclass(frozen=True)
class Installation:
    """How the package was installed.

    Attributes:
        kind: `make` for a `.venv` set up by `make demo` or `make setup`, `colcon` for a workspace
            of ROS 2, `checkout` for sources that an interpreter finds, `pip` for an installation
            by pip.
        folder: The folder of the sources, or share/step_ros of a workspace; None if unknown, as
            after an installation by pip from an index.
    """

    kind: Kind
    folder: Path | None

    @property
    def requirements(self) -> Path | None:
        """The folder of the files of requirements; None if the installation has none."""
        folder = None if self.folder is None else self.folder / 'requirements'
        return folder if folder is not None and folder.is_dir() else None


def find_installation(
    *,
    package: Path | None = None,
    prefix: Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Installation:
    """Return how the package was installed.

    Args:
        package: Folder of the package `step_ros`; the running one without.
        prefix: Prefix of the Python environment; the running one's without.
        environ: Environment variables.
    """
    package = package or Path(__file__).resolve().parents[1]
    prefix = prefix or Path(sys.prefix)
    # scripts/setup.sh leaves stamps in the environment that it makes.
    if any(prefix.glob('step_ros_setup*')):
        return Installation('make', prefix.parent)
    checkout = package.parent if (package.parent / 'package.xml').is_file() else None
    for root in filter(None, environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)):
        share = Path(root) / 'share' / 'step_ros'
        if (share / 'package.xml').is_file():
            return Installation('colcon', checkout or share)
    if checkout is not None:
        return Installation('checkout', checkout)
    return Installation('pip', _pip_source())


def how_to_install(module: str, installation: Installation | None = None) -> str:
    """Return in words how a missing module is installed on this kind of installation.

    Args:
        module: Name of the module, as in the error.
        installation: The installation; the running one without.
    """
    found = installation or find_installation()
    if is_ros(module):
        return _ros_advice(found)
    if module.partition('.')[0] == 'step_ros':
        return f'the installed package is older than the program: {_build_advice(found)}'
    name = file_of(module, found)
    if found.kind == 'make':
        return f'install it: run `make setup` in {found.folder}'
    if found.kind == 'pip':
        extra = '' if name == 'core' else f'[{name}]'
        return f"install it: {_pip()} install '{found.folder or 'step_ros'}{extra}'"
    files = name
    if found.kind == 'colcon' and name in ('core', 'train'):
        # This file keeps numpy below 2, which the cv_bridge of apt needs.
        files = 'without-rosdep'
    folder = found.requirements or Path('src/step_ros/requirements')
    path = folder / f'{files}.txt'
    return f'install it: {_pip()} install -r {path}'


def file_of(module: str, installation: Installation | None = None) -> str:
    """Return the file of requirements/ whose packages bring a module, without its suffix.

    A module of no named package is one that another package needs: `train` has most of them.

    Args:
        module: Name of the module.
        installation: The installation; the running one without.
    """
    top = module.partition('.')[0]
    package = _normal(_PACKAGES.get(top, top))
    named = {each.package: each.file for each in read_requirements(installation)}
    return named.get(package, top if top in FILES else 'train')


def is_ros(module: str) -> bool:
    """Return whether a module belongs to ROS 2 or to this package's build for it."""
    return _ROS_MODULE.match(module) is not None


@dataclass(frozen=True)
class Requirement:
    """A package that a file of requirements/ names.

    Attributes:
        package: Its name for pip, in normal form.
        minimum: The least version that is accepted; empty for any.
        below: The version that is too new; empty for none.
        file: The file's name without its suffix.
    """

    package: str
    minimum: str
    below: str
    file: str


def read_requirements(installation: Installation | None = None) -> list[Requirement]:
    """Return the packages that the installation names: of requirements/*.txt, else of pip.

    Args:
        installation: The installation; the running one without.
    """
    folder = (installation or find_installation()).requirements
    found: dict[str, Requirement] = {}
    if folder is not None:
        for name in FILES:
            path = folder / f'{name}.txt'
            lines = path.read_text(encoding='utf-8').splitlines() if path.is_file() else []
            for line in lines:
                if (requirement := parse_requirement(line, name)) is not None:
                    found.setdefault(requirement.package, requirement)
        return list(found.values())
    try:
        declared = metadata.requires('step_ros') or []
    except metadata.PackageNotFoundError:
        return []
    for line in declared:
        extra = re.search(r"extra\s*==\s*['\"](\w+)", line)
        requirement = parse_requirement(line, extra[1] if extra else 'core')
        if requirement is not None and requirement.file in FILES:
            found.setdefault(requirement.package, requirement)
    return list(found.values())


def parse_requirement(line: str, file: str) -> Requirement | None:
    """Return the requirement of a line; None for a comment or an option.

    Args:
        line: A line such as `numpy>=1.24,<3  # a comment`.
        file: The file that holds it, without its suffix.
    """
    text = line.partition('#')[0].partition(';')[0].strip()
    found = re.match(r'([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?\s*(.*)', text)
    if found is None:
        return None
    bounds = dict(re.findall(r'(>=|<)\s*([\d.]+)', found[2]))
    return Requirement(_normal(found[1]), bounds.get('>=', ''), bounds.get('<', ''), file)


def version_key(version: str) -> tuple[int, ...]:
    """Return the release numbers of a version, for comparison: `2.4.1+cpu` gives `(2, 4, 1)`."""
    found = re.match(r'\d+(?:\.\d+)*', version)
    numbers = [int(part) for part in found[0].split('.')] if found else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _normal(package: str) -> str:
    return re.sub(r'[-_.]+', '-', package).lower()


def _pip_source() -> Path | None:
    """Return the folder from which pip installed the package; None if it is gone or unknown."""
    try:
        text = metadata.distribution('step_ros').read_text('direct_url.json')
        url = urlsplit(str(json.loads(text or '{}').get('url', '')))
    except (metadata.PackageNotFoundError, ValueError):
        return None
    folder = Path(unquote(url.path))
    return folder if url.scheme == 'file' and (folder / 'setup.py').is_file() else None


def _pip() -> str:
    """Return the command of pip for this interpreter.

    The system's interpreter of newer distributions refuses packages of pip without the variable.
    """
    marker = Path(sysconfig.get_path('stdlib')) / 'EXTERNALLY-MANAGED'
    managed = sys.prefix == sys.base_prefix and marker.is_file()
    return ('PIP_BREAK_SYSTEM_PACKAGES=1 ' if managed else '') + 'python3 -m pip'


def _ros_advice(installation: Installation) -> str:
    if installation.kind in ('make', 'colcon'):
        return _build_advice(installation)
    return (
        'build this package in a colcon workspace of ROS 2 and source its install/setup.bash, '
        'or call `make setup` in a checkout (README.md)'
    )


def _build_advice(installation: Installation) -> str:
    if installation.kind == 'make':
        return f'run `make setup` in {installation.folder}'
    if installation.kind == 'colcon':
        return (
            'call `rosdep install --from-paths src --ignore-src` and `colcon build` in the '
            'workspace, then source its install/setup.bash'
        )
    return 'install it again (README.md)'
