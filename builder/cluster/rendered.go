// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"cmp"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
	"github.com/imgbuild/imgbuild/firstboot/strict"
)

// lastRendering is what hosts were given that a running cluster keeps: one that is added later with
// anything else would not fit. It is kept with the founders, so that it outlives the index, and
// nothing in it is secret.
type lastRendering struct {
	// Settings by their keys in cluster.yaml.
	Settings map[string]string `yaml:"settings"`
	// Keys are the pins of public keys by the names of their files below pki.
	Keys map[string]string `yaml:"keys,omitempty"`
	// Hosts are those that a config was made for.
	Hosts []renderedHost `yaml:"hosts"`
}

type renderedHost struct {
	Name    string    `yaml:"name"`
	Role    node.Role `yaml:"role"`
	Address string    `yaml:"address,omitempty"`
}

// rules are the exceptions among settings: one without a rule may not change once a host has been
// rendered.
var rules = map[string]struct {
	// began: authorities that exist keep what they began with, so the record does too.
	began bool
	// operated: an operator can change it in a running cluster, a rendering cannot.
	operated bool
	// follows are the settings it is derived from where the file does not say it. Where one of
	// them differs, that one is reported.
	follows []string
}{
	"pki.algorithm":        {began: true},
	"pki.caValidity":       {began: true},
	"networking.proxyMode": {operated: true},
	"podNetwork.provider":  {operated: true},
	"vip.routerID":         {follows: []string{"vip.provider", "vip.address"}},
}

// settings returns what the documents of all hosts have in common.
func settings(n *node.Node) map[string]string {
	span := func(text string) string { // which may be written in several ways
		if p, err := netip.ParsePrefix(text); err == nil {
			return p.String()
		}
		return text
	}
	router := "" // who has another one elects an owner of its own
	if n.VIP.Provider == node.VIPKeepalived {
		router = strconv.Itoa(cmp.Or(n.VIP.RouterID, node.RouterID(n.VIP.Address)))
	}
	return map[string]string{
		"networking.podSubnet": span(n.Cluster.Networking.PodSubnet), "networking.serviceSubnet": span(n.Cluster.Networking.ServiceSubnet),
		"networking.dnsDomain": n.Cluster.Networking.DNSDomain, "networking.proxyMode": string(n.Cluster.ProxyMode), "podNetwork.provider": string(n.Network.Provider),
		"endpoint.mode": string(n.Cluster.EndpointMode), "endpoint": n.Cluster.Endpoint, "apiServer.port": strconv.Itoa(int(n.APIServer.Port)),
		"vip.provider": string(cmp.Or(n.VIP.Provider, node.VIPNone)), "vip.address": n.VIP.Address, "vip.routerID": router,
		"pki.mode": string(n.PKI.Mode), "pki.algorithm": string(n.PKI.Algorithm), "pki.caValidity": n.PKI.CAValidity.D().String(),
	}
}

// earlier makes the record of a directory in which a release that kept none rendered: from the
// configs that are there, and from the index. Hosts are none where no config was ever made.
func (r *renderer) earlier() *lastRendering {
	out := &lastRendering{Settings: map[string]string{}, Keys: map[string]string{}}
	if b := r.before; b != nil {
		out.Settings = map[string]string{"pki.mode": string(b.PKIMode), "endpoint.mode": string(b.EndpointMode), "endpoint": b.Endpoint,
			"apiServer.port": strconv.Itoa(b.APIPort), "vip.address": b.VIP}
		for _, h := range b.Hosts {
			if h.Ignition != "" {
				out.Hosts = append(out.Hosts, renderedHost{h.Name, h.Role, h.Address})
			}
		}
	}
	configs, _ := filepath.Glob(filepath.Join(r.Options.Dir, "hosts", "*.ign")) // the pattern is a good one
	for _, file := range configs {
		n := r.madeFor(file)
		if n == nil || n.Node.Name != strings.TrimSuffix(filepath.Base(file), ".ign") {
			continue
		}
		if !out.has(n.Node.Name) {
			out.Hosts = append(out.Hosts, renderedHost{n.Node.Name, n.Role, n.Node.Address})
		}
		if n.Role == node.ControlPlane {
			maps.Copy(out.Settings, settings(n))
			for _, pin := range n.Join.CACertHashes {
				out.Keys["ca.crt"] = pin
			}
		}
	}
	return out
}

