// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// expiry is when one certificate on disk ends.
type expiry struct {
	name     string
	notAfter time.Time
}

// expiries reads every certificate of the node, the first to end first.
func (e *Env) expiries() []expiry {
	var out []expiry
	add := func(name string, text []byte) {
		if cert, err := pki.ParseCert(text); err == nil {
			out = append(out, expiry{name, end(cert)})
		}
	}
	for _, pattern := range []string{kubeadm.PKIDir + "/*.crt", kubeadm.PKIDir + "/etcd/*.crt"} {
		files, _ := filepath.Glob(filepath.Join(e.Root, pattern))
		for _, f := range files {
			if text, err := os.ReadFile(f); err == nil {
				name, _ := strings.CutPrefix(f, filepath.Join(e.Root, kubeadm.PKIDir)+"/")
				add(name, text)
			}
		}
	}
	files, _ := filepath.Glob(filepath.Join(e.Root, kubeadm.Dir, "*.conf"))
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		if _, user, err := kubeconfig.Current(text); err == nil {
			add(filepath.Base(f), user.ClientCertificateData)
		}
	}
	if target, err := os.Readlink(filepath.Join(e.Root, kubeadm.KubeletPEM)); err == nil {
		if text, err := os.ReadFile(filepath.Join(e.Root, filepath.Dir(kubeadm.KubeletPEM), filepath.Base(target))); err == nil {
			add(e.kubeletName(), text)
		}
	}
	slices.SortStableFunc(out, func(a, b expiry) int { return a.notAfter.Compare(b.notAfter) })
	return out
}

// kubeletName says of the kubelet's certificate who renews it. With an external authority nobody
// on the cluster's machines signs what the kubelet asks for.
func (e *Env) kubeletName() string {
	n, _, err := node.Load(filepath.Join(e.Root, node.Path))
	if err != nil || n.PKI.Mode == node.PKIExternal || n.Role == node.ControlPlane && pki.External(e.Root) {
		return "kubelet"
	}
	return "kubelet (renews itself)"
}

func end(cert *x509.Certificate) time.Time { return cert.NotAfter.UTC() }

func printExpiries(out io.Writer, list []expiry, now time.Time) error {
	if len(list) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "CERTIFICATE\tEXPIRES\tDAYS LEFT")
	for _, x := range list {
		left := x.notAfter.Sub(now)
		days := fmt.Sprint(int(left.Hours() / 24))
		if left <= 0 {
			days = "expired"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", x.name, x.notAfter.Format(time.RFC3339), days)
	}
	return w.Flush()
}
