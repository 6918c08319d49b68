// SPDX-License-Identifier: Apache-2.0

// Package emulated holds settings for clusters whose machines are emulated, several on one
// host.
package emulated

import (
	"fmt"
	"strings"
)

// Cluster is a part of a cluster file, and of a node document: an answer may take a hundred
// times as long as on real hardware. The leases are what the death of a controller manager
// costs; else nothing waits longer than it must. An API server has some seventy watches, and what
// etcd tells each of them every five seconds is a fifteenth of all the work of an idle machine;
// asking every second who is ready, and counting every kind of object every minute, is a sixth.
const Cluster = before + after

// VIP returns the text of a cluster file of the starter whose virtual address stays where it is
// while its owner is slow: a host that is busy with several machines leaves one out for a second,
// and its API server for ten. Each move of the address costs every client its connections. Adverts
// come as often as advert says.
func VIP(starter, advert string) (string, error) {
	const address = "  address: 192.168.100.10\n"
	return Instead(starter, address, address+"  advertInterval: "+advert+"\n  healthTimeout: 30s\n")
}

// Instead returns the text of a cluster file with something else in place of what it has once.
func Instead(starter, have, want string) (string, error) {
	if strings.Count(starter, have) != 1 {
		return "", fmt.Errorf("the text does not have one %q", have)
	}
	return strings.Replace(starter, have, want, 1), nil
}

// FewControllers is Cluster without the controllers that no boot test needs. Each of them takes
// half a dozen requests to start, and the collector of garbage and the quotas watch every kind of
// object there is.
const FewControllers = before + `, controllers: "*,bootstrap-signer-controller,token-cleaner-controller,` +
	`-garbage-collector-controller,-resourcequota-controller,-horizontal-pod-autoscaler-controller,-disruption-controller,` +
	`-statefulset-controller,-replicationcontroller-controller,-cronjob-controller,-job-controller,-ttl-after-finished-controller,` +
	`-persistentvolume-binder-controller,-persistentvolume-attach-detach-controller,-persistentvolume-expander-controller,` +
	`-persistentvolumeclaim-protection-controller,-persistentvolume-protection-controller,-volumeattributesclass-protection-controller,` +
	`-ephemeral-volume-controller,-resourceclaim-controller,-device-taint-eviction-controller,` +
	`-validatingadmissionpolicy-status-controller,-endpointslice-mirroring-controller,-endpoints-controller,` +
	`-pod-garbage-collector-controller,-ttl-controller,-certificatesigningrequest-cleaner-controller,` +
	`-podcertificaterequest-cleaner-controller,-podgroup-protection-controller,-resourcepoolstatusrequest-controller,` +
	`-legacy-serviceaccount-token-cleaner-controller,-storageversion-garbage-collector-controller,` +
	`-storage-version-migrator-controller"` + after

const before = `
etcd: {heartbeatInterval: 500ms, electionTimeout: 5s, cpuRequest: 800m, extraArgs: {watch-progress-notify-interval: 60s}}
apiServer:
  extraArgs: {etcd-healthcheck-timeout: 20s, etcd-readycheck-timeout: 20s, etcd-count-metric-poll-period: 0s, etcd-db-metric-poll-interval: 0s}
scheduler:
  extraArgs: {leader-elect-lease-duration: 300s, leader-elect-renew-deadline: 240s, leader-elect-retry-period: 10s}
controllerManager:
  extraArgs: {leader-elect-lease-duration: 300s, leader-elect-renew-deadline: 240s, leader-elect-retry-period: 10s, node-monitor-grace-period: 5m`

const after = `}
timeouts:
  controlPlaneComponentHealthCheck: 15m
  kubeletHealthCheck: 15m
  kubernetesAPICall: 15m
  etcdAPICall: 10m
  discovery: 20m
  tlsBootstrap: 15m
  nodeReady: 25m
  readinessProbePeriod: 10s
  balancerHealthCheck: 30s
`