// madeFor returns the document in a config that was rendered for this cluster, or nil.
func (r *renderer) madeFor(file string) *node.Node {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	n := documentIn(text)
	if n == nil || n.Cluster.Name != r.Cluster.Name || len(n.BootstrapTokens) == 0 || n.BootstrapTokens[0].Token != r.secrets.BootstrapToken {
		return nil
	}
	return n
}

func (w *lastRendering) host(name string) *renderedHost {
	i := slices.IndexFunc(w.Hosts, func(h renderedHost) bool { return h.Name == name })
	if i < 0 {
		return nil
	}
	return &w.Hosts[i]
}

func (w *lastRendering) has(name string) bool { return w.host(name) != nil }

// controlPlanes names those of the last rendering, never nil.
func (w *lastRendering) controlPlanes() []string {
	names := []string{}
	for _, h := range w.Hosts {
		if h.Role == node.ControlPlane {
			names = append(names, h.Name)
		}
	}
	return names
}

// settle holds cluster.yaml against what hosts were given. What the file leaves open stays as
// it was, where its default is another now; anything else that differs is refused, all at once.
// Before the first config there is nothing that could not change.
func (r *renderer) settle() error {
	if len(r.was.Hosts) == 0 {
		return nil
	}
	doc := strict.Decode(r.File, r.text, &Cluster{})
	r.keepEndpoint(doc)
	is := settings(r.document(&r.Cluster.Hosts[0], &material{}))
	differs := func(key string) bool { return r.was.Settings[key] != is[key] }
	for _, key := range slices.Sorted(maps.Keys(r.was.Settings)) {
		was, now, rule := cmp.Or(r.was.Settings[key], "none"), cmp.Or(is[key], "none"), rules[key]
		switch {
		case !differs(key) || !doc.Has(key) && slices.ContainsFunc(rule.follows, differs):
		case rule.began:
			if r.Cluster.PKI.Mode != node.PKIExternal {
				r.warn(key, "was "+was+" when hosts were rendered: authorities that exist keep what they have")
			}
		case rule.operated:
			r.warn(key, "was "+was+" when hosts were rendered: the cluster and the hosts that run keep it, and hosts that are added are made for "+now, "put it back, or change the cluster too")
		default:
			doc.Report(key, fmt.Sprintf("was %s when hosts were rendered, and is %s now", was, now))
		}
	}
	const first = "; first take the host out, render, and do what that says; then add it again"
	for i, h := range r.Cluster.Hosts {
		at, was := fmt.Sprintf("hosts[%d]", i), r.was.host(h.Name)
		switch {
		case was == nil:
		case was.Role != h.Role:
			doc.Report(at+".role", fmt.Sprintf("was %s when %s was rendered, and its machine stays that until it is wiped", was.Role, h.Name)+first)
		case h.Role == node.ControlPlane && was.Address != "" && h.Address != "" && was.Address != h.Address:
			doc.Report(at+".address", fmt.Sprintf("was %s when %s was rendered, where its etcd member and its certificates are", was.Address, h.Name)+first)
		}
	}
	return fault.Wrap(fault.Config, doc.Err(), "put back what it was, or render a new cluster into another directory: hosts that are added have to fit those that run")
}

// keepEndpoint takes from the last rendering what the file does not say of the endpoint: its
// default follows the number of control planes.
func (r *renderer) keepEndpoint(doc *strict.Document) {
	c, said := r.Cluster, r.written.Endpoint
	mode := node.EndpointMode(r.was.Settings["endpoint.mode"])
	host, text, err := net.SplitHostPort(r.was.Settings["endpoint"])
	port, notANumber := strconv.Atoi(text)
	if said.Mode != "" || c.VIP.Provider != node.VIPNone || mode != node.EndpointDirect && mode != node.EndpointLocal || err != nil || notANumber != nil {
		return
	}
	c.Endpoint.Mode = mode
	if said.Port == 0 {
		c.Endpoint.Port = port
	}
	if _, err := netip.ParseAddr(host); mode != node.EndpointDirect || said.Name != "" || err != nil {
		return
	}
	cps := c.ControlPlanes()
	i := slices.IndexFunc(cps, func(h Host) bool { return h.Address == host })
	if i < 0 {
		doc.Report("hosts", "has no control plane with the address "+host+", at which hosts that run look for the API")
		return
	}
	c.Endpoint.Name = host // no host looks it up
	if len(cps) > 1 {
		r.warn("endpoint", fmt.Sprintf("stays %s, the address of %s alone: it is not changed in a cluster that runs", r.was.Settings["endpoint"], cps[i].Name),
			"a new cluster with endpoint.name, vip or endpoint.mode local, where the API has to outlive "+cps[i].Name)
	}
}

