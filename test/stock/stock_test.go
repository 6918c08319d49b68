// SPDX-License-Identifier: Apache-2.0

package stock

import (
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	ignition "github.com/coreos/ignition/v2/config/v3_5"
	"sigs.k8s.io/yaml"

	"github.com/imgbuild/imgbuild/builder/vm"
)

var address = netip.MustParseAddr("192.0.2.11")

func file(t *testing.T, g *vm.Guest, path string) vm.GuestFile {
	t.Helper()
	i := slices.IndexFunc(g.Files, func(f vm.GuestFile) bool { return f.Path == path })
	if i < 0 {
		t.Fatalf("there is no file %s", path)
	}
	return g.Files[i]
}

// TestGuest lets Ignition's own parser and the shell judge what machines are given.
func TestGuest(t *testing.T) {
	const token, key = "abcdef.0123456789abcdef", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	cases := map[string]struct {
		machine Machine
		script  []string // what the script has to say, in this order
		config  string   // a line of kubeadm's configuration
	}{
		"waits": {Machine{Name: "w-1"}, []string{"/run/stock/images/*.tar", "mark waiting", "exec agent"}, ""},
		"init": {Machine{Name: "cp-1", Address: address, Step: Init{Endpoint: "192.0.2.11:6443", Token: token, CertificateKey: key}},
			[]string{"images import", "kubeadm init", "--upload-certs", "mark " + InitMark}, "controlPlaneEndpoint: 192.0.2.11:6443"},
		"worker": {Machine{Name: "w-1", Address: address, Images: WorkerImages, DiskNumber: 2, Step: Join{Endpoint: "192.0.2.10:6443", Token: token, CAHashes: []string{"sha256:00"}}},
			[]string{"/run/stock/" + ProxyImage + " /run/stock/" + PauseImage, "kubeadm join", "mark " + JoinMark}, "    apiServerEndpoint: 192.0.2.10:6443"},
		"control plane": {Machine{Name: "cp-2", Address: address, PodRange: netip.MustParsePrefix("10.244.7.0/24"),
			Network: &Network{Bits: 24, Gateway: netip.MustParseAddr("192.0.2.1"), Routes: map[netip.Prefix]netip.Addr{netip.MustParsePrefix("10.244.8.0/24"): netip.MustParseAddr("192.0.2.12")}},
			Step:    Join{Endpoint: "192.0.2.10:6443", Token: token, ControlPlane: true, CertificateKey: key}},
			[]string{"kubeadm join"}, "  certificateKey: " + key},
		"slow": {Machine{Name: "cp-2", Address: address, Step: Join{Endpoint: "192.0.2.10:6443", Token: token, ControlPlane: true, CertificateKey: key, Resumes: 2}},
			[]string{"kubeadm join", " || ", "kubeadm join", "--skip-phases=preflight,", " || ", "kubeadm join", "kubelet-start\nmark " + JoinMark}, "  certificateKey: " + key},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			g, err := c.machine.Guest()
			if err != nil {
				t.Fatal(err)
			}
			config, err := g.Ignition()
			if err != nil {
				t.Fatal(err)
			}
			cfg, report, err := ignition.Parse(config)
			if err != nil || report.IsFatal() || len(cfg.Systemd.Units) != 2 {
				t.Fatalf("%v %d units\n%s", err, len(cfg.Systemd.Units), report)
			}
			for _, f := range g.Files {
				if strings.Contains(string(f.Data), "@") {
					t.Errorf("%s has a placeholder left:\n%s", f.Path, f.Data)
				}
				if f.Mode&0o077 != 0 && (strings.Contains(string(f.Data), token) || strings.Contains(string(f.Data), key)) {
					t.Errorf("%s has a secret and mode %o", f.Path, f.Mode)
				}
				if f.Path == "/etc/imgbuild/node.yaml" {
					t.Error("a stock machine has a node document")
				}
			}
			script := string(file(t, g, "/etc/stock/run.sh").Data)
			rest := script
			for _, want := range c.script {
				_, after, ok := strings.Cut(rest, want)
				if !ok {
					t.Errorf("%q does not follow in\n%s", want, script)
				}
				rest = after
			}
			check := exec.Command("sh", "-n")
			check.Stdin = strings.NewReader(script)
			if out, err := check.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			if c.config != "" {
				if text := string(file(t, g, configPath).Data); !slices.Contains(strings.Split(text, "\n"), c.config) {
					t.Errorf("no line %q in\n%s", c.config, text)
				}
			}
			for _, u := range g.Units {
				if want := "virtio-imgbuild" + string('0'+rune(max(1, c.machine.DiskNumber))); strings.HasSuffix(u.Name, ".mount") && !strings.Contains(u.Contents, want+"\n") {
					t.Errorf("%s does not mount %s", u.Name, want)
				}
			}
			if c.machine.Network != nil {
				text := string(file(t, g, "/etc/systemd/network/10-uplink.network").Data)
				for _, want := range []string{"Address=192.0.2.11/24\n", "Gateway=192.0.2.1\n", "Destination=10.244.8.0/24\nGateway=192.0.2.12\n"} {
					if !strings.Contains(text, want) {
						t.Errorf("%q is not in\n%s", want, text)
					}
				}
				if text := string(file(t, g, "/etc/cni/net.d/10-bridge.conflist").Data); !strings.Contains(text, `"10.244.7.0/24"`) {
					t.Error(text)
				}
			}
		})
	}
}

// TestStepConfig decodes what kubeadm is given, document by document.
func TestStepConfig(t *testing.T) {
	for want, s := range map[string]Step{"InitConfiguration ClusterConfiguration": Init{}, "JoinConfiguration": Join{Endpoint: "192.0.2.10:6443"}} {
		text, err := s.config("n", netip.Addr{})
		if err != nil {
			t.Fatal(err)
		}
		var kinds []string
		for _, doc := range strings.Split(string(text), "---\n") {
			var d struct {
				APIVersion, Kind string
				Timeouts         map[string]string
				LocalAPIEndpoint any
			}
			if err := yaml.Unmarshal([]byte(doc), &d); err != nil {
				t.Fatal(err)
			}
			if d.APIVersion != kubeadmAPI || d.Kind != "ClusterConfiguration" && d.Timeouts["discovery"] != "15m0s" || d.LocalAPIEndpoint != nil {
				t.Errorf("%+v", d)
			}
			kinds = append(kinds, d.Kind)
		}
		if got := strings.Join(kinds, " "); got != want {
			t.Errorf("documents %s, want %s", got, want)
		}
	}
}
