#!/bin/busybox sh
# shellcheck shell=dash
# What the host calls in the guest; read before every command.

# huge_pages COUNT: pages of 2 MiB.
huge_pages() {
  echo "$1" >/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages
  have=$(cat /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages)
  [ "$have" = "$1" ] || {
    echo "only $have of $1 huge pages"
    return 1
  }
}

# hand_over ADDRESS...: gives cards to user space, as `dpdk-devbind.py --bind=vfio-pci` does.
hand_over() {
  for address in "$@"; do
    device=/sys/bus/pci/devices/$address
    [ -e "$device/driver" ] && echo "$address" >"$device/driver/unbind"
    echo vfio-pci >"$device/driver_override"
    echo "$address" >/sys/bus/pci/drivers_probe
    driver=$(readlink "$device/driver")
    [ "${driver##*/}" = vfio-pci ] || {
      echo "$address did not go to vfio-pci"
      return 1
    }
  done
}

# dataplane CONFIG: starts it as an operator would, and waits for its region.
dataplane() {
  millrace dataplane-args --config "$1" >/tmp/arguments || return 1
  xargs millrace-dataplane </tmp/arguments >/tmp/dataplane.log 2>&1 &
  turns=0
  while [ ! -e /run/millrace/region ]; do
    turns=$((turns + 1))
    if [ "$turns" -gt 1200 ] || ! kill -0 $! 2>/dev/null; then
      cat /tmp/dataplane.log
      return 1
    fi
    usleep 50000
  done
}

# control CONFIG: starts the other process.
control() {
  millrace-control --config "$1" >/tmp/control.log 2>&1 &
}
