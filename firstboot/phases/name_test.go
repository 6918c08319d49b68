// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"cmp"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// nodeOf is a node as its kubelet reports it.
func nodeOf(name, machineID, uuid string, ready corev1.ConditionStatus) *corev1.Node {
	return &corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{MachineID: machineID, SystemUUID: uuid},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}}}
}

// deliverKubelet gives a worker what it logs in with.
func deliverKubelet(t *testing.T, s *State, ca []kubeadm.File) {
	t.Helper()
	if _, err := kubeadm.WriteFiles(s.Root, ca...); err != nil {
		t.Fatal(err)
	}
	pair, err := s.authority()
	if err == nil {
		err = s.kubeletCredentials(pair)
	}
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Readlink(s.path(kubeadm.KubeletPEM))
	if err != nil {
		t.Fatal(err)
	}
	conf, err := kubeconfig.Encode(kubeconfig.Kubelet, kubeconfig.New("kubernetes", s.Config.EndpointURL(), "system:node:"+s.Config.NodeName, pair.CertPEM(), clientAuth(s.path(file))))
	if err == nil {
		_, err = kubeadm.WriteFiles(s.Root, conf)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A worker does not take the name of a node that is Ready and another machine: two kubelets would
// be one node. It may have been one itself, or its place.
func TestWorkerWithATakenName(t *testing.T) {
	const own, others = "8e2b4b4c-0d0c-4c5f-9c52-0b8a3f4a1b2c", "11111111-2222-3333-4444-555555555555"
	const machineID = "0123456789abcdef0123456789abcdef"
	ca := authorities(t)
	for name, tc := range map[string]struct {
		uuid    string // of this machine
		node    *corev1.Node
		refused bool
	}{
		"a new name":                         {own, nil, false},
		"another name is taken":              {own, nodeOf("w-2", "1", others, corev1.ConditionTrue), false},
		"taken by another machine":           {own, nodeOf("w-1", "1", others, corev1.ConditionTrue), true},
		"taken, and this machine has none":   {"", nodeOf("w-1", "1", others, corev1.ConditionTrue), true},
		"taken by one that is off":           {own, nodeOf("w-1", "1", others, corev1.ConditionUnknown), false},
		"taken by one that has not reported": {own, nodeOf("w-1", "1", "", corev1.ConditionFalse), false},
		"its own, of before it was reset":    {"", nodeOf("w-1", "1", machineID, corev1.ConditionTrue), false},
		"its own, of before it was wiped":    {own, nodeOf("w-1", "1", strings.ToUpper(own), corev1.ConditionTrue), false},
	} {
		for _, delivered := range []bool{false, true} {
			a := serveAPI(t, ca)
			a.nodes = map[string]*corev1.Node{}
			if tc.node != nil {
				a.nodes[tc.node.Name] = tc.node
			}
			s := joiner(t, a, "w-1")
			if tc.refused {
				s.Node.Timeouts.Discovery = node.Duration(soon)
			}
			if delivered {
				s.Node.PKI.Mode, s.Config.PKIMode = node.PKIExternal, node.PKIExternal
				deliverKubelet(t, s, ca)
			}
			if _, err := kubeadm.WriteFiles(s.Root, kubeadm.File{Path: "/sys/class/dmi/id/product_uuid", Mode: 0o400, Data: []byte(tc.uuid + "\n")},
				kubeadm.File{Path: "/etc/machine-id", Mode: 0o444, Data: []byte(machineID + "\n")}); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			err := discover(t.Context(), s)
			if !tc.refused {
				if err != nil || (s.Found == nil) != delivered {
					t.Errorf("%s, with its certificate %v: found %v, %v", name, delivered, s.Found != nil, err)
				}
				continue
			}
			want := `no cluster to join: node w-1 is Ready and another machine (product UUID ` + others + `, this one has "` + cmp.Or(tc.uuid, machineID) + `"); give this machine another name`
			if err == nil || err.Error() != want || time.Since(began) < s.Node.Timeouts.Discovery.D() {
				t.Errorf("%s, with its certificate %v, after %s: %v, want %q", name, delivered, time.Since(began), err, want)
			}
		}
	}
}

// The other machine is switched off while this one waits.
func TestWorkerWhoseNameGetsFree(t *testing.T) {
	ca := authorities(t)
	a := serveAPI(t, ca)
	a.nodes = map[string]*corev1.Node{"w-1": nodeOf("w-1", "1", "11111111-2222-3333-4444-555555555555", corev1.ConditionTrue)}
	s := joiner(t, a, "w-1")
	time.AfterFunc(300*time.Millisecond, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.nodes["w-1"] = nodeOf("w-1", "1", "11111111-2222-3333-4444-555555555555", corev1.ConditionUnknown)
	})
	began := time.Now()
	if err := discover(t.Context(), s); err != nil || time.Since(began) < 300*time.Millisecond {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
}
