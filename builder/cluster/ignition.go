// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/coreos/ignition/v2/config/v3_5"
	"github.com/coreos/ignition/v2/config/v3_5/types"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/firstboot/ignition"
	"github.com/imgbuild/imgbuild/firstboot/node"
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
		// Check found those that do not depend on certificates, with their lines.
		if found := s.snippets[name].conflicts(files); len(found) > 0 {
			return nil, fault.New(fault.Config, "correct the snippet", "%s: %s", s.named(name), found[0].message)
		}
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
