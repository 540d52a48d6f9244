# SPDX-License-Identifier: Apache-2.0
"""What the package says of itself: dependencies, licence lines, citation, links of the pages."""

import ast
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml

import step_ros

ROOT = Path(__file__).parents[1]
SOURCES = [
    path
    for top in ('step_ros', 'test', 'launch', 'examples', 'scripts')
    for path in sorted((ROOT / top).rglob('*'))
    if path.suffix in ('.py', '.cpp', '.h', '.sh') and '__pycache__' not in path.parts
]
PAGES = [*sorted(ROOT.glob('*.md')), *sorted((ROOT / 'docs').glob('*.md'))]
# `make results` writes this one, from long cells.
GENERATED = 'results.md'
# Packages of ROS that the code imports by a name of their own.
ROS_PACKAGES = re.compile(r'^(rclpy|cv_bridge|launch(_\w+)?|\w+_(msgs|interfaces))$')
# ruff's rules for modules, classes, methods, functions, packages, nested classes.
UNDOCUMENTED = 'D100,D101,D102,D103,D104,D106'
LICENCE = 'SPDX-License-Identifier: Apache-2.0'


def imported_packages(path):
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            yield from (name.name.partition('.')[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition('.')[0]


def test_every_imported_ros_package_is_a_dependency():
    # yolo_msgs and the like are optional: looked for at run time, named in the docs.
    declared = {
        (element.text or '').strip()
        for element in ET.parse(ROOT / 'package.xml').getroot()
        if element.tag.endswith('depend')
    }
    imported = {
        name: path
        for path in SOURCES
        if path.suffix == '.py' and path.is_relative_to(ROOT / 'step_ros')
        for name in imported_packages(path)
        if ROS_PACKAGES.match(name)
    }
    missing = {name: str(path) for name, path in imported.items() if name not in declared}
    assert not missing


def test_every_source_file_names_its_licence():
    without = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if LICENCE not in path.read_text(encoding='utf-8')[:300]
    ]
    assert not without


def test_citation_names_the_version():
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text(encoding='utf-8'))
    assert citation['version'] == step_ros.__version__
    assert len(citation['references']) == 2


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_somewhere(page):
    text = re.sub(r'```.*?```', '', page.read_text(encoding='utf-8'), flags=re.DOTALL)
    targets = re.findall(r'\]\((?![a-z]+:|#)([^)#\s]+)', text)
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page):
    text = page.read_text(encoding='utf-8')
    rooms = '|'.join(path.name for path in (ROOT / 'step_ros').iterdir() if path.is_dir())
    named = re.findall(rf'`((?:step_ros/)?(?:{rooms})/[\w/]+\.(?:py|cpp|h))`', text)
    missing = [
        name
        for name in named
        if not (ROOT / name).exists() and not (ROOT / 'step_ros' / name).exists()
    ]
    assert not missing


@pytest.mark.parametrize(
    'page', [page for page in PAGES if page.name != GENERATED], ids=lambda page: page.name
)
def test_prose_keeps_to_a_hundred_characters(page):
    text = re.sub(r'```.*?```', '', page.read_text(encoding='utf-8'), flags=re.DOTALL)
    long = [
        line
        for line in text.splitlines()
        # A table's row, a picture, code and an address cannot be broken.
        if len(line) > 100 and not re.match(r'\s*(\||!\[|<|- \[)|    ', line) and '](' not in line
    ]
    assert not long


def test_every_public_name_has_a_docstring():
    done = subprocess.run(
        [
            sys.executable,
            '-m',
            'ruff',
            'check',
            '--select',
            'D100,D101,D102,D103,D104,D106',
            '--quiet',
            'step_ros',
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_documentation_site_builds_strictly(tmp_path):
    pytest.importorskip('mkdocs', reason='needs the extra docs')
    done = subprocess.run(
        [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / 'index.html').is_file()
    step = (tmp_path / 'api' / 'step_ros.model.heads' / 'index.html').read_text(encoding='utf-8')
    assert 'StepHead' in step
