// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto"
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
	// before is the index of the last rendering, nil where it is lost or damaged, and was what
	// that one gave to hosts, never nil.
	before *Index
	was    *lastRendering
	// fresh says that the directory is not this cluster's yet, first that no rendering has made
	// all secrets.
	fresh, first bool
	secrets      *secrets
	// secretsAt is the place of SecretsFile in outputs.
	secretsAt int
	cas       *authorities
	// admin is the administrator's key where only the cluster can sign.
	admin    crypto.Signer
	pins     map[string]string
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
	own, c := *s, *s.Cluster // what the directory decides is decided for this rendering only
	own.Cluster = &c
	r := &renderer{Source: &own, Options: o, result: &Result{Dir: o.Dir, DryRun: o.DryRun, Cluster: c.Name, Warnings: slices.Clone(s.Warnings)},
		maker: &pki.Maker{Algorithm: c.PKI.Algorithm, CAValidity: c.PKI.CAValidity.D(), Validity: c.PKI.Validity.D(), Now: o.Now, Rand: o.Rand}}
	if !o.DryRun {
		release, err := claim(o.Dir)
		if err != nil {
			return nil, told(o.Dir, err)
		}
		defer release()
	}
	for _, step := range []func() error{r.keep, r.hosts, r.roles, r.kubeconfig, r.finish} {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		if err := step(); err != nil {
			return nil, told(o.Dir, err)
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
		Subnet: c.HostNetwork.Subnet, Gateway: c.HostNetwork.Gateway, DNS: c.resolvers()}
	if c.VIP.Provider != node.VIPNone {
		r.index.VIPProvider = c.VIP.Provider
	}
	for i := range c.Hosts {
		h := &c.Hosts[i]
		entry := IndexHost{Name: h.Name, Role: h.Role, Address: h.Address, DHCP: h.Network.Addressing == dhcp, MAC: uplinkMAC(h), VLAN: *h.Network.VLAN, Interfaces: c.needed(h),
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
		return nil, fault.New(fault.TooSmall, "put less into snippets, or "+pointing,
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
	r.secrets.Rendered = r.record()
	text, err := r.secrets.encode()
	if err != nil {
		return err
	}
	r.outputs[r.secretsAt].Data = text
	if err := r.foreign(); err != nil {
		return err
	}
	if err := errors.Join(r.misfits...); err != nil {
		return r.misfit(err)
	}
	if text, err = json.MarshalIndent(r.index, "", "  "); err != nil {
		return err
	}
	r.add("/"+IndexFile, 0o644, append(text, '\n'), "hosts, for programs")
	list, err := changes(r.Options.Dir, r.outputs)
	if err != nil {
		return err
	}
	r.result.Changes = append(list, r.removed()...)
	r.advise()
	if r.DryRun {
		return nil
	}
	return write(r.Options.Dir, r.outputs, r.result.Changes[len(list):])
}
