#!/usr/bin/env bash
# Installs what the tests need and runs them all: ./tests/run.sh [PYTEST ARGUMENT...]
# Needs Python 3.11 to 3.13 ($PYTHON says which) and, for the system packages, apt-get as root or with sudo.
set -euo pipefail
cd "$(dirname "$0")/.."

# pip's default index serves this version for the CPU on some platforms and with CUDA on others; to choose, install torch
# into .venv first, or set PIP_INDEX_URL.
TORCH=torch==2.13.0

SYSTEM_PACKAGES=(
  libportaudio2 libasound2-plugins pulseaudio pulseaudio-utils # a real capture device without hardware
  jackd2                                                      # another backend, whose end makes PortAudio hang
  chromium fonts-dejavu-core                                  # a real browser looks at the live page
  ffmpeg                                                      # sends RTP in all five codecs
  gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-tools    # a real RTSP server; RTCP on the port of RTP
  gstreamer1.0-plugins-base gstreamer1.0-plugins-good
  espeak-ng flite                                             # speak turns of the demo recipe
  mosquitto                                                   # a real MQTT broker
  prometheus                                                  # promtool checks metrics and alert rules
  systemd systemd-container debootstrap                       # boot the service in a container
)

find_python() {
  local candidate
  for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "tests/run.sh: no Python 3.11, 3.12 or 3.13 found; set PYTHON to one" >&2
  return 1
}

missing_packages() {
  local package
  for package in "${SYSTEM_PACKAGES[@]}"; do
    dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || echo "$package"
  done
}

install_packages() {
  local root=()
  [ "$(id -u)" -eq 0 ] || root=(sudo)
  "${root[@]}" apt-get update -q && "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

system_packages() {
  local missing=()
  if command -v dpkg-query >/dev/null; then
    mapfile -t missing < <(missing_packages)
    [ "${#missing[@]}" -gt 0 ] || return 0
    install_packages "${missing[@]}" >&2 && return 0
  else
    missing=("${SYSTEM_PACKAGES[@]}")
  fi
  echo "tests/run.sh: cannot install these Debian packages: ${missing[*]}" >&2
  echo "tests/run.sh: install what your system calls them; tests that lack one are skipped and say so" >&2
  [ -z "${CI:-}" ] # on a CI machine a skipped test would go unseen
}

python=$(find_python)
"$python" -c 'import ensurepip' 2>/dev/null || SYSTEM_PACKAGES+=("$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')")
system_packages </dev/null

[ -x .venv/bin/python ] || "$python" -m venv .venv
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
# torch first and on its own, so that nothing else decides which build of it comes.
.venv/bin/python -m pip install --quiet "$TORCH"
.venv/bin/python -m pip install --quiet --editable '.[dev]'
# Of the teacher's package only the weights are read; what it depends on would be many times larger.
.venv/bin/python -m pip install --quiet --no-deps 'distillmos>=0.9,<0.10' 'speechmos>=0.0.1,<0.1'

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
exec .venv/bin/python -m pytest -q "$@" </dev/null
