// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	butane "github.com/coreos/butane/config"
	"github.com/coreos/butane/config/common"
	"github.com/coreos/ignition/v2/config/v3_5"
	"github.com/coreos/ignition/v2/config/v3_5/types"
	"go.yaml.in/yaml/v3"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/strict"
)

// snippet is one Butane file as the Ignition config that it stands for.
type snippet struct{ config types.Config }

// snippetsOf returns the names of a host's snippets, the most general first.
func (c *Cluster) snippetsOf(h *Host) []string {
	return slices.Concat(c.Butane, c.role(h).Butane, h.Butane)
}

func (v *validator) butane() {
	lists := map[string][]string{"butane": v.c.Butane, "roles.controlPlane.butane": v.c.Roles.ControlPlane.Butane, "roles.worker.butane": v.c.Roles.Worker.Butane}
	for i, h := range v.c.Hosts {
		lists[fmt.Sprintf("hosts[%d].butane", i)] = h.Butane
	}
	for at, names := range lists {
		for i, name := range names {
			path := fmt.Sprintf("%s[%d]", at, i)
			if name == "" {
				v.fail(path, "is empty", "the name of a Butane file")
				continue
			}
			if data := v.attach(path, name); data != nil && v.snippets[name] == nil {
				v.translate(path, name, data)
			}
		}
	}
	v.conflicts()
}

// conflicts reports what snippets put in the place of what is not theirs, each once.
func (v *validator) conflicts() {
	hosts := slices.Clone(v.c.Hosts)
	for _, role := range []node.Role{node.ControlPlane, node.Worker} { // the next host may have it
		hosts = append(hosts, Host{Name: "stand-in", Role: role, Network: merged(v.c.HostNetwork, HostNetwork{})})
	}
	said := map[strict.Problem]bool{}
	for i := range hosts {
		m := v.standIns()
		files, err := v.hostFiles(&hosts[i], &m, v.c.standInKeys(&hosts[i]))
		if err != nil {
			continue // which documents report
		}
		for _, name := range v.c.snippetsOf(&hosts[i]) {
			if v.snippets[name] == nil {
				continue
			}
			for _, c := range v.snippets[name].conflicts(files) {
				line, column := placeOf(v.files[name], c.value)
				p := strict.Problem{File: v.named(name), Line: line, Column: column, Message: c.message}
				if !said[p] {
					said[p], v.extra = true, append(v.extra, p)
				}
			}
		}
	}
}

var (
	// quotes are parts of messages that may repeat values, which can be secret, and backticks.
	quotes   = regexp.MustCompile("(?s)`.*`|`.*")
	yamlLine = regexp.MustCompile(`line (\d+)`)
)

func masked(message string) string { return quotes.ReplaceAllString(message, "`...`") }

// translate turns a Butane file into a config. What is wrong with it is reported with its
// own lines.
func (v *validator) translate(at, name string, data []byte) {
	problem := func(line, column int, path, message string) {
		v.extra = append(v.extra, strict.Problem{File: v.named(name), Line: max(line, 1), Column: max(column, 1), Path: path, Message: masked(message)})
	}
	text, report, err := butane.TranslateBytes(data, common.TranslateBytesOptions{TranslateOptions: common.TranslateOptions{FilesDir: filepath.Dir(v.named(name))}, Raw: true})
	before := len(v.extra)
	for _, e := range report.Entries {
		line, column := 1, 1
		if p := e.Marker.StartP; p != nil {
			line, column = int(p.Line), int(p.Column)
		}
		// An unknown key is a mistake here as everywhere.
		if e.Kind.IsFatal() || strings.HasPrefix(strings.ToLower(e.Message), "unused key") {
			problem(line, column, strings.TrimPrefix(e.Context.String(), "$."), e.Message)
		} else {
			v.warn(at, fmt.Sprintf("%s:%d:%d: %s", v.named(name), line, column, masked(e.Message)))
		}
	}
	v.snippets[name] = &snippet{}
	if err != nil && len(v.extra) == before {
		line := 1
		if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
			line, _ = strconv.Atoi(m[1])
		}
		message := err.Error()
		if errors.As(err, new(common.ErrUnknownVersion)) || errors.Is(err, common.ErrNoVariant) {
			message += "; a snippet begins with 'variant: fcos' and 'version: 1.6.0'"
		}
		problem(line, 1, "", "is not a Butane config: "+message)
	}
	if line := secondDocument(data); line > 0 {
		problem(line, 1, "", "begins a second document, and Butane reads the first alone; use a file for each")
	}
	if len(v.extra) > before {
		return
	}
	cfg, ignReport, err := v3_5.ParseCompatibleVersion(text)
	if err != nil || ignReport.IsFatal() {
		problem(1, 1, "", "makes an Ignition config that specification "+types.MaxVersion.String()+" does not allow; use version 1.6.0 of variant fcos or an older one")
		return
	}
	v.snippets[name].config = cfg
}

