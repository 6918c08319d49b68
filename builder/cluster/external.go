// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"path/filepath"
	"slices"
	"strings"

	clientcmd "k8s.io/client-go/tools/clientcmd/api/v1"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// With pki.mode external nothing here can sign. Keys and requests are made below
// pki/hosts/NAME (and pki/admin for people); certificates are expected beside them.
const hostKeysDir = pkiDir + "/hosts"

// signed is a certificate of an external authority with the key it is for.
type signed struct {
	spec pki.Spec
	pair *pki.Pair
}

// external returns the files of a host's certificates. Complete is false while some are
// missing; each of those is then listed as pending.
func (r *renderer) external(h *Host) (files []file, complete bool, err error) {
	text, err := encode(r.document(h, r.material))
	if err != nil {
		return nil, false, err
	}
	document, err := node.Parse(h.Name, text)
	if err != nil {
		return nil, false, err
	}
	// A worker's address is in no certificate; it only has to be one.
	address := netip.IPv4Unspecified()
	if h.Address != "" {
		address = netip.MustParseAddr(h.Address)
	}
	config, err := kubeadm.New(document, kubeadm.Host{Hostname: h.Name, Address: address, Now: r.Now})
	if err != nil {
		return nil, false, err
	}
	waiting, wrong := len(r.result.Pending), len(r.misfits)
	for _, s := range authoritySpecs() {
		if r.cas.pairs[s.Name] == nil {
			r.pending(path.Join(pkiDir, s.Name+".crt") + ", the certificate of the authority " + s.CommonName)
		}
	}
	var leaves, users []signed
	if h.Role == node.ControlPlane {
		for _, s := range pki.Specs(config) {
			if !s.IsCA() {
				leaves = append(leaves, signed{spec: s})
			}
		}
	}
	all := pki.Users(h.Name)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if h.Role == node.ControlPlane || name == kubeconfig.Kubelet {
			s := all[name]
			s.Name = name
			users = append(users, signed{spec: s})
		}
	}
	for _, list := range [][]signed{leaves, users} {
		for i := range list {
			base := path.Join(hostKeysDir, h.Name, strings.TrimSuffix(list[i].spec.Name, ".conf"))
			if list[i].pair, err = r.request(base, list[i].spec, called(h)); err != nil {
				return nil, false, err
			}
		}
	}
	if len(r.result.Pending) > waiting || len(r.misfits) > wrong {
		return nil, false, nil
	}
	files, err = r.externalFiles(h, config, leaves, users)
	return files, true, err
}

func (r *renderer) pending(what string) {
	if !slices.Contains(r.result.Pending, what) {
		r.result.Pending = append(r.result.Pending, what)
	}
}

// request keeps or makes a key and a request for a certificate, and returns the certificate
// once it is there and fits. One that lacks names which the cluster file gave the host since it
// was signed has to be signed again, from the request that now has them; any other that does
// not fit, or whose key is gone, is a misfit.
func (r *renderer) request(base string, spec pki.Spec, subject string) (*pki.Pair, error) {
	at := filepath.Join(r.Options.Dir, base)
	misfit := func(hint, format string, args ...any) (*pki.Pair, error) {
		r.misfits = append(r.misfits, fault.New(fault.Config, hint, format, args...))
		return nil, nil
	}
	have, err := readStored(r.Options.Dir, strings.TrimPrefix(base, pkiDir+"/"))
	switch {
	case fault.ClassOf(err) == fault.Config:
		r.misfits = append(r.misfits, err)
		return nil, nil
	case err != nil:
		return nil, err
	case have.key == nil && have.cert != nil:
		return misfit("restore the key from a backup; or remove the certificate, render for a new key and a request (.csr), and have that signed",
			"%s.key is missing, and %s.crt is for it", at, at)
	case have.key == nil:
		if have, err = newKey(r.maker); err != nil {
			return nil, err
		}
	}
	r.add("/"+base+".key", 0o600, have.keyText, subject)
	csr, err := keepRequest(at+".csr", spec, have.key, r.maker)
	if err != nil {
		return nil, err
	}
	r.add("/"+base+".csr", 0o644, csr, subject)
	ca := r.cas.pairs[spec.Signer]
	if have.cert == nil || ca == nil {
		r.pending(fmt.Sprintf("%s.crt, to be signed by %s/%s.crt", base, pkiDir, spec.Signer))
		return nil, nil
	}
	err = pki.Fits(spec, have.cert, have.key, ca.Cert, r.Now)
	switch {
	case errors.Is(err, pki.ErrNotCovered):
		r.pending(fmt.Sprintf("%s.crt, to be signed by %s/%s.crt again: %v", base, pkiDir, spec.Signer, err))
		return nil, nil
	case err != nil:
		return misfit("sign "+at+".csr again and put the certificate there", "%s.crt: %w", at, err)
	}
	return &pki.Pair{Cert: have.cert, Key: have.key}, nil
}

