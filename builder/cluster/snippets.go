// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
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
}

// quotes are parts of messages that may repeat values, which can be secret.
var (
	quotes   = regexp.MustCompile("`[^`]*`")
	yamlLine = regexp.MustCompile(`line (\d+)`)
)

// translate turns a Butane file into a config. What is wrong with it is reported with its
// own lines.
func (v *validator) translate(at, name string, data []byte) {
	problem := func(line, column int, path, message string) {
		v.extra = append(v.extra, strict.Problem{File: name, Line: max(line, 1), Column: max(column, 1), Path: path,
			Message: quotes.ReplaceAllString(message, "`...`")})
	}
	dir := filepath.Dir(name)
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(v.Dir, dir)
	}
	text, report, err := butane.TranslateBytes(data, common.TranslateBytesOptions{TranslateOptions: common.TranslateOptions{FilesDir: dir}, Raw: true})
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
			v.warn(at, fmt.Sprintf("%s:%d:%d: %s", name, line, column, quotes.ReplaceAllString(e.Message, "`...`")))
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
	if len(v.extra) > before {
		return
	}
	cfg, ignReport, err := v3_5.ParseCompatibleVersion(text)
	if err != nil || ignReport.IsFatal() {
		problem(1, 1, "", "makes an Ignition config that specification "+types.MaxVersion.String()+" does not allow; use version 1.6.0 of variant fcos or an older one")
		return
	}
	v.snippets[name].config = cfg
	for _, path := range reserved(cfg) {
		line, column := placeOf(data, path)
		problem(line, column, "", "writes "+path+", which is written from cluster.yaml; leave it out")
	}
}

// reserved returns the paths at which a config has something in the place of what Render
// writes.
func reserved(cfg types.Config) (paths []string) {
	check := func(path string) {
		if path == node.Path || strings.HasPrefix(path, kubeadm.PKIDir+"/") {
			paths = append(paths, path)
		}
	}
	for _, f := range cfg.Storage.Files {
		check(f.Path)
	}
	for _, l := range cfg.Storage.Links {
		check(l.Path)
	}
	for _, d := range cfg.Storage.Directories {
		check(d.Path)
	}
	return paths
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
