#!/bin/bash
# Runs libvirtd as a system's, in namespaces that `unshare --mount --net --pid --fork` made: its folders, its configuration
# and the user libvirt-qemu exist in here alone, and everything ends with it.
#
#   libvirtd.sh FOLDER PROGRAMS    PROGRAMS are first on the path; a file FOLDER/ready says that libvirtd listens
set -eu
folder=$1 programs=$2
mount --make-rprivate /
mount -t proc proc /proc
for place in /run /etc/libvirt /var/lib/libvirt /var/lib/swtpm-localca /var/cache /var/log; do
  mkdir -p "$place"
  mount -t tmpfs tmpfs "$place"
done
mkdir -p /run/lock /run/guest /run/programs /run/vnvram /var/log/libvirt /var/cache/libvirt
install -d -o tss -g tss /var/log/swtpm /var/log/vnvram /var/lib/swtpm-localca

# The users libvirt wants, and no device for acceleration: software emulation alone.
cp /etc/passwd /etc/group /run
getent passwd libvirt-qemu >/dev/null || echo 'libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin' >>/run/passwd
getent group libvirt-qemu >/dev/null || echo 'libvirt-qemu:x:64055:' >>/run/group
mount --bind /run/passwd /etc/passwd
mount --bind /run/group /etc/group
install -d -o libvirt-qemu -g libvirt-qemu /run/serial
mkdir /run/dev
for device in null zero full random urandom tty; do cp -a "/dev/$device" /run/dev; done
mkdir /run/dev/pts /run/dev/shm
mount --rbind /dev/pts /run/dev/pts
ln -s pts/ptmx /run/dev/ptmx
mount --rbind /run/dev /dev

# Where users tss and libvirt-qemu get at them, wherever the package lies.
cp "$folder/vmlinuz" "$folder/initrd" /run/guest
cp -L "$programs"/* /run/programs
cp "$folder/options" /run/vnvram/options
chmod -R a+rX /run/guest /run/programs /run/vnvram

cat >/etc/libvirt/libvirtd.conf <<END
auth_unix_rw = "none"
auth_unix_ro = "none"
END
cat >/etc/libvirt/qemu.conf <<END
group = "libvirt-qemu"
security_driver = "none"
namespaces = []
cgroup_controllers = []
remember_owner = 0
stdio_handler = "file"
END
export PATH="/run/programs:$PATH" VNVRAM_AUDIT_LOG=/var/log/vnvram/audit.jsonl VNVRAM_SWTPM_OPTIONS=/run/vnvram/options
libvirtd --timeout 0 &
for _ in $(seq 600); do
  if [ -S /run/libvirt/libvirt-sock ] && virsh -c qemu:///system version >/dev/null 2>&1; then
    touch "$folder/ready"
    break
  fi
  sleep 0.1
done
wait
