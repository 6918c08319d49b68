// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	core "k8s.io/api/core/v1"

	"github.com/imgbuild/imgbuild/builder/vm"
)

// Two mirrors of the registry that the network's image belongs to: one that is broken, and one
// that serves whoever has the password.
const (
	networkRepository = "example/hostgw"
	brokenPort        = 5001
	servingPort       = 5002
	mirrorCredentials = "puller:password-of-the-mirror"
)

// hostgw is the network's installation file.
const hostgw = `apiVersion: v1
kind: ServiceAccount
metadata: {name: hostgw, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: hostgw}
rules:
  - {apiGroups: [""], resources: [nodes], verbs: [list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: hostgw}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: hostgw}
subjects:
  - {kind: ServiceAccount, name: hostgw, namespace: kube-system}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: hostgw, namespace: kube-system}
spec:
  selector: {matchLabels: {app: hostgw}}
  template:
    metadata: {labels: {app: hostgw}}
    spec:
      serviceAccountName: hostgw
      hostNetwork: true
      priorityClassName: system-node-critical
      tolerations: [{operator: Exists}]
      containers:
        - name: hostgw
          image: %s
          command: [/hostgw]
          env:
            - {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
          securityContext: {capabilities: {add: [NET_ADMIN]}}
          volumeMounts:
            - {name: plugins, mountPath: /opt/cni/bin}
            - {name: config, mountPath: /etc/cni/net.d}
      volumes:
        - {name: plugins, hostPath: {path: /opt/cni/bin, type: DirectoryOrCreate}}
        - {name: config, hostPath: {path: /etc/cni/net.d, type: DirectoryOrCreate}}
`

// TestOwnNetwork gives a cluster another network than the image's: a manifest in the cluster
// file, and an image that is pinned by digest and pulled from the second of two mirrors. Its
// kube-proxy uses IPVS.
func TestOwnNetwork(t *testing.T) {
	e := needLong(t)
	program := filepath.Join(t.TempDir(), "hostgw")
	if err := compile(e.root, "./test/hostgw", program); err != nil {
		t.Fatal(err)
	}
	image, digest := programImage(t, program)
	gateway := netip.MustParseAddr("192.168.100.1")
	config, ca := serverTLS(t, gateway)
	r := e.render(t, rendering{controlPlanes: 1, workers: 1, probe: true,
		instead: []string{"proxyMode: nftables", "proxyMode: ipvs", "provider: flannel", "provider: none\n  manifests: [hostgw.yaml]"},
		text: fmt.Sprintf(`registries:
  - host: registry.example.org
    fallback: false
    mirrors:
      - {url: "https://%[1]s:%[2]d", caFile: mirrors-ca.pem}
      - {url: "https://%[1]s:%[3]d", caFile: mirrors-ca.pem, credentialsFile: mirror-credentials}
`, gateway, brokenPort, servingPort),
		attached: map[string]string{"mirrors-ca.pem": ca, "mirror-credentials": mirrorCredentials + "\n",
			"hostgw.yaml": fmt.Sprintf(hostgw, "registry.example.org/"+networkRepository+"@"+digest)}})
	h := newHA(t, e.startCluster(t, r.dir, r.index, func(o *vm.FleetOptions) { o.Machine.Disks = []string{e.probeDisk} }), r.index)
	var broken, served atomic.Int32
	h.mirror(brokenPort, config, func(w http.ResponseWriter, _ *http.Request) {
		broken.Add(1)
		http.Error(w, "out of order", http.StatusServiceUnavailable)
	})
	handler := serving(t, networkRepository, digest, image)
	h.mirror(servingPort, config, func(w http.ResponseWriter, req *http.Request) {
		if user, password, _ := req.BasicAuth(); user+":"+password != mirrorCredentials {
			w.Header().Set("WWW-Authenticate", `Basic realm="mirror"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		served.Add(1)
		handler.ServeHTTP(w, req)
	})
	h.waitReady()
	t.Run("nodes", func(t *testing.T) { h.with(t).allNodes() })
	t.Run("pods", func(t *testing.T) { h.with(t).podsTalk() })
	t.Run("network", func(t *testing.T) { h.with(t).hasOwnNetwork(digest) })
	t.Run("mirrors", func(t *testing.T) {
		if broken.Load() == 0 || served.Load() == 0 {
			t.Errorf("%d requests to the broken mirror, %d to the serving one: want both", broken.Load(), served.Load())
		}
	})
}

// hasOwnNetwork expects nothing of the image's network, and services of IPVS.
func (h *haCluster) hasOwnNetwork(digest string) {
	h.allPodsReady("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kube-dns", "hostgw")
	var list core.PodList
	if err := h.get(&list, "pods", "-A"); err != nil {
		h.Fatal(err)
	}
	for _, p := range list.Items {
		if p.Labels["app"] == "flannel" {
			h.Errorf("pod %s is there", p.Name)
		}
		if p.Labels["app"] == "hostgw" && !strings.HasSuffix(p.Status.ContainerStatuses[0].ImageID, "@"+digest) {
			h.Errorf("pod %s runs %s", p.Name, p.Status.ContainerStatuses[0].ImageID)
		}
	}
	for _, host := range h.index.Hosts {
		in := h.enter(host.Name)
		in.checks(host.Role)
		if got := in.read("cat", "/etc/cni/net.d/10-hostgw.conflist"); !strings.Contains(got, `"type": "hostgw"`) {
			h.Errorf("%s attaches pods by %s", host.Name, got)
		}
		// The kernel's table has the service of the API, 10.96.0.1:443.
		if table := in.read("cat", "/proc/net/ip_vs"); !strings.Contains(table, "TCP  0A600001:01BB ") {
			h.Errorf("IPVS of %s does not have the API's service:\n%s", host.Name, table)
		}
	}
}