// named is a file that cluster.yaml names, as whoever reads about it opens it.
func (s *Source) named(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(s.Dir, name)
}

// secondDocument returns the line at which a YAML text has another document with something in
// it, or 0.
func secondDocument(text []byte) int {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	for i := 0; ; i++ {
		var n yaml.Node
		if dec.Decode(&n) != nil {
			return 0 // its end, or what was reported
		}
		if i > 0 && len(n.Content) > 0 && n.Content[0].Tag != "!!null" {
			return n.Content[0].Line
		}
	}
}

// imageUnits are the image's own. Drop-ins change them; without one of them, or with another in
// its place, a machine does not become a node.
var imageUnits = []string{"containerd.service", "firstboot-cni.path", "firstboot-cni.service", "firstboot-follow.service", "firstboot-follow.timer",
	"firstboot-renew.service", "firstboot-renew.timer", "firstboot-report.service", "firstboot.service", "haproxy.service", "imgbuild-growfs.service",
	"imgbuild-late.target", "imgbuild-late.timer", "keepalived.service", "kubelet.service", "vip-health.service"}

// unitDir is where Ignition writes units.
const unitDir = "/etc/systemd/system"

// conflict is something that a snippet must not have, and the value in it that says so.
type conflict struct{ value, message string }

// conflicts returns what of a snippet would take the place of files that Render writes, or of
// what the image is made of.
func (s *snippet) conflicts(own []file) (out []conflict) {
	taken := map[string]bool{node.Path: true, kubeadm.PKIDir: true}
	for _, f := range own {
		taken[f.path] = true
	}
	writes := func(at string) {
		add := func(format string, args ...any) { out = append(out, conflict{at, fmt.Sprintf(format, args...)}) }
		clean := path.Clean(at)
		top, _, _ := strings.Cut(strings.TrimPrefix(clean, "/"), "/")
		switch {
		case taken[clean] || strings.HasPrefix(clean, kubeadm.PKIDir+"/"):
			add("writes %s, which is written from cluster.yaml; leave it out", at)
		case slices.Contains([]string{"usr", "bin", "sbin", "lib", "lib64"}, top):
			add("writes %s, and /usr is sealed; choose a place below /etc, /opt or /var", at)
		case path.Dir(clean) == unitDir && slices.Contains(imageUnits, path.Base(clean)):
			add("writes %s in the place of the image's own unit; change that with a drop-in", at)
		}
	}
	c := s.config
	for _, f := range c.Storage.Files {
		if f.Path != "/etc/hosts" || !appends(f) {
			writes(f.Path)
		}
	}
	for _, l := range c.Storage.Links {
		writes(l.Path)
	}
	for _, d := range c.Storage.Directories {
		if path.Clean(d.Path) != kubeadm.PKIDir {
			writes(d.Path)
		}
	}
	for _, u := range c.Systemd.Units {
		off := u.Mask != nil && *u.Mask || u.Enabled != nil && !*u.Enabled || u.Contents != nil && *u.Contents != ""
		if off && slices.Contains(imageUnits, u.Name) {
			out = append(out, conflict{u.Name, "masks, disables or replaces the image's own " + u.Name + "; change it with a drop-in"})
		}
	}
	if from := c.Ignition.Config.Replace.Source; from != nil {
		out = append(out, conflict{*from, "replaces the config, and with it all that is written from cluster.yaml; use ignition.config.merge"})
	}
	return out
}

// appends says whether a file only adds to what is there.
func appends(f types.File) bool {
	return len(f.Append) > 0 && f.Contents.Source == nil && f.Mode == nil && f.User == (types.NodeUser{}) && f.Group == (types.NodeGroup{})
}

// placeOf returns where a YAML text first has a value; its beginning when it has it nowhere,
// as with files that come from a directory (storage.trees).
func placeOf(text []byte, value string) (line, column int) {
	var root yaml.Node
	if yaml.Unmarshal(text, &root) != nil {
		return 1, 1
	}
	nodes := []*yaml.Node{&root}
	for len(nodes) > 0 {
		n := nodes[0]
		if n.Kind == yaml.ScalarNode && n.Value == value {
			return n.Line, n.Column
		}
		nodes = append(slices.Clone(n.Content), nodes[1:]...)
	}
	return 1, 1
}
