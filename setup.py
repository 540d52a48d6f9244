"""Install the ROS-free part with pip; `colcon build` (CMakeLists.txt) installs it for ROS 2."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def requirements(name: str) -> list[str]:
    """Read requirements/NAME.txt without its comments."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line for line in (raw.split('#')[0].strip() for raw in lines) if line]


def share_files() -> list[tuple[str, list[str]]]:
    """List what belongs into share/step_ros, folder by folder."""
    folders: dict[str, list[str]] = {}
    for top in ('config', 'models', 'msg'):
        for path in sorted((ROOT / top).rglob('*')):
            if path.is_file():
                relative = path.relative_to(ROOT)
                folders.setdefault(f'share/step_ros/{relative.parent}', []).append(str(relative))
    return sorted(folders.items())


setup(
    name='step_ros',
    version='0.1.0',
    description='Order-aware action recognition for human-robot interaction, live on ROS 2',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['step_ros', 'step_ros.*']),
    package_data={
        'step_ros': [
            'py.typed',
            'streaming/attention_cache/csrc/*.cpp',
            'streaming/attention_cache/csrc/*.h',
        ]
    },
    data_files=share_files(),
    install_requires=requirements('core'),
    extras_require={name: requirements(name) for name in ('train', 'openvino', 'onnx', 'dev')},
    entry_points={'console_scripts': ['step_ros = step_ros.cli:main']},
)
