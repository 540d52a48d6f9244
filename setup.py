# SPDX-License-Identifier: Apache-2.0
"""Install the ROS-free part with pip; `colcon build` (CMakeLists.txt) installs it for ROS 2."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
PASSES = 'step_ros.streaming.attention_cache'


def version() -> str:
    """Return `step_ros.__version__` without importing the package."""
    text = (ROOT / 'step_ros' / '__init__.py').read_text(encoding='utf-8')
    found = re.search(r"^__version__ = '([^']+)'$", text, re.MULTILINE)
    if found is None:
        raise RuntimeError('step_ros/__init__.py: expected a line __version__ = ...')
    return found[1]


def requirements(name: str) -> list[str]:
    """Read requirements/NAME.txt without its comments."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8').splitlines()
    return [line for line in (raw.split('#')[0].strip() for raw in lines) if line]


def share_files() -> list[tuple[str, list[str]]]:
    """List the files of share/step_ros, folder by folder."""
    folders: dict[str, list[str]] = {}
    for top in ('config', 'models', 'msg'):
        for path in sorted((ROOT / top).rglob('*')):
            if path.is_file():
                relative = path.relative_to(ROOT)
                folders.setdefault(f'share/step_ros/{relative.parent}', []).append(str(relative))
    return sorted(folders.items())


def library_module() -> ModuleType:
    """Load `library.py`, which compiles the attention passes, without the package around it."""
    path = ROOT.joinpath(*PASSES.split('.'), 'library.py')
    spec = importlib.util.spec_from_file_location('library', path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class BuildPasses(build_ext):
    """Compile the attention passes once for each level of processors.

    They are plain shared libraries, not Python modules. Without a compiler the installation goes
    on with a warning, and they are compiled on first use.
    """

    def build_extension(self, ext: Extension) -> None:
        """Compile all levels into the package."""
        library = library_module()
        try:
            self._libraries = library.compile_levels(self._folder())
        except (library.NativeError, OSError) as error:
            self.warn(f'attention passes were not compiled: {error}')

    def get_outputs(self) -> list[str]:
        """Return the libraries."""
        return [str(path) for path in getattr(self, '_libraries', [])]

    def copy_extensions_to_source(self) -> None:
        """Do nothing: an editable installation compiles straight into the package."""

    def _folder(self) -> Path:
        base = ROOT if self.inplace or getattr(self, 'editable_mode', False) else self.build_lib
        return Path(base).joinpath(*PASSES.split('.'))


setup(
    name='step_ros',
    version=version(),
    description='Order-aware action recognition for human-robot interaction, live on ROS 2',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    author='step_ros maintainers',
    author_email='step_ros@example.org',
    keywords=['action recognition', 'human-robot interaction', 'ROS 2', 'DINOv2', 'STEP'],
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Developers',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Programming Language :: C++',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Topic :: Scientific/Engineering :: Image Recognition',
        'Typing :: Typed',
    ],
    python_requires='>=3.10',
    packages=find_packages(include=['step_ros', 'step_ros.*']),
    package_data={'step_ros': ['py.typed'], PASSES: ['csrc/*']},
    data_files=share_files(),
    ext_modules=[Extension(f'{PASSES}.attention_sums', sources=[])],
    cmdclass={'build_ext': BuildPasses},
    install_requires=requirements('core'),
    extras_require={
        name: requirements(name) for name in ('train', 'openvino', 'onnx', 'dev', 'docs')
    },
    entry_points={'console_scripts': ['step_ros = step_ros.cli:main']},
)
