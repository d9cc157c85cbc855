#!/bin/bash
# Makes what the tests' virtual machines boot: Debian's kernel for clouds, which has the TPM's drivers built in, and an
# initial file system of busybox and tpm2-tools. Both lie in .build/guest; nothing is installed. What is there is kept
# as long as what it was made from stays as it is.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=.build/guest
init=Tests/VirtualMachineTests/Guest/init
tool=$(readlink -f "$(command -v tpm2)")
transport=$(ldconfig -p | sed -n 's/.*libtss2-tcti-device\.so\.0 .*=> //p' | head -n 1)
mkdir -p "$folder"

# A test that starts now must not see half of it.
exec 9>"$folder/.lock"
flock 9

kernel() {
  local package
  package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[^ ]*\)$/\1/p' | head -n 1)
  [ -n "$package" ] || return 1
  rm -rf "$folder/package"
  mkdir -p "$folder/package"
  (cd "$folder/package" && apt-get download --quiet --quiet "$package" 2>/dev/null) || return 1
  dpkg-deb --fsys-tarfile "$folder"/package/*.deb | tar -x -C "$folder/package" --wildcards './boot/vmlinuz-*'
  mv "$folder"/package/boot/vmlinuz-* "$folder/vmlinuz"
  rm -rf "$folder/package"
}

if [ ! -s "$folder/vmlinuz" ]; then
  echo "Fetching Debian's kernel for the tests' virtual machines"
  # Lists of packages may be old or absent: then they are fetched, once.
  kernel || { apt-get update --quiet --quiet && kernel; }
fi

sources=$(cksum "$init" "$0" "$tool" "$transport" /bin/busybox)
if [ ! -s "$folder/initrd" ] || [ "$sources" != "$(cat "$folder/sources" 2>/dev/null)" ]; then
  root=$folder/root
  rm -rf "$root"
  mkdir -p "$root"/{bin,lib,lib64,proc,sys,dev,tmp}
  cp "$init" "$root/init"
  cp /bin/busybox "$tool" "$root/bin"
  for applet in $(/bin/busybox --list); do
    [ "$applet" = busybox ] || ln -sf busybox "$root/bin/$applet"
  done
  for library in "$transport" $( (ldd "$tool" && ldd "$transport") | grep -o '/[^ ]*' | sort -u); do
    case $library in
    */ld-linux*) cp -L "$library" "$root/lib64" ;;
    *) cp -L "$library" "$root/lib" ;;
    esac
  done
  # Uncompressed: unpacking would be done by an emulated processor.
  (cd "$root" && find . | /bin/busybox cpio -o -H newc 2>/dev/null) >"$folder/initrd.new"
  mv "$folder/initrd.new" "$folder/initrd"
  echo "$sources" >"$folder/sources"
  rm -rf "$root"
fi