// misfit ends a rendering in which certificates cannot be used. Keys and requests of all others
// are written: whoever signs need not wait for those.
func (r *renderer) misfit(err error) error {
	requests := slices.DeleteFunc(slices.Clone(r.outputs), func(o output) bool {
		return !strings.HasPrefix(o.Path, "/"+hostKeysDir+"/") && !strings.HasPrefix(o.Path, "/"+pkiDir+"/"+adminName+".")
	})
	if _, e := changes(r.Options.Dir, requests); e != nil {
		return errors.Join(err, e)
	}
	if !r.DryRun {
		if e := writeAll(r.Options.Dir, requests); e != nil {
			return errors.Join(err, e)
		}
	}
	return fault.Wrap(fault.Config, err, "render again then; configs stay as they were, keys and requests of all other certificates are in "+filepath.Join(r.Options.Dir, pkiDir))
}

// externalFiles are what a node of an external authority has: certificates, kubeconfigs, and
// the kubelet's certificate where the kubelet itself would keep it.
func (r *renderer) externalFiles(h *Host, c *kubeadm.Config, leaves, users []signed) ([]file, error) {
	ca := r.cas.ca()
	files := []file{{path: kubeadm.PKIDir + "/ca.crt", mode: 0o644, data: ca.CertPEM()}}
	if h.Role == node.ControlPlane {
		var err error
		if files, err = r.cas.files(false); err != nil {
			return nil, err
		}
	}
	for _, l := range leaves {
		text, err := pki.KeyPEM(l.pair.Key)
		if err != nil {
			return nil, err
		}
		base := kubeadm.PKIDir + "/" + l.spec.Name
		files = append(files, file{path: base + ".key", mode: 0o600, data: text}, file{path: base + ".crt", mode: 0o644, data: l.pair.CertPEM()})
	}
	for _, u := range users {
		f, err := r.userConfig(c, u)
		if err != nil {
			return nil, err
		}
		if u.spec.Name == kubeconfig.Kubelet {
			text, err := pki.KeyPEM(u.pair.Key)
			if err != nil {
				return nil, err
			}
			at := path.Join(path.Dir(kubeadm.KubeletPEM), "kubelet-client-"+u.pair.Cert.NotBefore.UTC().Format("2006-01-02-15-04-05")+".pem")
			files = append(files, file{path: at, mode: 0o600, data: append(u.pair.CertPEM(), text...)}, file{path: kubeadm.KubeletPEM, link: at})
			server := kubeconfig.Server(c, kubeconfig.Kubelet)
			if h.Role == node.Worker {
				server = c.EndpointURL()
			}
			if f, err = kubeconfig.KubeletRotating(c, server, ca.CertPEM()); err != nil {
				return nil, err
			}
		}
		files = append(files, file{path: f.Path, mode: int(f.Mode), data: f.Data})
	}
	return files, nil
}

// userConfig is a kubeconfig with a certificate inside.
func (r *renderer) userConfig(c *kubeadm.Config, u signed) (kubeadm.File, error) {
	text, err := pki.KeyPEM(u.pair.Key)
	if err != nil {
		return kubeadm.File{}, err
	}
	return kubeconfig.Encode(u.spec.Name, kubeconfig.New(c.ClusterName, kubeconfig.Server(c, u.spec.Name), u.spec.CommonName, r.cas.ca().CertPEM(),
		clientcmd.AuthInfo{ClientCertificateData: u.pair.CertPEM(), ClientKeyData: text}))
}

// externalKubeconfig makes the administrator's kubeconfig from a certificate of an external
// authority. In mode generate nobody here can.
func (r *renderer) externalKubeconfig(c *kubeadm.Config) error {
	if r.Cluster.PKI.Mode != node.PKIExternal {
		return nil
	}
	u := signed{spec: pki.Users("")[kubeconfig.Admin]}
	u.spec.Name = kubeconfig.Admin
	var err error
	if u.pair, err = r.request(pkiDir+"/admin", u.spec, "kubeconfig of the administrator"); err != nil || u.pair == nil {
		return err
	}
	f, err := r.userConfig(c, u)
	if err != nil {
		return err
	}
	r.add("/"+KubeconfigFile, 0o600, f.Data, "kubeconfig of the administrator")
	r.index.Kubeconfig = KubeconfigFile
	return nil
}

// sameRequest reports whether a request still asks for what spec wants, with key.
func sameRequest(req *x509.CertificateRequest, spec pki.Spec, key crypto.Signer) bool {
	if !pki.SameKey(req.PublicKey, key.Public()) || req.Subject.CommonName != spec.CommonName || !slices.Equal(req.Subject.Organization, spec.Organization) {
		return false
	}
	var ips []netip.Addr
	for _, ip := range req.IPAddresses {
		a, _ := netip.AddrFromSlice(ip)
		ips = append(ips, a.Unmap())
	}
	return slices.Equal(req.DNSNames, spec.DNS) && slices.Equal(ips, spec.IPs)
}
