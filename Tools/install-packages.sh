#!/bin/sh
# Installs the Debian packages that are missing, and nothing where none is. The list of packages is here and nowhere else.
#
#   Tools/install-packages.sh build         what building needs
#   Tools/install-packages.sh build demo    and the demonstration
#   Tools/install-packages.sh build test    and the tests
#   Tools/install-packages.sh build test bench    and the benchmarks
set -eu

packages_build="gcc libc6-dev libstdc++-12-dev pkg-config libssl-dev libkeyutils-dev libtpms-dev libseccomp-dev libtss2-dev"
# keyutils: a session keyring of one's own. openssl: verifies what the TPM signed.
packages_demo="keyutils tpm2-tools openssl python3"
# swtpm-tools: swtpm_ioctl, and swtpm to compare answers with. mount and util-linux: losetup. python3-cryptography: the
# independent reader of images. e2fsprogs, xfsprogs: file systems on loop devices. qemu-system-x86 and busybox-static:
# virtual machines, whose kernel Tools/prepare-guest.sh gets; ovmf: their UEFI firmware. strace: what is synced before a
# server answers. mandoc: checks the manual pages. libvirt: its daemon is run by a test, in namespaces of its own;
# nothing is started by installing it.
packages_test="$packages_demo swtpm swtpm-tools python3-cryptography mount util-linux e2fsprogs xfsprogs strace mandoc
  qemu-system-x86 ovmf busybox-static libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients"
# What a durable commit is measured beside.
packages_bench="libsqlite3-dev liblmdb-dev"

list=""
for group in "$@"; do
  case "$group" in
  build) list="$list $packages_build" ;;
  demo) list="$list $packages_demo" ;;
  test) list="$list $packages_test" ;;
  bench) list="$list $packages_bench" ;;
  *)
    echo "usage: $0 [build|demo|test|bench]..." >&2
    exit 2
    ;;
  esac
done

if ! command -v dpkg-query >/dev/null; then
  echo "This is no Debian system: make sure that you have what these packages hold:$list" >&2
  exit 0
fi

missing=""
for package in $list; do
  state=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] || case " $missing " in *" $package "*) ;; *) missing="$missing $package" ;; esac
done
[ -n "$missing" ] || exit 0

echo "Installing Debian packages:$missing"
as_root=""
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "You are not root and there is no sudo. Please run as root: apt-get install$missing" >&2
    exit 1
  fi
  as_root="sudo"
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
  # shellcheck disable=SC2086 # one word a package
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $missing >"$log" 2>&1
}
# Lists of packages may be old or absent: then they are fetched, once.
if ! install; then
  $as_root apt-get update --quiet --quiet || true
  if ! install; then
    cat "$log" >&2
    echo "apt-get could not install:$missing" >&2
    exit 1
  fi
fi
