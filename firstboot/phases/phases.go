// SPDX-License-Identifier: Apache-2.0

// Package phases holds the steps of first boot, a file per phase or pair of phases, and the
// table that makes them a graph. The steps call pure generators (packages pki, kubeconfig,
// manifests, addons) and put their results where the node or the cluster reads them.
package phases

import (
	"context"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
)

// Names of the phases. They are kubeadm's where kubeadm has the phase; identity, base-image,
// etcd-quorum, api, controllers, kubelet-pause, kubelet-connect, cni, pod-network, node-ready and
// hand-over are ours.
const (
	Preflight        = "preflight"
	Identity         = "identity"
	BaseImage        = "base-image"
	Discovery        = "discovery"
	DownloadCerts    = "download-certs"
	Certs            = "certs"
	Kubeconfig       = "kubeconfig"
	Etcd             = "etcd"
	EtcdJoin         = "etcd-join"
	EtcdQuorum       = "etcd-quorum"
	ControlPlane     = "control-plane"
	KubeletStart     = "kubelet-start"
	KubeletBootstrap = "kubelet-wait-bootstrap"
	API              = "api"
	Controllers      = "controllers"
	WaitControlPlane = "wait-control-plane"
	UploadConfig     = "upload-config"
	UploadCerts      = "upload-certs"
	MarkControlPlane = "mark-control-plane"
	BootstrapToken   = "bootstrap-token"
	KubeletFinalize  = "kubelet-finalize"
	KubeletPause     = "kubelet-pause"
	KubeletConnect   = "kubelet-connect"
	Addons           = "addons"
	CNI              = "cni"
	PodNetwork       = "pod-network"
	NodeReady        = "node-ready"
	HandOver         = "hand-over"
)

// slack is added to a phase's timeout beyond the wait the node document configures, so
// that the wait's own, better explained error comes first.
const slack = 30 * time.Second

