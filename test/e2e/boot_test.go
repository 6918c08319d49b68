// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"

	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
	"github.com/imgbuild/imgbuild/firstboot/status"
	"github.com/imgbuild/imgbuild/test/e2e/probe/report"
)

// components run as pods on a control plane, by their label.
var components = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kube-dns", "flannel"}

// writableBelow lists where writable file systems are mounted, by design: kernel and run-time
// file systems, the state partition, and the overlay that has its upper layer there.
var writableBelow = []string{"/dev", "/proc", "/sys", "/run", "/tmp", "/var", "/etc"}

// TestBoot boots the image once, looks at everything, restarts it and looks again.
func TestBoot(t *testing.T) {
	e := need(t)
	g, result := e.boot(t, e.options(t))
	keepTimeline(t, e, "boot", result.Timeline.SVG())

	t.Run("pods", func(t *testing.T) { g.with(t).allPodsReady(components...) })
	t.Run("client", func(t *testing.T) { g.with(t).reachesAPI() })
	t.Run("exec", func(t *testing.T) { g.with(t).startProbe(t) })
	t.Run("root", func(t *testing.T) { g.with(t).sealedRoot() })
	t.Run("walk", func(t *testing.T) { g.with(t).nothingWritable() })
	t.Run("check", func(t *testing.T) { g.with(t).checks(node.ControlPlane) })
	t.Run("status", func(t *testing.T) { g.with(t).statusFile(status.Ready) })
	t.Run("reboot", func(t *testing.T) { g.with(t).reboots() })
}

// keepTimeline leaves the picture where a person finds it.
func keepTimeline(t *testing.T, e env, name string, svg []byte) {
	t.Helper()
	dir := filepath.Join(e.root, "out/test")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".svg"), svg, 0o644); err != nil {
		t.Fatal(err)
	}
}

// reachesAPI runs a pod that resolves kubernetes.default.svc and asks the API behind it; what
// it prints comes back through kubectl logs.
func (g *guest) reachesAPI() {
	config, pod := client()
	g.apply(config, pod)
	g.eventually("the client pod is done", 3*time.Minute, func() error {
		_, err := g.try("", "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/"+clientPod, "--timeout=20s")
		return err
	})
	logs := g.kubectl("logs", clientPod)
	var version struct{ GitVersion string }
	if err := json.Unmarshal([]byte(logs[strings.Index(logs, "{"):]), &version); err != nil || version.GitVersion == "" {
		g.Errorf("the API's version is not in the log: %v\n%s", err, logs)
	}
	var nodes core.NodeList
	if err := g.get(&nodes, "nodes"); err != nil || len(nodes.Items) != 1 || nodes.Items[0].Status.NodeInfo.KubeletVersion != version.GitVersion {
		g.Errorf("nodes do not run %s: %v %+v", version.GitVersion, err, nodes.Items)
	}
	g.kubectl("delete", "pod", clientPod, "--now")
}

// sealedRoot looks at the root file system from inside.
func (g *guest) sealedRoot() {
	var f report.Facts
	g.probeJSON(&f, "facts")
	var root *report.Mount
	for i, m := range f.Mounts {
		if m.Point == "/" {
			root = &f.Mounts[i]
		}
		if !m.Writable() {
			continue
		}
		if !slices.ContainsFunc(writableBelow, func(dir string) bool { return m.Point == dir || strings.HasPrefix(m.Point, dir+"/") }) {
			g.Errorf("%s (%s on %s) is writable", m.Point, m.Type, m.Source)
		}
	}
	if root == nil {
		g.Fatal("nothing is mounted on /")
	}
	if root.Type != "erofs" || root.Writable() {
		g.Errorf("/ is %s with options %v", root.Type, root.Options)
	}
	dm := f.DeviceMapper[root.Device]
	if !strings.HasPrefix(dm.UUID, "CRYPT-VERITY-") || !dm.ReadOnly {
		g.Errorf("/ lies on %s %+v, not on a read-only verity device", root.Device, dm)
	}
	if !strings.Contains(f.CommandLine, "roothash=") {
		g.Errorf("no root hash on the command line %q", f.CommandLine)
	}
}

