#!/bin/busybox sh
# shellcheck shell=dash
# Process 1 of the test guest: brings the machine up, then runs what the host says on a virtio-serial port. One command a
# line; the answer is the command's output and a line "@@STATUS".
export PATH=/bin:/millrace HOME=/
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mkdir -p /dev/hugepages /var
ln -s /run /var/run
# EAL loads no drivers from below a folder that everybody may write.
chmod 755 /
mount -t hugetlbfs hugetlbfs /dev/hugepages
ip link set lo up
while read -r module; do
  insmod "$module" || echo "cannot load $module"
done </modules

turns=0
while [ ! -e /dev/vport0p1 ] && [ ! -e /dev/vport1p1 ] && [ "$turns" -lt 200 ]; do
  turns=$((turns + 1))
  usleep 50000
done
for port in /dev/vport*p1; do
  exec 3<>"$port"
done

echo "@@up" >&3
while read -r line <&3; do
  sh -c ". /functions.sh; $line" >&3 2>&1 </dev/null
  printf '\n@@%s\n' "$?" >&3
done
poweroff -f
