// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
	"github.com/imgbuild/imgbuild/firstboot/strict"
)

// Options are those of Render.
type Options struct {
	// Dir is the directory to render into.
	Dir string
	// DryRun writes nothing.
	DryRun bool
	// Now is the moment certificates count from.
	Now time.Time
	// Rand yields secrets, serial numbers and signatures; nil means crypto/rand.
	Rand io.Reader
}

// Result says what Render did, or would do. It holds no secret.
type Result struct {
	Dir     string   `json:"dir"`
	DryRun  bool     `json:"dryRun"`
	Cluster string   `json:"cluster"`
	Changes []Change `json:"changes"`
	// Warnings are those of the cluster file.
	Warnings strict.Problems `json:"warnings,omitempty"`
	// Pending are requests of certificates that an external authority has to answer.
	Pending []string `json:"pending,omitempty"`
	// Next is what the user can do now.
	Next []string `json:"next,omitempty"`
}

// renderer is one rendering.
type renderer struct {
	*Source
	Options
	maker *pki.Maker
	// before is the index of the last rendering, nil where it is lost or damaged. Known are the
	// hosts that earlier renderings made configs for, nil when there was none.
	before *Index
	known  []string
	// fresh says that the directory is not this cluster's yet.
	fresh    bool
	secrets  *secrets
	cas      *authorities
	material *material
	// misfits are certificates of an external authority that cannot be used.
	misfits []error
	outputs []output
	index   *Index
	result  *Result
}

// Render brings a directory to what cluster.yaml says. Secrets and certificates that are
// there are kept; the same input twice changes nothing. An error leaves the directory as it
// was, or with a part of the files renewed: rendering again completes it.
func Render(ctx context.Context, s *Source, o Options) (*Result, error) {
	c := s.Cluster
	r := &renderer{Source: s, Options: o, result: &Result{Dir: o.Dir, DryRun: o.DryRun, Cluster: c.Name, Warnings: s.Warnings},
		maker: &pki.Maker{Algorithm: c.PKI.Algorithm, CAValidity: c.PKI.CAValidity.D(), Validity: c.PKI.Validity.D(), Now: o.Now, Rand: o.Rand}}
	if !o.DryRun {
		release, err := claim(o.Dir)
		if err != nil {
			return nil, err
		}
		defer release()
	}
	for _, step := range []func() error{r.keep, r.hosts, r.roles, r.kubeconfig, r.finish} {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		if err := step(); err != nil {
			return nil, err
		}
	}
	return r.result, nil
}

func (r *renderer) add(path string, mode os.FileMode, data []byte, subject string) *output {
	r.outputs = append(r.outputs, output{File: kubeadm.File{Path: path, Mode: mode, Data: data}, Subject: subject})
	return &r.outputs[len(r.outputs)-1]
}

// called names a host for people.
func called(h *Host) string { return strings.ReplaceAll(string(h.Role), "-", " ") + " " + h.Name }

// hosts makes the config of every host, and the index.
func (r *renderer) hosts() error {
	c := r.Cluster
	r.index = &Index{APIVersion: APIVersion, Kind: indexKind, Name: c.Name, KubernetesVersion: c.KubernetesVersion,
		EndpointMode: c.Endpoint.Mode, VIP: c.VIP.Address, APIPort: c.APIServer.Port, PKIMode: c.PKI.Mode,
		Subnet: c.HostNetwork.Subnet, Gateway: c.HostNetwork.Gateway}
	for i := range c.Hosts {
		h := &c.Hosts[i]
		entry := IndexHost{Name: h.Name, Role: h.Role, Address: h.Address, DHCP: h.Network.Addressing == dhcp, MAC: uplinkMAC(h), VLAN: *h.Network.VLAN,
			UUID: h.Match.UUID, Serial: h.Match.Serial, Platform: h.Platform, Founder: slices.Contains(r.secrets.Founders, h.Name)}
		keys, complete, err := r.keys(h)
		if err != nil {
			return err
		}
		if complete {
			entry.Ignition = "hosts/" + h.Name + ".ign"
			config, err := r.hostConfig(h, keys)
			if err != nil {
				return fmt.Errorf("%s: %w", called(h), err)
			}
			r.add("/"+entry.Ignition, 0o600, config, called(h)).describe = compareConfigs
		}
		r.index.Hosts = append(r.index.Hosts, entry)
	}
	r.index.Endpoint = r.document(&c.Hosts[0], r.material).Cluster.Endpoint
	return nil
}

// hostConfig makes the config of a host and holds what went into it against the limits of
// its platform once more, now with everything in it.
func (r *renderer) hostConfig(h *Host, keys []file) ([]byte, error) {
	files, err := r.hostFiles(h, r.material, keys)
	if err != nil {
		return nil, err
	}
	if _, err := node.Parse(h.Name, files[0].data); err != nil {
		return nil, err
	}
	config, err := r.config(files, r.Cluster.snippetsOf(h))
	if err != nil {
		return nil, err
	}
	if p := platforms[h.Platform]; p.limit > 0 && p.size(config) > p.limit {
		return nil, fault.New(fault.TooSmall, "put less into snippets, or let user data only point to the config",
			"%d bytes of user data, and platform %s takes %d", p.size(config), h.Platform, p.limit)
	}
	return config, nil
}

// keys returns the files of authorities and certificates that a host is given. Complete is
// false while an external authority has not signed all of them.
func (r *renderer) keys(h *Host) (files []file, complete bool, err error) {
	switch {
	case r.Cluster.PKI.Mode == node.PKIExternal:
		return r.external(h)
	case r.Cluster.PKI.Mode == node.PKIShared && h.Role == node.ControlPlane:
		files, err = r.cas.files(true)
	}
	return files, true, err
}

// finish compares, writes and summarizes. The index comes last: with it the rendering is
// complete.
func (r *renderer) finish() error {
	if err := errors.Join(r.misfits...); err != nil {
		return fault.Wrap(fault.Config, err, "sign their requests (.csr) again and put the certificates there")
	}
	text, err := json.MarshalIndent(r.index, "", "  ")
	if err != nil {
		return err
	}
	r.add("/"+IndexFile, 0o644, append(text, '\n'), "hosts, for programs")
	if err := r.foreign(); err != nil {
		return err
	}
	list, err := changes(r.Options.Dir, r.outputs)
	if err != nil {
		return err
	}
	removed, err := r.removed()
	if err != nil {
		return err
	}
	r.result.Changes = append(list, removed...)
	r.advise()
	if r.DryRun {
		return nil
	}
	return write(r.Options.Dir, r.outputs, removed)
}
