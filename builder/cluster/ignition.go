// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/coreos/ignition/v2/config/v3_5"
	"github.com/coreos/ignition/v2/config/v3_5/types"

	"github.com/imgbuild/imgbuild/firstboot/ignition"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// file is a file on a host.
type file struct {
	path string
	mode int
	data []byte
	// link, when set, makes it a symbolic link to there.
	link string
}

// String names the file and never its content.
func (f file) String() string { return f.path }

// GoString is String.
func (f file) GoString() string { return f.path }

// config makes an Ignition config of the newest stable specification: our own files, and
// then the user's snippets, from the cluster's to the host's.
func (s *Source) config(files []file, snippets []string) ([]byte, error) {
	cfg := types.Config{Ignition: types.Ignition{Version: types.MaxVersion.String()}}
	yes := true
	for _, f := range files {
		n := types.Node{Path: f.path, Overwrite: &yes}
		if f.link != "" {
			target := f.link
			cfg.Storage.Links = append(cfg.Storage.Links, types.Link{Node: n, LinkEmbedded1: types.LinkEmbedded1{Target: &target}})
			continue
		}
		mode := f.mode
		cfg.Storage.Files = append(cfg.Storage.Files, types.File{Node: n, FileEmbedded1: types.FileEmbedded1{Mode: &mode, Contents: ignition.Contents(f.data)}})
	}
	for _, name := range snippets {
		cfg = v3_5.Merge(cfg, s.snippets[name].config)
	}
	text, problem, err := validated(cfg)
	if err != nil || problem == "" {
		return text, err
	}
	if len(snippets) == 0 {
		return nil, errors.New("the Ignition config is invalid: " + problem)
	}
	// The last one is to blame unless it was wrong before.
	last := len(snippets) - 1
	if _, err := s.config(files, snippets[:last]); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("the snippet %s does not go together with the rest of the config: %s", snippets[last], problem)
}

// validated encodes a config and lets Ignition itself judge it.
func validated(cfg types.Config) (text []byte, problem string, err error) {
	text, err = json.Marshal(cfg)
	if err != nil {
		return nil, "", errors.New("the Ignition config cannot be encoded") // the cause could quote a secret
	}
	_, report, err := v3_5.Parse(text)
	if err == nil && !report.IsFatal() {
		return append(text, '\n'), "", nil
	}
	var lines []string
	for _, e := range report.Entries {
		if e.Kind.IsFatal() {
			lines = append(lines, fmt.Sprintf("%s: %s", e.Context, e.Message))
		}
	}
	return nil, cmp.Or(strings.Join(lines, "; "), "it is not what the specification allows"), nil
}

// hostFiles returns what a host is given, its node document first. Keys are files of the
// authorities and certificates that the host gets.
func (s *Source) hostFiles(h *Host, m *material, keys []file) ([]file, error) {
	document, err := encode(s.document(h, m))
	if err != nil {
		return nil, err
	}
	files := append([]file{
		{path: node.Path, mode: 0o600, data: document},
		{path: "/etc/hostname", mode: 0o644, data: []byte(h.Name + "\n")},
	}, s.commonFiles(h.Role)...)
	return append(append(files, networkFiles(h)...), keys...), nil
}

// commonFiles are those that all hosts of a role have.
func (s *Source) commonFiles(role node.Role) []file {
	c := s.Cluster
	files := []file{{path: "/etc/hosts", mode: 0o644, data: c.hostsFile()}}
	if len(c.TimeServers) > 0 {
		conf := &section{name: "Time"}
		conf.set("NTP", strings.Join(c.TimeServers, " "))
		files = append(files, file{path: "/etc/systemd/timesyncd.conf.d/10-imgbuild.conf", mode: 0o644, data: append(unit(conf), "FallbackNTP=\n"...)})
	}
	files = append(files, s.registryFiles()...)
	if role == node.ControlPlane {
		for i, name := range c.PodNetwork.Manifests {
			files = append(files, file{path: manifestPath(i, name), mode: 0o600, data: s.files[name]})
		}
	}
	return files
}

// hostsFile names every host with a known address, and the endpoint where it is not a matter
// of DNS.
func (c *Cluster) hostsFile() []byte {
	var b bytes.Buffer
	b.WriteString("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")
	switch e := c.Endpoint; {
	case e.Mode == node.EndpointLocal:
		fmt.Fprintf(&b, "127.0.0.1 %s\n", c.EndpointHost())
	case e.Mode == node.EndpointVIP && e.Name != "":
		fmt.Fprintf(&b, "%s %s\n", c.VIP.Address, e.Name)
	}
	for _, h := range c.Hosts {
		if h.Address != "" {
			fmt.Fprintf(&b, "%s %s\n", h.Address, h.Name)
		}
	}
	return b.Bytes()
}

// trial makes the config of a host with stand-ins for its secrets, about as large as those.
func (v *validator) trial(h *Host) ([]byte, error) {
	m := v.standIns()
	if v.c.PKI.Mode == node.PKIGenerate {
		m.pins, m.adminKey = nil, "-----BEGIN PUBLIC KEY-----\n"+strings.Repeat(m.certificateKey.Reveal(), 2)
	}
	files, err := v.hostFiles(h, &m, v.c.standInKeys(h))
	if err != nil {
		return nil, err
	}
	return v.config(files, v.c.snippetsOf(h))
}

// standInKeys are files like those that a host is given of authorities and certificates.
func (c *Cluster) standInKeys(h *Host) (keys []file) {
	// Sizes are those of PEM text. A third of a certificate is what all have.
	const certificate, common = 700, 240
	const wrapping = "apiVersion clusters certificate-authority-data contexts current-context kind users client-certificate-data client-key-data"
	random := rand.NewChaCha8([32]byte{}) // the same each time
	encode := func(data []byte) string { return base64.StdEncoding.EncodeToString(data) }
	private := func(size int) string {
		data := make([]byte, size*3/4)
		_, _ = random.Read(data) // never fails
		return encode(data)
	}
	shared := private(common)
	public := func() string { return shared + private(certificate-common) }
	add := func(name string, text ...string) {
		keys = append(keys, file{path: kubeadm.PKIDir + "/" + name, data: []byte(strings.Join(text, ""))})
	}
	mode, controlPlane, key := c.PKI.Mode, h.Role == node.ControlPlane, c.keySize()
	if mode == node.PKIGenerate || mode == node.PKIShared && !controlPlane {
		return nil
	}
	for _, s := range pki.Specs(&kubeadm.Config{}) {
		if !controlPlane && s.Name != pki.CA || mode == node.PKIShared && !s.IsCA() {
			continue
		}
		add(s.Name+".crt", public())
		if !s.IsCA() || mode == node.PKIShared {
			add(s.Name+".key", private(key))
		}
	}
	if controlPlane {
		add(pki.ServiceAccount+".key", private(key))
	}
	if mode == node.PKIShared {
		return keys
	}
	for _, name := range slices.Sorted(maps.Keys(pki.Users(h.Name))) {
		switch {
		case name == kubeconfig.Kubelet: // its certificate is a file of its own
			add(name, wrapping, encode([]byte(public())))
			add("kubelet.pem", public(), private(key))
		case controlPlane:
			add(name, wrapping, encode([]byte(public()+public()+private(key))))
		}
	}
	return keys
}

// keySize is about how many bytes a private key of the cluster's algorithm has as PEM text.
func (c *Cluster) keySize() int {
	switch c.PKI.Algorithm {
	case node.RSA2048:
		return 1700
	case node.RSA3072:
		return 2500
	case node.RSA4096:
		return 3300
	}
	return 240
}
