// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	clientcmd "k8s.io/client-go/tools/clientcmd/api/v1"
	"sigs.k8s.io/yaml"

	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/status"
)

// TestExpired switches a control plane off for longer than its certificates last. Nobody logs in
// to make new ones: it has to come back by itself.
func TestExpired(t *testing.T) {
	e := needLong(t)
	o := e.options(t)
	o.Spec.Dir = t.TempDir()
	g, _ := e.boot(t, o)
	g.allPodsReady(components...)
	g.kubectl("create", "configmap", "before", "--from-literal=a=b")
	g.node.Machine.Stop()
	g.node.Close()

	o.Spec.Clock = time.Now().AddDate(1, 1, 0)
	g, result := e.boot(t, o)
	t.Logf("Ready %s after it was switched on again at %s", result.Ready.D().Round(time.Second), o.Spec.Clock.Format(time.DateOnly))
	g.trustAnyServer()
	var n core.Node
	if err := g.get(&n, "node", "cp-1"); err != nil {
		t.Fatal(err)
	}
	for _, c := range n.Status.Conditions {
		if c.Type == core.NodeReady && (c.Status != core.ConditionTrue || c.LastHeartbeatTime.Time.Before(o.Spec.Clock)) {
			t.Errorf("Ready is %s, said at %s", c.Status, c.LastHeartbeatTime)
		}
	}
	if got := g.kubectl("get", "configmap", "before", "-o", "jsonpath={.data.a}"); got != "b" {
		t.Errorf("what was written before reads %q", got)
	}
	g.allPodsReady(components...)
	g.startProbe(t)
	g.checks(node.ControlPlane)
	g.statusFile(status.Ready)
	g.eventually("no certificate has expired", 5*time.Minute, func() error {
		out, err := g.probeCommand("exec", "/usr/bin/firstboot", "status")
		if err == nil && (!strings.Contains(out, "CERTIFICATE") || strings.Contains(out, "expired")) {
			err = fmt.Errorf("firstboot status says:\n%s", out)
		}
		return err
	})
}

// trustAnyServer makes kubectl, which knows no clock but the host's, take certificates of a
// machine that lives in the future.
func (g *guest) trustAnyServer() {
	g.Helper()
	var cfg clientcmd.Config
	if err := yaml.Unmarshal(read(g.T, g.kubeconfig), &cfg); err != nil {
		g.Fatal(err)
	}
	cfg.Clusters[0].Cluster.CertificateAuthorityData, cfg.Clusters[0].Cluster.InsecureSkipTLSVerify = nil, true
	text, err := yaml.Marshal(cfg)
	if err != nil {
		g.Fatal(err)
	}
	write(g.T, g.kubeconfig, text)
}
