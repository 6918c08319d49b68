#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What an operator's script does on a machine without imgbuild: import the images, run kubeadm.
set -eu
mark() {
	read -r up rest < /proc/uptime
	echo "imgbuild: mark $1 t=${up}s" > /dev/console
}
trap 'test $? = 0 || echo "imgbuild: this machine cannot start: stock kubeadm failed" > /dev/console' EXIT
mark start
mkdir -p /run/bench
mount -t erofs -o ro /dev/disk/by-id/virtio-imgbuild1 /run/bench
for archive in /run/bench/images/*.tar; do
	/run/bench/bin/ctr --namespace k8s.io images import "$archive"
done
mark images-imported
/run/bench/bin/kubeadm init --config /etc/bench/kubeadm.yaml --skip-token-print --ignore-preflight-errors=SystemVerification
mark kubeadm-init