// warn adds to the warnings of the file.
func (r *renderer) warn(path, message string, next ...string) {
	doc := strict.Decode(r.File, r.text, &Cluster{})
	doc.Report(path, message, next...)
	r.result.Warnings = append(r.result.Warnings, doc.Problems()...)
}

// initiator is who began the cluster, whatever the order of hosts is by now.
func (r *renderer) initiator() error {
	if r.Cluster.PKI.Mode != node.PKIGenerate {
		return nil
	}
	first := r.secrets.Founders[0]
	if said := r.written.PKI.Initiator; said != "" && said != first {
		doc := strict.Decode(r.File, r.text, &Cluster{})
		doc.Report("pki.initiator", "is not "+first+", which made the authorities: two that begin are two clusters", first)
		return fault.Wrap(fault.Config, doc.Err(), "leave pki.initiator out; once "+first+" is taken out of hosts, one that joined it takes its place")
	}
	r.Cluster.PKI.Initiator = first
	return nil
}

// pinned refuses authorities and keys that are others than those hosts were given. One that is
// not here is no other: with pki.mode generate taking it away is how the cluster's next
// authority is taken.
func (r *renderer) pinned() error {
	r.pins = map[string]string{}
	if r.Cluster.PKI.Mode == node.PKIExternal {
		maps.Copy(r.pins, r.was.Keys)
	}
	for name, pair := range r.cas.pairs {
		r.pins[name+".crt"] = pki.Pin(pair.Cert)
	}
	for name, key := range map[string]crypto.Signer{pki.ServiceAccount: r.cas.sa, adminName: r.admin} {
		if key == nil {
			continue
		}
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			return err
		}
		sum := sha256.Sum256(der)
		r.pins[name+".key"] = "sha256:" + hex.EncodeToString(sum[:])
	}
	var others []string
	if len(r.was.Hosts) > 0 {
		for _, name := range slices.Sorted(maps.Keys(r.pins)) {
			if was := r.was.Keys[name]; was != "" && was != r.pins[name] {
				others = append(others, filepath.Join(r.Options.Dir, pkiDir, name))
			}
		}
	}
	if len(others) == 0 {
		return nil
	}
	hint := "restore what was there from a backup, or render a new cluster into another directory"
	if ca := filepath.Join(r.Options.Dir, pkiDir, "ca.crt"); r.Cluster.PKI.Mode == node.PKIGenerate && slices.Contains(others, ca) {
		hint += fmt.Sprintf("; if the cluster that hosts were rendered for is gone, remove %s and %s, and render again", ca, filepath.Join(r.Options.Dir, KubeconfigFile))
	}
	return fault.New(fault.Config, hint, "%s: not what hosts were rendered with; a host that is added would not be taken by those that run", strings.Join(others, ", "))
}

// record says what this rendering gave to hosts, for those that follow. A host counts once it
// has a config; what authorities began with stays.
func (r *renderer) record() *lastRendering {
	out := &lastRendering{Settings: settings(r.document(&r.Cluster.Hosts[0], r.material)), Keys: r.pins, Hosts: []renderedHost{}}
	for key, rule := range rules {
		if rule.began && len(r.was.Hosts) > 0 {
			out.Settings[key] = cmp.Or(r.was.Settings[key], out.Settings[key])
		}
	}
	for i, h := range r.Cluster.Hosts {
		if r.index.Hosts[i].Ignition != "" || r.was.has(h.Name) {
			out.Hosts = append(out.Hosts, renderedHost{h.Name, h.Role, h.Address})
		}
	}
	return out
}
