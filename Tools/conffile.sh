#!/bin/sh
# Installs a file that an operator may change, and takes it away again; as dpkg does with its conffiles.
#
#   Tools/conffile.sh install NEW FILE KEPT
#   Tools/conffile.sh uninstall FILE KEPT
#
# KEPT is a copy of what was installed last, by which a change is told. FILE is written only where there was none, or where it
# is as it was installed; else the new one is put beside it as FILE.new. One that somebody removed stays removed. It is removed
# only where it is as it was installed.
set -eu

say() { printf '%s\n' "$1" >&2; }
# A link is somebody's own arrangement.
is_same() { [ -f "$1" ] && [ ! -L "$1" ] && cmp -s -- "$1" "$2"; }
is_there() { [ -e "$1" ] || [ -L "$1" ]; }

# Never half a file: another program may read it at any time.
put() {
  rm -f -- "$2.tmp"
  cp -- "$1" "$2.tmp"
  chmod 644 -- "$2.tmp"
  mv -f -- "$2.tmp" "$2"
}

install_file() {
  new=$1 file=$2 kept=$3
  if is_same "$file" "$new"; then
    rm -f -- "$file.new"
  elif is_same "$file" "$kept" || { ! is_there "$file" && ! is_there "$kept"; }; then
    put "$new" "$file"
    rm -f -- "$file.new"
  elif ! is_there "$file"; then
    say "$file: was removed by somebody, and isn't put back; cp $kept $file has it again."
  elif [ -d "$file" ] && [ ! -L "$file" ]; then
    say "$file: is a folder, and stays."
  elif is_there "$kept" && cmp -s -- "$kept" "$new"; then
    say "$file: was changed by somebody, and stays as it is."
  else
    put "$new" "$file.new"
    say "$file: was changed by somebody, and stays as it is; the new one is $file.new."
  fi
  put "$new" "$kept"
}

uninstall_file() {
  file=$1 kept=$2
  if is_same "$file" "$kept"; then
    rm -f -- "$file"
  elif is_there "$file"; then
    say "$file: isn't as it was installed, and stays."
  fi
  if is_same "$file.new" "$kept"; then rm -f -- "$file.new"; fi
  rm -f -- "$kept"
}

case "${1-} $#" in
'install 4') install_file "$2" "$3" "$4" ;;
'uninstall 3') uninstall_file "$2" "$3" ;;
*)
  say "usage: $0 install NEW FILE KEPT | uninstall FILE KEPT"
  exit 2
  ;;
esac
