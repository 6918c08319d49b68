// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"strings"
	"testing"
)

func TestPortsOfOthers(t *testing.T) {
	for port, of := range map[int]string{2379: "etcd", 2380: "etcd", 2381: "etcd", 10248: "the kubelet", 10249: "kube-proxy", 10250: "the kubelet",
		10256: "kube-proxy", 10257: "kube-controller-manager", 10259: "kube-scheduler", 2112: "kube-vip", 6443: "", 443: "", 10251: ""} {
		text := clusterOf(fmt.Sprintf("endpoint: '192.0.2.9:%d'", port), "provider: kube-vip, address: 192.0.2.9, image: 'a/b"+someDigest+"'") + fmt.Sprintf("apiServer: {port: %d}\n", port)
		_, err := Parse("n", []byte(text))
		if of == "" && err != nil || of != "" && (err == nil || !strings.Contains(err.Error(), "apiServer.port: value \""+fmt.Sprint(port)+"\": is a port of "+of+" on")) {
			t.Errorf("%d: %v", port, err)
		}
	}
	if _, err := Parse("n", []byte(minimal+"apiServer: {port: 2112}")); err != nil {
		t.Errorf("without kube-vip: %v", err)
	}
}
