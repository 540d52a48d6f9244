# SPDX-License-Identifier: Apache-2.0
"""What `step_ros doctor` looks at without ROS: machine, middleware, packages, folders, weights.

Every check is a function of what it looks at (variables, folders, versions) and yields
findings in words. It changes nothing.
"""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from step_ros.reporting.environment import (
    RosEnvironmentError,
    check_folder,
    log_folder,
    read_domain,
)
from step_ros.reporting.installation import (
    Requirement,
    find_installation,
    how_to_install,
    read_requirements,
    version_key,
)

Level = Literal['ok', 'note', 'warning', 'error']

# Bytes of /dev/shm below which large images are lost: each process of Fast DDS takes 32 MiB with
# our profile (config/fastdds.xml), and a robot runs a driver, a node and some clients.
LEAST_SHARED_MEMORY = 128 * 2**20
# Bytes of memory that a node needs with a DINOv2 backbone.
LEAST_MEMORY = 2 * 2**30
# Beyond these domains Linux may give the middleware's ports to other programs.
SAFE_DOMAINS = 101
DISCOVERY_RANGES = ('SUBNET', 'LOCALHOST', 'OFF', 'SYSTEM_DEFAULT')
# The backbone of docs/training.md in the cache of the Hugging Face hub.
DINOV2 = 'models--timm--vit_small_patch14_dinov2.lvd142m'
# What fails without the packages of each file of requirements/.
_USES = {
    'train': 'the verbs train, evaluate, teach, replay and record-demo need it',
    'openvino': 'the encoder runtime openvino needs it',
    'onnx': 'the encoder runtime onnx needs it',
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        area: What it belongs to, for example `middleware`.
        level: `error` stops work, `warning` may, `note` is worth knowing.
        text: What was found.
        mend: What to do about it; empty if there is nothing to do.
    """

    area: str
    level: Level
    text: str
    mend: str = ''

    def as_dict(self) -> dict[str, str]:
        """Return the finding for JSON."""
        return asdict(self)


def machine_findings(
    *, system: str = '', memory: int | None = None, python: tuple[int, int] | None = None
) -> Iterator[Finding]:
    """Yield findings about the machine.

    Args:
        system: Name of the operating system; this one's without.
        memory: Free memory in bytes; this machine's without.
        python: Version of Python; this one's without.
    """
    system = system or platform.system()
    python = python or sys.version_info[:2]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    text = f'{system} {platform.machine()}, {cores} cores, Python {python[0]}.{python[1]}'
    if system != 'Linux':
        yield Finding('machine', 'warning', text, 'step_ros is tested on Linux alone')
    elif python < (3, 10):
        yield Finding('machine', 'error', text, 'use Python 3.10 or newer')
    else:
        yield Finding('machine', 'ok', text)
    memory = _free_memory() if memory is None else memory
    if memory is not None and memory < LEAST_MEMORY:
        yield Finding(
            'machine',
            'warning',
            f'only {_size(memory)} of memory are free',
            f'end other programs: a node with a DINOv2 backbone takes about {_size(LEAST_MEMORY)}',
        )


def middleware_findings(environ: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Yield findings about the environment variables that choose middleware, domain and range.

    Args:
        environ: Environment variables.
    """
    yield _domain_finding(environ)
    installed = installed_middlewares(environ)
    chosen = environ.get('RMW_IMPLEMENTATION', '')
    if chosen and installed and chosen not in installed:
        yield Finding(
            'middleware',
            'error',
            f'RMW_IMPLEMENTATION={chosen} is not installed; there is: {", ".join(installed)}',
            f'install the package ros-DISTRO-{chosen.replace("_", "-")}, or unset the variable',
        )
    else:
        text = chosen or 'the default of ROS 2'
        yield Finding('middleware', 'ok', f'middleware: {text}')
    discovery = environ.get('ROS_AUTOMATIC_DISCOVERY_RANGE', '')
    if discovery and discovery not in DISCOVERY_RANGES:
        yield Finding(
            'middleware',
            'warning',
            f'ROS_AUTOMATIC_DISCOVERY_RANGE={discovery!r} is unknown, so ROS 2 takes LOCALHOST',
            f'set it to one of {", ".join(DISCOVERY_RANGES)}',
        )
    elif discovery == 'OFF':
        yield Finding(
            'middleware',
            'warning',
            'ROS_AUTOMATIC_DISCOVERY_RANGE=OFF: no program finds another',
            'set it to LOCALHOST or SUBNET, or name the peers in ROS_STATIC_PEERS',
        )
    elif discovery == 'LOCALHOST' or environ.get('ROS_LOCALHOST_ONLY') == '1':
        yield Finding('middleware', 'note', 'programs on other machines are not found: LOCALHOST')


def _domain_finding(environ: Mapping[str, str]) -> Finding:
    try:
        domain = read_domain(environ)
    except RosEnvironmentError as error:
        return Finding('middleware', 'error', str(error))
    if domain > SAFE_DOMAINS:
        return Finding(
            'middleware',
            'warning',
            f'ROS_DOMAIN_ID={domain}: Linux may give its ports to other programs',
            f'choose a domain from 0 to {SAFE_DOMAINS}',
        )
    return Finding('middleware', 'ok', f'domain {domain}')


def installed_middlewares(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return the names of the installed middlewares; empty where no prefix is sourced.

    Args:
        environ: Environment variables.
    """
    index = 'share/ament_index/resource_index/rmw_typesupport'
    prefixes = [*environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep), sys.prefix]
    folders = [Path(prefix) / index for prefix in prefixes if prefix]
    return sorted(
        {path.name for folder in folders if folder.is_dir() for path in folder.iterdir()}
    )


def shared_memory_findings(
    folder: Path = Path('/dev/shm'), *, size: int | None = None, free: int | None = None
) -> Iterator[Finding]:
    """Yield findings about the shared memory, by which large images travel on one machine.

    Args:
        folder: Where it lies.
        size: Its size in bytes; measured without.
        free: Free bytes in it; measured without.
    """
    if not folder.is_dir():
        yield Finding(
            'shared memory',
            'warning',
            f'{folder} is missing, so images go through the network stack and large ones are lost',
            f'mount it: sudo mount -t tmpfs tmpfs {folder}',
        )
        return
    usage = shutil.disk_usage(folder)
    size, free = usage.total if size is None else size, usage.free if free is None else free
    text = f'{folder}: {_size(free)} of {_size(size)} are free'
    if size < LEAST_SHARED_MEMORY:
        yield Finding(
            'shared memory',
            'warning',
            f'{text}; large images are lost below {_size(LEAST_SHARED_MEMORY)}',
            'start the container with --shm-size=1g or --ipc=host, or call '
            f'sudo mount -o remount,size=1G {folder}',
        )
    elif free < LEAST_SHARED_MEMORY:
        yield Finding(
            'shared memory',
            'warning',
            f'{text}; large images are lost below {_size(LEAST_SHARED_MEMORY)}',
            f'remove what ended programs left: stop all ROS programs, then '
            f'rm {folder}/fastrtps_* {folder}/fastdds_*',
        )
    else:
        yield Finding('shared memory', 'ok', text)


def package_findings(
    requirements: list[Requirement] | None = None,
    version_of: Callable[[str], str] = metadata.version,
    *,
    cv_bridge_error: Callable[[], str] | None = None,
) -> Iterator[Finding]:
    """Yield findings about the Python packages of requirements/*.txt.

    Args:
        requirements: The requirements; those of this installation without.
        version_of: Returns the version of an installed package, or raises PackageNotFoundError.
        cv_bridge_error: Returns why an installed cv_bridge does not load, empty if it does.
    """
    if requirements is None:
        requirements = read_requirements()
    good = 0
    for each in requirements:
        if each.file == 'dev':
            continue
        finding = _package_finding(each, _version(each.package, version_of))
        if finding is None:
            good += 1
        else:
            yield finding
    yield Finding('packages', 'ok', f'{good} packages of requirements/ are there and new enough')
    error = (cv_bridge_error or why_cv_bridge_fails)()
    if error:
        numpy = _version('numpy', version_of) or 'unknown'
        old = version_key(numpy) >= (2,)
        yield Finding(
            'packages',
            'error' if old else 'warning',
            f'the installed cv_bridge does not load beside numpy {numpy}: {error}',
            'install the numpy that it was built for: ' + "python3 -m pip install 'numpy<2'"
            if old
            else 'install cv_bridge again',
        )


def _package_finding(requirement: Requirement, version: str | None) -> Finding | None:
    needed = requirement.file == 'core'
    if version is None:
        if not needed and requirement.file not in _USES:
            return None
        use = 'every verb and the node need it' if needed else _USES[requirement.file]
        return Finding(
            'packages',
            'error' if needed else 'note',
            f'{requirement.package} is not installed; {use}',
            how_to_install(requirement.package),
        )
    found = version_key(version)
    if requirement.minimum and found < version_key(requirement.minimum):
        expected, fault = f'>={requirement.minimum}', 'too old'
    elif requirement.below and found >= version_key(requirement.below):
        expected, fault = f'<{requirement.below}', 'too new'
    else:
        return None
    return Finding(
        'packages',
        'error' if needed else 'warning',
        f'{requirement.package} {version} is {fault}: expected {expected}',
        f"python3 -m pip install '{requirement.package}{expected}'",
    )


def _version(package: str, version_of: Callable[[str], str]) -> str | None:
    # apt and pip have OpenCV under several names.
    names = {'opencv-python-headless': ('opencv-python', 'opencv', 'opencv-contrib-python')}
    for name in (package, *names.get(package, ())):
        try:
            return version_of(name)
        except metadata.PackageNotFoundError:
            continue
    module = {'opencv-python-headless': 'cv2', 'pyyaml': 'yaml'}.get(package, package)
    if importlib.util.find_spec(module.replace('-', '_')) is None:
        return None
    # A package of apt may come without metadata.
    return str(getattr(importlib.import_module(module.replace('-', '_')), '__version__', ''))


def why_cv_bridge_fails() -> str:
    """Return why the installed cv_bridge does not load; empty if it does, or none is there."""
    if importlib.util.find_spec('cv_bridge') is None:
        return ''
    # A build for numpy 1 may end the whole process beside numpy 2.
    code = 'import cv_bridge; from cv_bridge.boost import cv_bridge_boost'
    try:
        done = subprocess.run(
            [sys.executable, '-c', code], capture_output=True, text=True, timeout=60, check=False
        )
    except subprocess.TimeoutExpired:
        return 'it takes more than 60 s'
    lines = done.stderr.strip().splitlines() or [f'exit status {done.returncode}']
    return lines[-1] if done.returncode else ''


def ros_findings(spec_of: Callable[[str], object] = importlib.util.find_spec) -> Iterator[Finding]:
    """Yield findings about ROS 2 and this package's build for it.

    Args:
        spec_of: Returns the specification of a module, None if it is not installed.
    """
    if spec_of('rclpy') is None:
        yield Finding(
            'ROS 2',
            'note',
            'rclpy is not installed: training and replay work, the nodes do not',
            how_to_install('rclpy'),
        )
    elif spec_of('step_ros.msg') is None:
        yield Finding(
            'ROS 2',
            'error',
            'ROS 2 is there, but the message types of step_ros are not built or not sourced',
            how_to_install('step_ros.msg'),
        )
    else:
        yield Finding('ROS 2', 'ok', f'rclpy and step_ros.msg ({find_installation().kind})')


def folder_findings(environ: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Yield findings about the folders that programs write to.

    Args:
        environ: Environment variables.
    """
    if home := environ.get('HOME', ''):
        yield _folder(Path(home), 'home', 'error', 'set HOME to a folder of your own')
    else:
        mend = 'set it to a folder of your own'
        yield Finding('folders', 'warning', 'HOME is not set: caches have no place', mend)
    try:
        logs = log_folder(environ)
    except RosEnvironmentError as error:
        yield Finding('folders', 'error', str(error))
    else:
        yield _folder(logs, 'logs of ROS 2', 'error', 'set ROS_LOG_DIR to a folder of your own')


def hub_findings(environ: Mapping[str, str] = os.environ) -> Iterator[Finding]:
    """Yield findings about the cache of the Hugging Face hub, where backbones' weights lie.

    Args:
        environ: Environment variables.
    """
    cache = hub_cache(environ)
    if cache is None:
        yield Finding(
            'weights',
            'warning',
            'neither HF_HOME nor HOME is set, so weights have no place',
            'set HF_HOME to a folder of your own',
        )
        return
    mend = 'set HF_HOME to a folder of your own'
    yield _folder(cache, 'cache of the Hugging Face hub', 'warning', mend, area='weights')
    if any(cache.glob(f'{DINOV2}/snapshots/*/*.safetensors')):
        yield Finding('weights', 'ok', 'the weights of DINOv2 are there')
        return
    offline = environ.get('HF_HUB_OFFLINE', '').upper() in ('1', 'ON', 'YES', 'TRUE')
    yield Finding(
        'weights',
        'warning' if offline else 'note',
        'the weights of DINOv2 are not there; the shipped bundle does without them'
        + (', and HF_HUB_OFFLINE forbids to download them' if offline else ''),
        'unset HF_HUB_OFFLINE, or copy the cache from a machine with a network'
        if offline
        else 'the first use downloads them, which needs a network',
    )


def hub_cache(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the folder of the hub's cache, chosen as the hub chooses it; None without a home.

    Args:
        environ: Environment variables.
    """
    for name, below in (
        ('HF_HUB_CACHE', ''),
        ('HUGGINGFACE_HUB_CACHE', ''),
        ('HF_HOME', 'hub'),
        ('XDG_CACHE_HOME', 'huggingface/hub'),
        ('HOME', '.cache/huggingface/hub'),
    ):
        if value := environ.get(name, ''):
            return Path(os.path.expandvars(value)).expanduser() / below
    return None


def _folder(
    folder: Path, purpose: str, level: Level, mend: str, *, area: str = 'folders'
) -> Finding:
    try:
        check_folder(folder, purpose, mend)
    except RosEnvironmentError as error:
        return Finding(area, level, str(error))
    return Finding(area, 'ok', f'{folder} ({purpose}) is writable')


def _free_memory() -> int | None:
    information = Path('/proc/meminfo')
    if information.is_file():
        for line in information.read_text(encoding='utf-8').splitlines():
            if line.startswith('MemAvailable:'):
                return int(line.split()[1]) * 1024
    return None


def _size(count: int) -> str:
    return f'{count / 2**30:.1f} GiB' if count >= 2**30 else f'{count / 2**20:.0f} MiB'
