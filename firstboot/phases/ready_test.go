// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/status"
)

// TestReadyOfAnotherBoot has a node that is Ready from before: first boot waits until the kubelet
// of this boot says so, even when that one begins with not being Ready.
func TestReadyOfAnotherBoot(t *testing.T) {
	states := make(chan corev1.Node)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for {
			select {
			case n := <-states:
				if err := json.NewEncoder(w).Encode(map[string]any{"type": "MODIFIED", "object": n}); err != nil {
					return
				}
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				return
			}
		}
	}))
	defer server.Close()
	s, _ := endpointState(t, func(n *node.Node) { n.Role = node.Worker })
	conf := "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: k, cluster: {server: '" + server.URL +
		"'}}]\ncontexts: [{name: c, context: {cluster: k, user: u}}]\nusers: [{name: u, user: {}}]\n"
	if _, err := kubeadm.WriteFiles(s.Root, kubeadm.File{Path: kubeadm.Dir + "/" + kubeconfig.Kubelet, Mode: 0o600, Data: []byte(conf)}); err != nil {
		t.Fatal(err)
	}
	is := func(boot string, ready corev1.ConditionStatus) corev1.Node {
		n := corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: metav1.ObjectMeta{Name: s.Config.NodeName}}
		n.Status.NodeInfo.BootID = boot
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, Message: "the test says so"}}
		return n
	}
	done := make(chan error, 1)
	go func() { done <- awaitReady(t.Context(), s) }()
	for _, n := range []corev1.Node{is("another-boot", corev1.ConditionTrue), is(status.BootID(), corev1.ConditionFalse)} {
		states <- n
		select {
		case err := <-done:
			t.Fatalf("the node is not Ready in this boot, and was believed to be: %v", err)
		case <-time.After(300 * time.Millisecond):
		}
	}
	states <- is(status.BootID(), corev1.ConditionTrue)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
