#!/bin/sh
# Gives vnvram-swtpm the name swtpm, under which libvirt and others look for it, and takes it away again.
#
#   Tools/as-swtpm.sh install|uninstall DESTDIR BINDIR
#
# BINDIR/swtpm becomes a link to the vnvram-swtpm beside it. Where dpkg looks after BINDIR, Debian's own swtpm is diverted to
# swtpm.distrib first, whether it is there already or comes later: so no upgrade puts it back, and `uninstall` does. A file
# of anybody else's is not touched.
set -eu

what=$1
root=$2
directory=$3
name=$directory/swtpm
link=$root$name

die() {
  printf '%s\n' "$1" >&2
  exit 1
}

is_ours() { [ -L "$link" ] && [ "$(readlink "$link")" = vnvram-swtpm ]; }

# The packages of the system that is installed to: this one, or one under DESTDIR. A DESTDIR without packages of its own is there
# to be packed, and whoever unpacks it decides.
database=$root/var/lib/dpkg
case "$directory" in
/usr/local/* | /opt/*) is_managed=no ;;
*) if [ -f "$database/status" ] && command -v dpkg-divert >/dev/null; then is_managed=yes; else is_managed=no; fi ;;
esac

divert() { dpkg-divert --quiet --admindir "$database" --instdir "${root:-/}" --local --rename "$@"; }

is_diverted() {
  [ "$is_managed" = yes ] && [ "$(dpkg-divert --admindir "$database" --listpackage "$name")" = LOCAL ]
}

install_link() {
  [ -x "$root$directory/vnvram-swtpm" ] || die "There is no $root$directory/vnvram-swtpm: run make install first, with the same PREFIX."
  if [ "$is_managed" = yes ] && ! is_diverted; then
    if [ -e "$link" ] && ! is_ours && ! dpkg-query --admindir "$database" --search "$name" >/dev/null 2>&1; then
      die "$link is there and no package's, so nothing could bring it back: move it away."
    fi
    # A link of ours, made before there was a diversion, isn't Debian's.
    if is_ours; then rm "$link"; fi
    divert --divert "$name.distrib" --add "$name"
  fi
  if ! is_ours; then
    [ ! -e "$link" ] && [ ! -L "$link" ] || die "$link is there and not ours: move it away."
    ln -s vnvram-swtpm "$link"
  fi
  printf '%s\n' "$link is vnvram-swtpm."
  case "$directory" in
  /usr/bin | /bin) ;;
  *) echo "Debian's AppArmor profile lets libvirtd start it from /bin and /usr/bin only: PREFIX=/usr is for libvirt." ;;
  esac
}

uninstall_link() {
  if is_ours; then rm "$link"; fi
  if is_diverted; then
    [ ! -e "$link" ] && [ ! -L "$link" ] || die "$link is not ours any more, and in the way of Debian's, $name.distrib: move it away."
    divert --divert "$name.distrib" --remove "$name"
  fi
}

case "$what" in
install) install_link ;;
uninstall) uninstall_link ;;
*) die "usage: $0 install|uninstall DESTDIR BINDIR" ;;
esac
