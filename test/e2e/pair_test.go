// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/vm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
	"github.com/imgbuild/imgbuild/firstboot/status"
)

// pairMemoryMiB is enough for a control plane with little to do, and lets two machines run where
// there is no more than 6 GiB.
const pairMemoryMiB = 2048

// callbackPort is the gateway's.
const callbackPort = 8443

// pair is the smallest cluster of several machines, and what its run produced.
type pair struct {
	*haCluster
	rendered *rendered
	receiver *receiver
	token    string
	nodes    map[string]*inside
}

// TestPair switches a control plane and a worker on at the same moment: what several machines
// have to do with each other, small enough for a host with two processors.
func TestPair(t *testing.T) {
	e := need(t)
	p := e.startPair(t)
	p.waitReady()
	for _, step := range []struct {
		name string
		run  func(*pair)
	}{
		{"nodes", func(p *pair) { p.allNodes() }},
		{"owner", func(p *pair) { p.owner() }},
		{"pods", func(p *pair) { p.podsTalk() }},
		{"callback", (*pair).calledBack},
		{"inside", (*pair).lookInside},
		{"secrets", (*pair).keptSecrets},
	} {
		t.Run(step.name, func(t *testing.T) {
			q := *p
			q.haCluster = p.haCluster.with(t)
			step.run(&q)
			p.nodes = q.nodes
		})
	}
}

func (e env) startPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{token: "callback-token-of-a-pair", nodes: map[string]*inside{}}
	// The starter's gateway, which is this process.
	gateway := netip.MustParseAddr("192.168.100.1")
	config, ca := serverTLS(t, gateway)
	p.receiver = newReceiver(p.token)
	p.rendered = e.render(t, rendering{controlPlanes: 1, workers: 1, probe: true,
		text: fmt.Sprintf("callback: {url: 'https://%s:%d/events', caFile: callback-ca.pem, tokenFile: callback-token}\n", gateway, callbackPort) +
			"registries:\n  - {host: registry.example.org, mirrors: [{url: 'https://mirror.example.org', credentialsFile: mirror-credentials}]}\n",
		attached: map[string]string{"callback-ca.pem": ca, "callback-token": p.token + "\n", "mirror-credentials": mirrorCredentials + "\n"}})
	run := e.startCluster(t, p.rendered.dir, p.rendered.index, func(o *vm.FleetOptions) {
		o.Machine.MemoryMiB, o.Machine.Disks = pairMemoryMiB, []string{e.probeDisk}
	})
	l, err := run.fleet.Gateway.Listen(callbackPort)
	if err != nil {
		t.Fatal(err)
	}
	p.receiver.serve(t, l, config)
	p.haCluster = newHA(t, run, p.rendered.index)
	return p
}

// calledBack expects that both machines told the callback everything.
func (p *pair) calledBack() {
	for _, h := range p.index.Hosts {
		p.receiver.told(&p.view, h.Name, h.Role)
	}
}

// lookInside checks both nodes as kubeadm would have left them.
func (p *pair) lookInside() {
	p.allPodsReady(components...)
	for _, h := range p.index.Hosts {
		in := p.enter(h.Name)
		p.nodes[h.Name] = in
		in.checks(h.Role)
		in.statusFile(status.Ready)
	}
}

// keptSecrets looks for every secret there is in everything the run produced.
func (p *pair) keptSecrets() {
	if len(p.nodes) != len(p.index.Hosts) {
		p.Fatal("the nodes cannot be looked at from inside")
	}
	_, posted := p.receiver.of(p.T, "")
	places := map[string]string{"imgbuild's output": p.rendered.said, "callback": posted}
	file := func(name, path string) { places[name] = string(read(p.T, path)) }
	file("cluster.json", filepath.Join(p.rendered.dir, "cluster.json"))
	r := p.fleet.Result()
	places["time line"] = string(r.Timeline.SVG()) + r.Timeline.Table()
	secrets := append(p.renderedSecrets(), plain("credentials of the mirror", mirrorCredentials))
	for name, in := range p.nodes {
		file("console of "+name, p.fleet.Member(name).Console())
		in = &inside{view: p.view, pod: in.pod}
		places["status of "+name] = in.read("cat", status.Path)
		places["first boot's journal of "+name] = in.read("cat", phase.JournalPath)
		places["system journal of "+name] = in.read("exec", "/usr/bin/journalctl", "--no-pager", "--all", "--output=export")
		secrets = append(secrets, in.madeSecrets(name)...)
	}
	// What anyone may read who may look at the cluster but not at its secrets.
	kinds := slices.DeleteFunc(strings.Fields(p.kubectl("api-resources", "--verbs=list", "-o", "name")), func(kind string) bool { return kind == "secrets" })
	places["objects"] = p.kubectl("get", strings.Join(kinds, ","), "-A", "-o", "yaml")
	for pod := range strings.Lines(p.kubectl("get", "pods", "-A", "--no-headers", "-o", "custom-columns=NS:.metadata.namespace,NAME:.metadata.name,RESTARTS:.status.containerStatuses[*].restartCount")) {
		f := strings.Fields(pod)
		places["log of "+f[1]] = f[1] + "\n" + p.kubectl("logs", "-n", f[0], f[1], "--all-containers")
		if strings.Trim(f[2], "0,") != "" {
			// A container that did not start again has no log before this one.
			before, _ := p.try("", "logs", "-n", f[0], f[1], "--all-containers", "--previous")
			places["log of "+f[1]] += before
		}
	}
	hidden(p.T, secrets, places)
}

// renderedSecrets are those in the rendered directory: keys, also those inside of configs, and
// what node documents hold.
func (p *pair) renderedSecrets() (out []secret) {
	known := map[string]bool{}
	add := func(s secret) {
		if !known[s.forms[0]] {
			known[s.forms[0]] = true
			out = append(out, s)
		}
	}
	err := filepath.WalkDir(p.rendered.dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == "run":
			return fs.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(p.rendered.dir, path)
		for _, s := range keysIn(name, text) {
			add(s)
		}
		if !strings.HasSuffix(name, ".ign") {
			return nil
		}
		document, err := node.FromIgnition(name, text)
		if err != nil {
			return err
		}
		n, err := node.Parse(name, document)
		if err != nil {
			return err
		}
		for i, value := range n.Secrets() {
			if value != "" {
				add(plain(fmt.Sprintf("%d of the document in %s", i, name), value))
			}
		}
		return nil
	})
	// Three authorities, the service accounts' key and the administrator's; the callback's
	// token, the bootstrap token and its half, the certificate key.
	if err != nil || len(out) < 9 {
		p.Fatalf("%d secrets in the rendered directory, %v", len(out), err)
	}
	if !known[plain("", p.token).forms[0]] {
		p.Error("the callback's token is not among the secrets")
	}
	return out
}

// madeSecrets are the keys that a node made for itself.
func (in *inside) madeSecrets(name string) (out []secret) {
	in.Helper()
	files := []string{"cat"}
	for line := range strings.Lines(in.read("sums", "/etc/kubernetes", "/var/lib/kubelet/pki")) {
		_, path, _ := strings.Cut(strings.TrimSpace(line), "  ")
		if ext := filepath.Ext(path); ext == ".key" || ext == ".pem" || ext == ".conf" {
			files = append(files, path)
		}
	}
	out = keysIn("key of "+name, []byte(in.read(files...)))
	if len(out) == 0 {
		in.Errorf("%s has no keys in %v", name, files)
	}
	return out
}
