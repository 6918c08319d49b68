// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/phase"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// variable is what differs between two machines that are the same: moments, names made of them,
// and pins of their authorities.
var variable = regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:]+Z|kubelet-client-[\d-]+\.pem|sha256:[0-9a-f]{64}`)

// snapshot describes every file below root that first boot answers for, by path: its mode, and
// its content, certificates by what they are for and keys as such.
func snapshot(t *testing.T, root string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, dir := range []string{"/etc", "/var"} {
		err := filepath.WalkDir(root+dir, func(path string, d fs.DirEntry, err error) error {
			name := strings.TrimPrefix(path, root)
			switch {
			case err != nil:
				return err
			case name == kubeadm.EtcdDataDir+"/member":
				return fs.SkipDir
			case d.IsDir() || name == phase.JournalPath:
				return nil
			}
			what, err := describe(root, path)
			out[variable.ReplaceAllString(name, "*")] = d.Type().String() + " " + what
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func describe(root, path string) (string, error) {
	st, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	if st.Mode().Type() == fs.ModeSymlink {
		target, err := os.Readlink(path)
		return "to " + variable.ReplaceAllString(target, "*"), err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	mode := st.Mode().Perm().String() + " "
	switch filepath.Ext(path) {
	case ".key", ".pub":
		return mode + "a key", nil
	case ".crt", ".pem":
		what, err := certificate(text)
		return mode + what, err
	case ".conf":
		if c, user, err := kubeconfig.Current(text); err == nil {
			what := strings.TrimPrefix(user.ClientCertificate, root)
			if len(user.ClientCertificateData) > 0 {
				what, err = certificate(user.ClientCertificateData)
			}
			return mode + c.Server + " " + variable.ReplaceAllString(what, "*"), err
		}
	}
	return mode + variable.ReplaceAllString(strings.ReplaceAll(string(text), root, ""), "*"), nil
}

func certificate(text []byte) (string, error) {
	c, err := pki.ParseCert(text)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s by %s for %v %v %v, %s", c.Subject, c.Issuer, c.DNSNames, c.IPAddresses, c.ExtKeyUsage, c.NotAfter.Sub(c.NotBefore).Round(time.Hour)), nil
}

// differences lists what one of two snapshots has that the other has not, or otherwise.
func differences(want, got map[string]string) (out []string) {
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if g, ok := got[k]; !ok {
			out = append(out, k+" is absent")
		} else if g != want[k] {
			out = append(out, fmt.Sprintf("%s is\n%s\nand was\n%s", k, g, want[k]))
		}
	}
	for _, k := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[k]; !ok {
			out = append(out, k+" is new")
		}
	}
	return out
}

// clientOf logs in as the cluster's administrator.
func clientOf(t *testing.T, root, server string) dynamic.Interface {
	t.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", filepath.Join(root, kubeadm.Dir, kubeconfig.Admin))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Host, cfg.QPS = server, -1
	c, err := dynamic.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var (
	leases     = schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}
	getOptions = metav1.GetOptions{}
)

// resources are the kinds of which first boot writes objects.
var resources = []schema.GroupVersionResource{
	{Version: "v1", Resource: "namespaces"}, {Version: "v1", Resource: "nodes"}, {Version: "v1", Resource: "configmaps"},
	{Version: "v1", Resource: "secrets"}, {Version: "v1", Resource: "serviceaccounts"}, {Version: "v1", Resource: "services"},
	{Group: "apps", Version: "v1", Resource: "deployments"}, {Group: "apps", Version: "v1", Resource: "daemonsets"},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "roles"}, {Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "rolebindings"},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles"}, {Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterrolebindings"},
}

// objectNames lists what the cluster holds. Tokens with random names count as one.
func objectNames(ctx context.Context, c dynamic.Interface) (map[string]string, error) {
	out := map[string]string{}
	for _, r := range resources {
		list, err := c.Resource(r).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, err
		}
		for _, o := range list.Items {
			name := o.GetName()
			if strings.HasPrefix(name, "bootstrap-token-") && !strings.HasSuffix(name, "-abcdef") {
				name = "bootstrap-token-*"
			}
			out[r.Resource+" "+o.GetNamespace()+"/"+name] = ""
		}
	}
	return out, nil
}

// sameObjects waits until the cluster holds what it should: controllers add some of it.
func sameObjects(t *testing.T, c dynamic.Interface, want map[string]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	for {
		got, err := objectNames(ctx, c)
		diff := differences(want, got)
		if err == nil && len(diff) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Errorf("%v %s", err, strings.Join(diff, "\n"))
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// settled waits until controllers add nothing any more and returns what there is.
func settled(t *testing.T, c dynamic.Interface) map[string]string {
	t.Helper()
	for last := map[string]string(nil); ; {
		got, err := objectNames(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if last != nil && len(differences(last, got)) == 0 {
			return got
		}
		last = got
		time.Sleep(3 * time.Second)
	}
}
