// SPDX-License-Identifier: Apache-2.0

package check

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

var pkiChecks = []Check{
	{ID: "D03", Title: "the three authorities", run: checkAuthorities},
	{ID: "D04", Title: "the API server's certificate", run: checkAPIServerCert},
	{ID: "D05", Title: "etcd's server and peer certificates", run: checkEtcdCerts},
	{ID: "D06", Title: "client certificates and the usages of every leaf", run: checkClientCerts},
	{ID: "D07", Title: "how long certificates last", run: checkValidity},
	{ID: "D08", Title: "who the kubeconfigs are", run: checkKubeconfigSubjects},
	{ID: "D09", Title: "where the kubeconfigs point", run: checkKubeconfigServers},
	{ID: "D10", Title: "the kubelet's rotating certificate", Worker: true, run: checkKubeletCert},
}

func (e *Env) cert(name string) (*x509.Certificate, error) {
	path := kubeadm.PKIDir + "/" + name + ".crt"
	text, err := os.ReadFile(e.path(path))
	if err != nil {
		return nil, err
	}
	c, err := pki.ParseCert(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// certs loads several certificates; those that fail are reported and left out.
func (e *Env) certs(p *problems, names ...string) map[string]*x509.Certificate {
	out := map[string]*x509.Certificate{}
	for _, n := range names {
		c, err := e.cert(n)
		if p.add(err); err == nil {
			out[n] = c
		}
	}
	return out
}

func sans(c *x509.Certificate) []string {
	out := slices.Clone(c.DNSNames)
	for _, a := range c.IPAddresses {
		out = append(out, a.String())
	}
	slices.Sort(out)
	return out
}

func subject(c *x509.Certificate) string {
	return fmt.Sprintf("CN %s O %v", c.Subject.CommonName, c.Subject.Organization)
}

func wantSubject(cn string, org ...string) string { return fmt.Sprintf("CN %s O %v", cn, org) }

func critical(c *x509.Certificate, oid string) bool {
	for _, x := range c.Extensions {
		if x.Id.String() == oid {
			return x.Critical
		}
	}
	return false
}

const (
	oidKeyUsage         = "2.5.29.15"
	oidBasicConstraints = "2.5.29.19"
	leafUsage           = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
)

// signed checks a signature alone: authorities of this kind have no further constraints.
func signed(p *problems, name string, c, by *x509.Certificate) {
	if c == nil || by == nil {
		return
	}
	if err := by.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil || !bytes.Equal(c.RawIssuer, by.RawSubject) {
		p.addf("%s is not signed by CN %s", name, by.Subject.CommonName)
	}
}

// madeHere says that this machine made the authorities. Those of another, and an operator's own,
// which every mode but generate takes, may have another form.
func (e *Env) madeHere() bool { return e.First && e.Config.PKIMode == node.PKIGenerate }

// elsewhere says that certificates were signed elsewhere: they last as long as was decided there,
// and may have more names and usages than were asked for.
func (e *Env) elsewhere() bool { return e.Config.PKIMode == node.PKIExternal }

// asked compares what a certificate has with what was asked for, which is sorted.
func asked[T cmp.Ordered](e *Env, p *problems, what string, got, want []T) {
	got = slices.Sorted(slices.Values(got))
	if e.elsewhere() {
		got = slices.DeleteFunc(got, func(x T) bool { return !slices.Contains(want, x) })
	}
	equal(p, what, got, want)
}

// usages wants extended key usages, server before client.
func (e *Env) usages(p *problems, name string, c *x509.Certificate, want ...x509.ExtKeyUsage) {
	asked(e, p, name+" extended key usage", c.ExtKeyUsage, want)
}

// names wants alternative names, sorted.
func (e *Env) names(p *problems, name string, c *x509.Certificate, want []string) {
	asked(e, p, name+" alternative names", sans(c), want)
}

func checkAuthorities(_ context.Context, e *Env) error {
	var p problems
	names := map[string]string{"ca": "kubernetes", "front-proxy-ca": "front-proxy-ca", "etcd/ca": "etcd-ca"}
	for name, c := range e.certs(&p, authorities...) {
		equal(&p, name+" is an authority", c.IsCA, true)
		equal(&p, name+" may sign certificates", pki.Allows(c, x509.KeyUsageCertSign), true)
		if !e.madeHere() {
			continue
		}
		equal(&p, name+" subject", subject(c), wantSubject(names[name]))
		equal(&p, name+" is critically an authority", critical(c, oidBasicConstraints), true)
		equal(&p, name+" key usage", c.KeyUsage, leafUsage|x509.KeyUsageCertSign)
		equal(&p, name+" key usage is critical", critical(c, oidKeyUsage), true)
		equal(&p, name+" alternative names", sans(c), []string{names[name]})
		equal(&p, name+" extended key usage", len(c.ExtKeyUsage), 0)
		signed(&p, name, c, c)
	}
	return p.err()
}

func checkAPIServerCert(_ context.Context, e *Env) error {
	var p problems
	certs := e.certs(&p, "ca", "apiserver")
	c := certs["apiserver"]
	if c == nil {
		return p.err()
	}
	want := []string{e.Config.NodeName, "kubernetes", "kubernetes.default", "kubernetes.default.svc",
		"kubernetes.default.svc." + e.Config.DNSDomain, e.Config.ServiceIP(1).String(), e.Config.Address.String(), e.Config.EndpointHost}
	if e.Config.VIP.IsValid() {
		want = append(want, e.Config.VIP.String())
	}
	for _, other := range e.Config.ControlPlanes {
		for _, n := range []string{other.Name, other.Address} {
			if n != "" {
				want = append(want, n)
			}
		}
	}
	for _, n := range want {
		if c.VerifyHostname(n) != nil {
			p.addf("apiserver.crt does not cover %s; it covers %v", n, sans(c))
		}
	}
	equal(&p, "apiserver.crt subject", subject(c), wantSubject("kube-apiserver"))
	e.usages(&p, "apiserver.crt", c, x509.ExtKeyUsageServerAuth)
	signed(&p, "apiserver.crt", c, certs["ca"])
	return p.err()
}

func checkEtcdCerts(_ context.Context, e *Env) error {
	var p problems
	certs := e.certs(&p, "etcd/ca", "etcd/server", "etcd/peer")
	for name, extra := range map[string][]string{"etcd/server": e.Config.EtcdServerSANs, "etcd/peer": e.Config.EtcdPeerSANs} {
		c := certs[name]
		if c == nil {
			continue
		}
		want := append([]string{e.Config.NodeName, "localhost", e.Config.Address.String(), "127.0.0.1", "::1"}, extra...)
		slices.Sort(want)
		equal(&p, name+" subject", subject(c), wantSubject(e.Config.NodeName))
		e.names(&p, name, c, slices.Compact(want))
		e.usages(&p, name, c, x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth)
		signed(&p, name, c, certs["etcd/ca"])
	}
	return p.err()
}

func checkClientCerts(_ context.Context, e *Env) error {
	var p problems
	certs := e.certs(&p, slices.Concat(authorities, leaves)...)
	for _, w := range []struct{ name, cn, signer string }{
		{"apiserver-kubelet-client", "kube-apiserver-kubelet-client", "ca"},
		{"apiserver-etcd-client", "kube-apiserver-etcd-client", "etcd/ca"},
		{"etcd/healthcheck-client", "kube-etcd-healthcheck-client", "etcd/ca"},
		{"front-proxy-client", "front-proxy-client", "front-proxy-ca"},
	} {
		if c := certs[w.name]; c != nil {
			equal(&p, w.name+" subject", subject(c), wantSubject(w.cn))
			e.usages(&p, w.name, c, x509.ExtKeyUsageClientAuth)
			e.names(&p, w.name, c, nil)
			signed(&p, w.name, c, certs[w.signer])
		}
	}
	for _, name := range leaves {
		c := certs[name]
		if c == nil {
			continue
		}
		equal(&p, name+" is an authority", c.IsCA, false)
		if e.elsewhere() {
			equal(&p, name+" may sign handshakes", pki.Allows(c, x509.KeyUsageDigitalSignature), true)
			continue
		}
		equal(&p, name+" key usage", c.KeyUsage, leafUsage)
		equal(&p, name+" key usage is critical", critical(c, oidKeyUsage), true)
	}
	return p.err()
}

func checkValidity(_ context.Context, e *Env) error {
	var p problems
	check := func(names []string, validity time.Duration) {
		for name, c := range e.certs(&p, names...) {
			equal(&p, name+" lasts", c.NotAfter.Sub(c.NotBefore), validity+5*time.Minute)
		}
	}
	if !e.elsewhere() {
		check(leaves, e.Config.Validity)
	}
	if e.madeHere() {
		check(authorities, e.Config.CAValidity)
	}
	return p.err()
}

func (e *Env) kubeconfig(name string) (server string, ca []byte, cert *x509.Certificate, err error) {
	text, err := os.ReadFile(e.path(kubeadm.Dir + "/" + name))
	if err != nil {
		return "", nil, nil, err
	}
	cluster, auth, err := kubeconfig.Current(text)
	if err != nil {
		return "", nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(auth.ClientCertificateData) > 0 {
		if cert, err = pki.ParseCert(auth.ClientCertificateData); err != nil {
			return "", nil, nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return cluster.Server, cluster.CertificateAuthorityData, cert, nil
}

func checkKubeconfigSubjects(_ context.Context, e *Env) error {
	var p problems
	want := map[string]string{
		"admin.conf":              wantSubject("kubernetes-admin", "kubeadm:cluster-admins"),
		"controller-manager.conf": wantSubject("system:kube-controller-manager"),
		"scheduler.conf":          wantSubject("system:kube-scheduler"),
	}
	if e.First {
		want["super-admin.conf"] = wantSubject("kubernetes-super-admin", "system:masters")
	} else if _, err := os.Stat(e.path(kubeadm.Dir + "/super-admin.conf")); err == nil {
		p.addf("super-admin.conf exists on a node that joined")
	}
	ca := e.certs(&p, "ca")["ca"]
	for name, w := range want {
		_, _, c, err := e.kubeconfig(name)
		if p.add(err); err != nil {
			continue
		}
		if c == nil {
			p.addf("%s has no certificate inside", name)
			continue
		}
		equal(&p, name+" subject", subject(c), w)
		e.usages(&p, name, c, x509.ExtKeyUsageClientAuth)
		signed(&p, name, c, ca)
	}
	return p.err()
}

func checkKubeconfigServers(_ context.Context, e *Env) error {
	var p problems
	ca, err := os.ReadFile(e.path(kubeadm.PKIDir + "/ca.crt"))
	p.add(err)
	want := map[string]string{
		"admin.conf": e.Config.EndpointURL(), "controller-manager.conf": e.Config.LocalURL(),
		"scheduler.conf": e.Config.LocalURL(), "kubelet.conf": e.Config.LocalURL(),
	}
	if e.First {
		want["super-admin.conf"] = e.Config.EndpointURL()
	}
	for name, server := range want {
		got, data, _, err := e.kubeconfig(name)
		if p.add(err); err != nil {
			continue
		}
		equal(&p, name+" server", got, server)
		if !bytes.Equal(bytes.TrimSpace(data), bytes.TrimSpace(ca)) {
			p.addf("%s trusts another authority than ca.crt", name)
		}
	}
	return p.err()
}

func checkKubeletCert(_ context.Context, e *Env) error {
	var p problems
	text, err := os.ReadFile(e.path(kubeadm.Dir + "/kubelet.conf"))
	if err != nil {
		return err
	}
	_, auth, err := kubeconfig.Current(text)
	if err != nil {
		return fmt.Errorf("kubelet.conf: %w", err)
	}
	equal(&p, "kubelet.conf client-certificate", auth.ClientCertificate, kubeadm.KubeletPEM)
	equal(&p, "kubelet.conf client-key", auth.ClientKey, kubeadm.KubeletPEM)
	if len(auth.ClientKeyData) > 0 {
		p.addf("kubelet.conf has a key inside")
	}
	if _, err := os.Lstat(e.path(kubeadm.BootstrapConf)); err == nil {
		p.addf("%s was left behind", kubeadm.BootstrapConf)
	}
	target, err := os.Readlink(e.path(kubeadm.KubeletPEM))
	if err != nil {
		p.addf("%s is not a symbolic link", kubeadm.KubeletPEM)
		return p.err()
	}
	pem, err := os.ReadFile(filepath.Join(e.path(kubeadm.KubeletDir+"/pki"), filepath.Base(target)))
	if p.add(err); err != nil {
		return p.err()
	}
	c, err := pki.ParseCert(pem)
	if err != nil {
		p.addf("%s: %w", strings.TrimSpace(target), err)
		return p.err()
	}
	equal(&p, "the kubelet's subject", subject(c), wantSubject("system:node:"+e.Config.NodeName, "system:nodes"))
	signed(&p, "the kubelet's certificate", c, e.certs(&p, "ca")["ca"])
	return p.err()
}