// Graph returns the phases of first boot with the waits of a node document.
//
// The order is the fastest that kubeadm's contracts allow. The kubelet starts as soon as
// its files exist and not after the manifests; a manifest is dropped as soon as what its
// program reads exists; objects are written from the API's first answer on, while the
// control plane is still reporting itself healthy; what releases joining machines
// (bootstrap tokens and cluster-info) is written last.
func Graph(t node.Timeouts) (*phase.Graph[*State], error) {
	cp, worker := []string{string(node.ControlPlane)}, []string{string(node.Worker)}
	api := t.KubernetesAPICall.D() + slack
	return phase.New(
		phase.Phase[*State]{Name: Preflight, Purpose: "the machine can run Kubernetes",
			Run: func(ctx context.Context, s *State) error { return s.inspect(ctx, s) }, Timeout: 10 * time.Second, Attempts: 30, Pause: 2 * time.Second, OnChange: phase.Redo},
		phase.Phase[*State]{Name: Identity, Purpose: "node name, address and version are known", Needs: []string{Preflight},
			Run: identity, Timeout: 2 * time.Minute, OnChange: phase.Redo},
		phase.Phase[*State]{Name: BaseImage, Purpose: "containerd holds the base image", Needs: []string{Preflight},
			Check: baseImageThere, Run: importBaseImage, Timeout: 2 * time.Minute, Attempts: 3, Pause: time.Second, OnChange: phase.Redo},
		phase.Phase[*State]{Name: Discovery, Purpose: "it is known whether the cluster exists", Needs: []string{Identity, Balancer},
			Run: discover, Timeout: t.Discovery.D() + slack, OnChange: phase.Redo},
		phase.Phase[*State]{Name: DownloadCerts, Purpose: "the authorities of a cluster that is joined are here", Needs: []string{Discovery}, Roles: cp,
			Run: downloadCerts, Timeout: t.Discovery.D() + t.KubernetesAPICall.D() + slack, OnChange: phase.Redo},
		phase.Phase[*State]{Name: Certs, Purpose: "every key and certificate of the control plane exists", Needs: []string{DownloadCerts}, Roles: cp,
			Check: certsThere, Run: certs, Timeout: 5 * time.Minute, OnChange: phase.Refuse},
		phase.Phase[*State]{Name: Kubeconfig, Purpose: "administrators, components and the kubelet can log in", Needs: []string{Certs}, Roles: cp,
			Check: kubeconfigsThere, Run: kubeconfigs, Timeout: 5 * time.Minute, OnChange: phase.Refuse},
		phase.Phase[*State]{Name: KubeletStart, Purpose: "the kubelet is configured and started", Needs: []string{Discovery, Kubeconfig},
			Check: kubeletRuns, Run: startKubelet, Timeout: api, Attempts: 3, Pause: time.Second, OnChange: phase.Redo},
		phase.Phase[*State]{Name: Etcd, Purpose: "etcd's static pod is in place", Needs: []string{Certs, BaseImage}, Roles: cp,
			Check: etcdPlaced, Run: placeEtcd, Timeout: t.EtcdAPICall.D() + slack, OnChange: phase.Refuse},
		phase.Phase[*State]{Name: EtcdJoin, Purpose: "etcd is a voting member of the cluster that is joined", Needs: []string{Etcd, KubeletStart}, Roles: cp,
			Run: joinEtcd, Timeout: 3*t.EtcdAPICall.D() + slack, OnChange: phase.Redo},
		phase.Phase[*State]{Name: EtcdQuorum, Purpose: "the control planes that start the cluster are a quorum", Needs: []string{Etcd, KubeletStart}, Roles: cp,
			Run: awaitQuorum, Timeout: t.EtcdAPICall.D() + slack, OnChange: phase.Redo},
		phase.Phase[*State]{Name: ControlPlane, Purpose: "the API server's static pod is in place, after the one that starts first", Needs: []string{Kubeconfig, BaseImage, EtcdJoin}, Roles: cp,
			Check: apiServerPlaced, Run: placeAPIServer, Timeout: t.ControlPlaneComponentHealthCheck.D() + slack, OnChange: phase.Refuse},
		phase.Phase[*State]{Name: API, Purpose: "the API answers and knows its administrators", Needs: []string{EtcdQuorum, ControlPlane}, Roles: cp,
			Run: awaitAPI, Timeout: api, OnChange: phase.Redo},
		modulesPhase(), balancerPhase(), balancerCAPhase(Certs, KubeletStart), vipPhase(), vipPodPhase(),
		adminCertificatePhase(api),
		followPhase(Addons, MarkControlPlane, WaitControlPlane, KubeletBootstrap, BalancerCA, VIP),
		phase.Phase[*State]{Name: Controllers, Purpose: "the static pods of the controller manager and the scheduler are in place", Needs: []string{API, MarkControlPlane}, Roles: cp,
			Check: controllersPlaced, Run: placeControllers, Timeout: t.ControlPlaneComponentHealthCheck.D() + slack, OnChange: phase.Refuse},
		phase.Phase[*State]{Name: WaitControlPlane, Purpose: "every control-plane component is healthy", Needs: []string{Controllers, VIP}, Roles: cp,
			Run: waitControlPlane, Timeout: t.ControlPlaneComponentHealthCheck.D() + slack, OnChange: phase.Redo},
		phase.Phase[*State]{Name: UploadConfig, Purpose: "the cluster's configuration is in the cluster", Needs: []string{API}, Roles: cp,
			Check: objectsThere(uploadObjects...), Run: writeObjects(uploadObjects...), Timeout: api, OnChange: phase.Refuse},
		phase.Phase[*State]{Name: UploadCerts, Purpose: "control planes that join can read the authorities", Needs: []string{API}, Roles: cp,
			Run: uploadCerts, Timeout: api, OnChange: phase.Redo},
		phase.Phase[*State]{Name: MarkControlPlane, Purpose: "the node carries its role's labels and taints", Needs: []string{API}, Roles: cp,
			Run: markControlPlane, Timeout: t.NodeReady.D() + slack, OnChange: phase.Redo},
		phase.Phase[*State]{Name: Addons, Purpose: "CoreDNS, kube-proxy and the pod network are deployed", Needs: []string{API}, Roles: cp,
			Check: addonsThere, Run: writeAddons, Timeout: api, OnChange: phase.Redo},
		phase.Phase[*State]{Name: BootstrapToken, Purpose: "machines can join", Needs: []string{UploadConfig, UploadCerts, Addons}, Roles: cp,
			Check: objectsThere(tokenObjects...), Run: writeObjects(tokenObjects...), Timeout: api, OnChange: phase.Redo},
		phase.Phase[*State]{Name: KubeletFinalize, Purpose: "the kubelet renews its own certificate", Needs: []string{KubeletStart}, Roles: cp,
			Run: finalizeKubelet, Timeout: t.KubeletHealthCheck.D() + slack, OnChange: phase.Redo},
		phase.Phase[*State]{Name: KubeletPause, Purpose: "the kubelet does not ask for an API that is not there", Needs: []string{ControlPlane, KubeletFinalize}, Roles: cp,
			Run: pauseKubelet, Timeout: maxPause + slack, OnChange: phase.Redo},
		phase.Phase[*State]{Name: KubeletConnect, Purpose: "the kubelet uses this machine's API server", Needs: []string{API, KubeletPause}, Roles: cp,
			Run: connectKubelet, Timeout: t.ControlPlaneComponentHealthCheck.D() + slack, Attempts: 3, Pause: time.Second, OnChange: phase.Redo},
		phase.Phase[*State]{Name: KubeletBootstrap, Purpose: "the kubelet has a certificate of its own", Needs: []string{KubeletStart}, Roles: worker,
			Run: waitBootstrap, Timeout: t.TLSBootstrap.D() + slack, OnChange: phase.Redo},
		phase.Phase[*State]{Name: CNI, Purpose: "the container runtime knows how pods are attached", Needs: []string{Identity},
			Run: configureCNI, Timeout: time.Minute, OnChange: phase.Redo},
		phase.Phase[*State]{Name: PodNetwork, Purpose: "the node has a subnet for its pods", Needs: []string{Addons, KubeletBootstrap},
			Run: awaitSubnet, Timeout: t.NodeReady.D() + slack, OnChange: phase.Redo},
		phase.Phase[*State]{Name: NodeReady, Purpose: "the node is Ready", Needs: []string{MarkControlPlane, Addons, CNI, KubeletBootstrap},
			Run: awaitReady, Timeout: t.NodeReady.D() + slack, OnChange: phase.Redo},
		phase.Phase[*State]{Name: HandOver, Purpose: "the kubelet owns the node from now on",
			Needs: []string{NodeReady, PodNetwork, WaitControlPlane, BootstrapToken, KubeletConnect, BalancerCA, VIPPod, Follow, AdminCertificate, KernelModules},
			Run:   handOver, Timeout: time.Minute, OnChange: phase.Redo},
	)
}
