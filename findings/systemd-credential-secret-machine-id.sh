#!/usr/bin/env bash
# systemd 252 (Debian 12, package systemd 252.39-1~deb12u2): opening a credential under another /etc/machine-id deletes the
# host's credential secret.
#
# /var/lib/systemd/credential.secret holds a secret for one machine id. `systemd-creds decrypt` under another machine id, as
# on a cloned disk with a fresh id, is refused, and it removes the file. The credential can then never be opened again, not
# even under its own machine id.
#
# Seen: opened=secret other-id=refused file=gone first-id-again=refused
# Runs as root, in a mount namespace of its own: the host's machine id and secret stay as they are.
set -euo pipefail
if [ "${1:-}" != inside ]; then
  script=$(realpath "$0"); folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
  cd "$folder"
  apt-get download -qq systemd=252.39-1~deb12u2 libsystemd-shared=252.39-1~deb12u2 libcryptsetup12 libssl3 2>/dev/null
  for package in ./*.deb; do dpkg-deb -x "$package" root; done
  seen=$(unshare --mount bash "$script" inside "$folder")
  echo "$seen"
  [ "$seen" = "opened=secret other-id=refused file=gone first-id-again=refused" ]
  exit
fi
cd "$2"
export LD_LIBRARY_PATH=$PWD/root/usr/lib/x86_64-linux-gnu:$PWD/root/lib/x86_64-linux-gnu:$PWD/root/usr/lib/systemd:$PWD/root/usr/lib/x86_64-linux-gnu/systemd
creds() { "$(find root -name systemd-creds -type f)" "$@" 2>/dev/null; }
identity() { echo "$1" > id; mount --bind id /etc/machine-id; }
mkdir -p state /var/lib/systemd; mount --bind state /var/lib/systemd
touch id; [ -e /etc/machine-id ]
identity 0123456789abcdef0123456789abcdef
creds setup >&2 || true
printf secret | creds encrypt --with-key=host --name=k - sealed
opened=$(creds decrypt --name=k sealed -)
umount /etc/machine-id; identity fedcba9876543210fedcba9876543210
creds decrypt --name=k sealed - >/dev/null && other=opened || other=refused
[ -e /var/lib/systemd/credential.secret ] && file=there || file=gone
umount /etc/machine-id; identity 0123456789abcdef0123456789abcdef
creds decrypt --name=k sealed - >/dev/null && again=opened || again=refused
echo "opened=$opened other-id=$other file=$file first-id-again=$again"
