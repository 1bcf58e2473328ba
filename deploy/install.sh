#!/usr/bin/env bash
# Installs streamdet as a systemd service, or brings it up to date: a virtual environment, the unit, a configuration.
#
#   deploy/install.sh [--from REQUIREMENT] [--find-links DIR] [--no-start]
#
#   --from REQUIREMENT  what pip installs: a wheel, a folder, or a requirement; default: this source tree
#   --find-links DIR    a folder of wheels, for a machine without a package index
#   --no-start          install only
#
# Needs root, systemd, and Python 3.11 to 3.13 with venv ($PYTHON says which). An existing configuration stays as it is.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
prefix=/opt/streamdet
from=$here/..
pip_options=()
start=yes

fail() {
  echo "install.sh: $*" >&2
  exit 1
}

while [ $# -gt 0 ]; do
  case $1 in
    --from) from=${2:?--from needs a requirement}; shift 2 ;;
    --find-links) pip_options+=(--no-index --find-links "${2:?--find-links needs a folder}"); shift 2 ;;
    --no-start) start=no; shift ;;
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit ;;
    *) fail "unknown option $1; --help lists them" ;;
  esac
done

python=${PYTHON:-python3}
[ "$(id -u)" -eq 0 ] || fail "must run as root"
command -v systemctl >/dev/null || fail "needs systemd"
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null ||
  fail "needs Python 3.11, 3.12 or 3.13; set PYTHON to one"
"$python" -c 'import ensurepip' 2>/dev/null || fail "needs the venv module of $python; on Debian, install python3-venv"

umask 022
[ -x "$prefix/bin/python" ] || "$python" -m venv "$prefix"
"$prefix/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade "${pip_options[@]}" "$from"

install -d -m 0755 /etc/streamdet
[ -e /etc/streamdet/streams.toml ] || install -m 0644 "$here/streams.toml" /etc/streamdet/streams.toml
install -D -m 0644 "$here/../systemd/streamdet.service" /etc/systemd/system/streamdet.service
systemctl daemon-reload
systemctl enable --quiet streamdet.service

if [ "$start" = yes ]; then
  systemctl restart streamdet.service || fail "the service did not start; journalctl -u streamdet says why"
  systemctl --no-pager --lines=0 status streamdet.service
else
  echo "installed; start it with: systemctl start streamdet"
fi
echo "configuration: /etc/streamdet/streams.toml   events: $prefix/bin/streamdet watch"