// nothingWritable tries to write to everything below / that is not another mount.
func (g *guest) nothingWritable() {
	var w report.Walk
	g.probeJSON(&w, "walk")
	g.Logf("%d files and %d directories tried, mounts at %v", w.Files, w.Directories, w.Mounts)
	if len(w.Writable) > 0 || len(w.Surprises) > 0 {
		g.Errorf("writable: %v\nrefused for another reason than a read-only file system: %v", w.Writable, w.Surprises)
	}
	if w.Files < 1000 {
		g.Errorf("only %d files seen", w.Files)
	}
	for _, m := range w.Mounts {
		if !slices.ContainsFunc(writableBelow, func(dir string) bool { return m == dir || strings.HasPrefix(m, dir+"/") }) && m != "/boot" && m != "/efi" {
			g.Errorf("a file system is mounted at %s", m)
		}
	}
}

// identity is what a restart must not change.
func (g *guest) identity() (journal, pki string) {
	g.Helper()
	journal, err := g.probeCommand("cat", phase.JournalPath)
	if err != nil {
		g.Fatal(err)
	}
	pki, err = g.probeCommand("sums", "/etc/kubernetes", "/var/lib/kubelet/pki")
	if err != nil {
		g.Fatal(err)
	}
	return journal, pki
}

// runs lists the phases a journal says were run rather than found done.
func runs(t *testing.T, journal string) map[string]int {
	t.Helper()
	entries, whole, err := phase.ParseJournal([]byte(journal))
	if err != nil || whole != len(journal) {
		t.Fatalf("journal: %v, %d of %d bytes", err, whole, len(journal))
	}
	out := map[string]int{}
	for _, e := range entries {
		if e.Event == phase.EventDone && !e.Checked {
			out[e.Phase]++
		}
	}
	return out
}

// reboots restarts the guest in order and expects the same node, nothing done again.
func (g *guest) reboots() {
	var before, after report.Facts
	g.probeJSON(&before, "facts")
	journal, pki := g.identity()
	uid := g.kubectl("get", "node", "-o", "jsonpath={.items[*].metadata.uid}")
	ctx, cancel := context.WithTimeout(g.Context(), bootTimeout)
	defer cancel()
	err := g.node.Reboot(ctx, func() error {
		// The way of the answer ends with the machine: Reboot sees whether it restarts.
		if _, err := g.probeCommand("exec", "/usr/bin/systemctl", "--no-block", "reboot"); err != nil {
			g.Logf("the request to restart was cut short: %v", err)
		}
		return nil
	})
	if err != nil {
		g.Fatal(err)
	}
	result, err := g.node.WaitReady(g.Context())
	if err != nil {
		g.Fatal(err)
	}
	g.Logf("Ready again in %s\n%s", result.Ready.D().Round(10*time.Millisecond), result.Timeline.Table())
	keepTimeline(g.T, g.env, "reboot", result.Timeline.SVG())
	g.allPodsReady(components...)
	g.eventually("the probe's pod runs again", 3*time.Minute, func() error {
		out, err := g.probeCommand("facts")
		if err == nil {
			err = json.Unmarshal([]byte(out), &after)
		}
		return err
	})
	if before.BootID == after.BootID {
		g.Error("the boot id has not changed: the machine did not restart")
	}
	journal2, pki2 := g.identity()
	if pki != pki2 {
		g.Errorf("files below /etc/kubernetes or the kubelet's certificates changed:\n%s\nbefore:\n%s", pki2, pki)
	}
	if journal != journal2 {
		g.Errorf("first boot did something again; it had run %v, now %v", runs(g.T, journal), runs(g.T, journal2))
	}
	if got := g.kubectl("get", "node", "-o", "jsonpath={.items[*].metadata.uid}"); got != uid {
		g.Errorf("the node object is another one: %s before, %s after", uid, got)
	}
	g.statusFile(status.Ready)
}
