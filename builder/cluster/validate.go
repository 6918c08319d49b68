// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/strict"
)

// validator reports to the documents of a source.
type validator struct {
	*Source
	c *Cluster
}

func (v *validator) fail(path, message string, allowed ...string) {
	v.doc.Report(path, message, allowed...)
}
func (v *validator) warn(path, message string, next ...string) {
	v.advice.Report(path, message, next...)
}

// Forms of names: RFC 1123, and host names with an optional port.
var (
	labelForm     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	domainForm    = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$`)
	versionForm   = regexp.MustCompile(`^v1\.[0-9]+\.[0-9]+([-+].*)?$`)
	interfaceForm = regexp.MustCompile(`^[^/\s\[\]=*?!]{1,15}$`)
	registryForm  = regexp.MustCompile(`^(\*|[a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?(:[0-9]{1,5})?)$`)
)

const (
	labelRule  = "1 to 63 lower-case letters, digits and dashes"
	domainRule = "lower-case letters, digits, dashes and dots, at most 253 characters"
)

func (v *validator) match(path, got string, form *regexp.Regexp, message, allowed string) {
	if got != "" && !form.MatchString(got) {
		v.fail(path, message, allowed)
	}
}

func (v *validator) domain(path, got, what string) {
	if got != "" && (!domainForm.MatchString(got) || len(got) > 253) {
		v.fail(path, "is not "+what, domainRule)
	}
}

func (v *validator) between(path string, got, low, high int, zero string) {
	if (got != 0 || zero == "") && (got < low || got > high) {
		allowed := fmt.Sprintf("%d to %d", low, high)
		if zero != "" {
			allowed += ", or 0 " + zero
		}
		v.fail(path, "is out of range", allowed)
	}
}

// all runs every check. Those of node documents come last: they see the whole.
func (v *validator) all() {
	c := v.c
	strict.OneOf(v.doc, "apiVersion", c.APIVersion, APIVersion)
	strict.OneOf(v.doc, "kind", c.Kind, Kind)
	if c.Name == "" {
		v.fail("name", "is missing", labelRule)
	}
	v.match("name", c.Name, labelForm, "is not a cluster name", labelRule)
	v.match("kubernetesVersion", c.KubernetesVersion, versionForm, "is not a Kubernetes version", "vMAJOR.MINOR.PATCH, for example v1.36.3")
	v.between("apiServer.port", c.APIServer.Port, 1, 65535, "")
	v.networks()
	v.hosts()
	v.endpoint()
	v.vip()
	v.pki()
	v.services()
	v.registries()
	v.butane()
	v.documents()
	v.userData()
	v.vacant()
}

func (v *validator) pki() {
	c := v.c
	p := c.PKI
	strict.OneOf(v.doc, "pki.mode", p.Mode, node.PKIShared, node.PKIGenerate, node.PKIExternal)
	if p.Initiator != "" && p.Mode != node.PKIGenerate {
		v.fail("pki.initiator", "has a meaning in mode generate only", "leave it out, or set pki.mode generate")
	} else if p.Initiator != "" && !slices.ContainsFunc(c.ControlPlanes(), func(h Host) bool { return h.Name == p.Initiator }) {
		v.fail("pki.initiator", "is not the name of a control plane", "the name of a host with role control-plane")
	}
	if *c.Join.TokenTTL < node.Duration(time.Minute) {
		v.fail("join.tokenTTL", "is too short", "at least 1m")
	}
	if p.Validity >= p.CAValidity-node.Duration(time.Hour) && p.Validity <= p.CAValidity {
		v.warn("pki.validity", "is as long as pki.caValidity: certificates cannot be renewed before their authority ends")
	}
}

// services checks what hosts reach: time servers and the callback.
func (v *validator) services() {
	for i, t := range v.c.TimeServers {
		if _, err := netip.ParseAddr(t); err != nil && !domainForm.MatchString(t) {
			v.fail(fmt.Sprintf("timeServers[%d]", i), "is neither a host name nor an IP address", "a name such as ntp.example.org, or an address")
		}
	}
	cb := v.c.Callback
	if cb.URL == "" && (cb.CAFile != "" || cb.TokenFile != "") {
		v.fail("callback.url", "is missing", "an http or https URL; without one there is no callback")
	}
	v.certificates("callback.caFile", cb.CAFile)
	if token := v.attach("callback.tokenFile", cb.TokenFile); cb.TokenFile != "" && token != nil && len(strings.Fields(string(token))) != 1 {
		v.fail("callback.tokenFile", "does not hold one token", "a file with one word")
	}
	if strings.HasPrefix(cb.URL, "http://") && cb.TokenFile != "" {
		v.warn("callback.url", "sends the token in the clear", "https")
	}
}

// certificates checks that a file, when one is named, holds certificates and nothing else.
func (v *validator) certificates(path, name string) {
	if data := v.attach(path, name); data != nil {
		if err := node.CheckCertificates(data); err != nil {
			v.fail(path, err.Error(), "a file with PEM text")
		}
	}
}

func (v *validator) registries() {
	seen := map[string]int{}
	for i, r := range v.c.Registries {
		at := fmt.Sprintf("registries[%d]", i)
		if r.Host == "" {
			v.fail(at+".host", "is missing", "a registry such as docker.io, or * for all others")
		}
		v.match(at+".host", r.Host, registryForm, "is not a registry", "a host name, with its port if image names have it, or *")
		if j, dup := seen[r.Host]; dup && r.Host != "" {
			v.fail(at+".host", fmt.Sprintf("is also the host of registries[%d]", j), "an entry per registry")
		}
		seen[r.Host] = i
		if len(r.Mirrors) == 0 {
			v.fail(at+".mirrors", "is missing", "at least one mirror")
		}
		if r.Host == "*" && r.Fallback != nil && *r.Fallback {
			v.fail(at+".fallback", "cannot be asked for with host *", "false, or leave it out")
		}
		urls := map[string]int{}
		for j, m := range r.Mirrors {
			mat := fmt.Sprintf("%s.mirrors[%d]", at, j)
			v.mirror(mat, m)
			if k, dup := urls[m.URL]; dup && m.URL != "" {
				v.fail(mat+".url", fmt.Sprintf("is also that of mirrors[%d]", k), "a URL per mirror")
			}
			urls[m.URL] = j
		}
	}
}

func (v *validator) mirror(at string, m Mirror) {
	u, err := url.Parse(m.URL)
	switch {
	case m.URL == "":
		v.fail(at+".url", "is missing", "https://host[:port][/path]")
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		v.fail(at+".url", "is not the URL of a registry", "https://host[:port][/path], without user, query and fragment")
	case u.Scheme == "http" && m.CAFile != "":
		v.fail(at+".caFile", "has no use with http", "leave it out, or use https")
	case u.Scheme == "http" && m.CredentialsFile != "":
		v.fail(at+".credentialsFile", "would be sent in the clear", "an https URL")
	}
	v.certificates(at+".caFile", m.CAFile)
	if text := v.attach(at+".credentialsFile", m.CredentialsFile); text != nil {
		if user, password, ok := credentials(text); !ok || user == "" || password == "" {
			v.fail(at+".credentialsFile", "does not hold credentials", "a file with one line, USER:PASSWORD")
		}
	}
}
