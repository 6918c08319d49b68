// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

const (
	day  = 24 * time.Hour
	year = 365 * day
)

// kubeletAged is a control plane whose kubelet's certificate was made at a moment of its own,
// with the units it restarts.
func kubeletAged(t *testing.T, mode node.PKIMode, made time.Time) (*State, *[]string) {
	t.Helper()
	s := controlPlaneFiles(t, mode, year, time.Now().Add(-day))
	ca, err := s.authority()
	if err == nil {
		m := s.maker()
		m.Now = made
		err = s.makeKubeletPEM(ca, m)
	}
	if err != nil {
		t.Fatal(err)
	}
	units := &[]string{}
	s.RestartUnit = func(_ context.Context, unit string) error { *units = append(*units, unit); return nil }
	return s, units
}

// takeKeysAway leaves the authorities without their keys.
func takeKeysAway(t *testing.T, s *State) {
	t.Helper()
	for _, ca := range []string{pki.CA, pki.FrontProxyCA, pki.EtcdCA} {
		if err := os.Remove(s.path(kubeadm.PKIDir + "/" + ca + ".key")); err != nil {
			t.Fatal(err)
		}
	}
	s.Config.ExternalCA = true
}

// A kubelet that was off past the end of its certificate starts with another one. While it can
// renew its certificate itself, that is left to it.
func TestRenewKubelet(t *testing.T) {
	for name, c := range map[string]struct {
		age  time.Duration
		want bool
	}{
		"fresh":                          {day, false},
		"the kubelet may renew it":       {year * 75 / 100, false},
		"the kubelet is late":            {year * 93 / 100, false},
		"the kubelet has not renewed it": {year * 97 / 100, true},
		"expired":                        {2 * year, true},
		"made by a clock that was ahead": {-time.Hour, true},
	} {
		t.Run(name, func(t *testing.T) {
			s, units := kubeletAged(t, node.PKIShared, time.Now().Add(-c.age))
			before, err := os.Readlink(s.path(kubeadm.KubeletPEM))
			if err != nil {
				t.Fatal(err)
			}
			r, err := Renew(t.Context(), s, 120*day)
			if err != nil {
				t.Fatal(err)
			}
			after, err := os.Readlink(s.path(kubeadm.KubeletPEM))
			if err != nil {
				t.Fatal(err)
			}
			if (after != before) != c.want || slices.Equal(*units, []string{KubeletUnit}) != c.want || slices.Contains(r.Certificates, "kubelet") != c.want ||
				slices.Contains(r.Restarted, "kubelet") != c.want {
				t.Errorf("%s, then %s; restarted %q; %+v", before, after, *units, r)
			}
			ca, err := s.authority()
			if err != nil {
				t.Fatal(err)
			}
			if err := s.kubeletPEMFits(ca, time.Now()); err != nil {
				t.Error(err)
			}
			*units = nil
			if r, err := Renew(t.Context(), s, 120*day); err != nil || len(r.Certificates)+len(*units) > 0 {
				t.Errorf("again at once: %+v %q %v", r, *units, err)
			}
		})
	}
}

// Where nobody signs what the kubelet asks for, its certificate is named in time; a worker's that
// its kubelet should have renewed is named before it ends.
func TestRenewKubeletWithoutTheKey(t *testing.T) {
	const due, late = "kubelet-client-current.pem: ends at ", "the kubelet has not renewed it"
	for name, c := range map[string]struct {
		mode node.PKIMode
		role node.Role
		age  time.Duration
		want []string
	}{
		"external, fresh":                  {node.PKIExternal, node.ControlPlane, day, nil},
		"external, due":                    {node.PKIExternal, node.ControlPlane, year * 70 / 100, []string{due, "within 120 days; with pki.mode external deliver a new one"}},
		"external, expired":                {node.PKIExternal, node.ControlPlane, 2 * year, []string{"expired at", "deliver a new one"}},
		"the authority's key is elsewhere": {node.PKIShared, node.ControlPlane, year * 70 / 100, []string{due}},
		"external worker, fresh":           {node.PKIExternal, node.Worker, day, nil},
		"external worker, due":             {node.PKIExternal, node.Worker, year * 70 / 100, []string{due, "deliver a new one"}},
		"worker that renews":               {node.PKIShared, node.Worker, year * 75 / 100, nil},
		"worker that did not":              {node.PKIShared, node.Worker, year * 97 / 100, []string{late, "kubectl get csr"}},
		"worker that was off":              {node.PKIGenerate, node.Worker, 2 * year, []string{"expired at", late}},
	} {
		t.Run(name, func(t *testing.T) {
			s, units := kubeletAged(t, c.mode, time.Now().Add(-c.age))
			s.Node.Role, s.Config.Role = c.role, c.role
			takeKeysAway(t, s)
			_, err := Renew(t.Context(), s, 120*day)
			if (err == nil) != (c.want == nil) || len(*units) > 0 {
				t.Fatalf("%v, want %q; restarted %q", err, c.want, *units)
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%v, want %q", err, w)
				}
			}
		})
	}
}

// With an external authority everything that is due is named at once.
func TestRenewNamesAllThatIsExternal(t *testing.T) {
	s := controlPlaneFiles(t, node.PKIExternal, year, time.Now().Add(-year*70/100))
	takeKeysAway(t, s)
	_, err := Renew(t.Context(), s, 120*day)
	for _, want := range []string{"pki/apiserver.crt: ends at", "pki/etcd/peer.crt: ends at", "admin.conf: ends at", "scheduler.conf: ends at", "kubelet-client-current.pem: ends at"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not named: %v", want, err)
		}
	}
}

// putProcess puts a process into a /proc. No process has such a number, which counts as having ended.
func putProcess(t *testing.T, proc, pid, cmdline, mountinfo string) {
	t.Helper()
	dir := filepath.Join(proc, pid)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"cmdline": cmdline, "mountinfo": mountinfo} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// mounted is the mountinfo of a container with a file of the host.
func mounted(what, where string) string {
	return "1 2 0:50 / / ro,relatime - overlay overlay ro\n3 1 0:40 " + what + " " + where + " rw,relatime - overlay overlay rw\n"
}

// TestTerminateFindsTheComponent finds a process by what it runs and by the file it was given.
func TestTerminateFindsTheComponent(t *testing.T) {
	const (
		scheduler = "kube-scheduler\x00--kubeconfig=/etc/kubernetes/scheduler.conf\x00"
		kubeVIP   = "/kube-vip\x00manager\x00"
	)
	now := mounted("/kubernetes/scheduler.conf", "/etc/kubernetes/scheduler.conf")
	old := mounted("/kubernetes/scheduler.conf//deleted", "/etc/kubernetes/scheduler.conf")
	proc := t.TempDir()
	putProcess(t, proc, "999999999", scheduler, old)
	putProcess(t, proc, "999999998", scheduler, now)
	putProcess(t, proc, "999999997", "vi\x00"+scheduler, old)
	putProcess(t, proc, "999999996", "kube-scheduler\x00--help\x00", "")
	putProcess(t, proc, "999999995", scheduler, mounted("/elsewhere//deleted", "/elsewhere"))
	putProcess(t, proc, "self", scheduler, old)
	putProcess(t, proc, "999999994", kubeVIP, mounted("/kubernetes/admin.conf//deleted", "/etc/kubernetes/admin.conf"))
	putProcess(t, proc, "999999993", kubeVIP, mounted("/kubernetes/admin.conf", "/etc/kubernetes/admin.conf"))
	putProcess(t, proc, "999999992", kubeVIP, "") // one of the user's
	for _, c := range []struct {
		reader  reader
		changed bool
		want    int
	}{
		{reader{kubeadm.Scheduler, kubeconfig.Scheduler}, false, 1},
		{reader{kubeadm.Scheduler, kubeconfig.Scheduler}, true, 3},
		{reader{"kube-vip", kubeconfig.Admin}, false, 1},
		{reader{"kube-vip", kubeconfig.Admin}, true, 1},
		{reader{kubeadm.ControllerManager, kubeconfig.ControllerManager}, true, 0},
	} {
		if n, err := terminate(proc, kubeadm.Dir, c.reader, c.changed); n != c.want || err != nil {
			t.Errorf("%+v: %d %v", c, n, err)
		}
	}
}

// kube-vip goes by the file that its container was given.
func TestRenewRestartsKubeVIP(t *testing.T) {
	for provider, want := range map[node.VIPProvider]bool{node.VIPKubeVIP: true, node.VIPKeepalived: false} {
		s := controlPlaneFiles(t, node.PKIShared, year, time.Now().Add(-day))
		s.Node.VIP.Provider = provider
		putProcess(t, s.path("/proc"), "999999999", "/kube-vip\x00manager\x00", mounted("/kubernetes/admin.conf//deleted", "/etc/kubernetes/admin.conf"))
		r, err := Renew(t.Context(), s, 120*day)
		if err != nil || slices.Contains(r.Restarted, "kube-vip") != want {
			t.Errorf("%s: %+v %v", provider, r, err)
		}
	}
}

// One kubeconfig that cannot be written does not keep those that were from being read.
func TestRenewRestartsWhatItWroteBeforeItFailed(t *testing.T) {
	s := controlPlaneFiles(t, node.PKIShared, year, time.Now().Add(-year*70/100))
	conf := s.path(kubeadm.Dir + "/" + kubeconfig.Scheduler)
	if err := os.Remove(conf); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(conf, 0o755); err != nil {
		t.Fatal(err)
	}
	putProcess(t, s.path("/proc"), "999999999", "kube-controller-manager\x00--kubeconfig="+s.path(kubeadm.Dir)+"/controller-manager.conf\x00", "")
	r, err := Renew(t.Context(), s, 120*day)
	if err == nil || !strings.Contains(err.Error(), "renewing kubeconfigs: ") || !slices.Equal(r.Restarted, []string{kubeadm.ControllerManager}) {
		t.Errorf("%+v %v", r, err)
	}
}

// After a boot the API server is waited for.
func TestRenewWaitsForTheAPI(t *testing.T) {
	looks := 0
	s := controlPlaneFiles(t, node.PKIShared, year, time.Now().Add(-day))
	kept := &store{objects: map[string]map[string]any{}}
	kept.put(t, tokenPath("abcdef"), token("abcdef", time.Now().Add(day).UTC().Format(time.RFC3339)))
	serveOwnAPI(t, s, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/livez" {
			looks++
		}
		if looks < 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		kept.ServeHTTP(w, req)
	}))
	s.Node.Join.Renew = true
	r, err := Renew(t.Context(), s, 120*day)
	if err != nil || looks != 2 || len(r.Tokens) > 0 {
		t.Errorf("%+v %v, looked %d times", r, err, looks)
	}
}

// The administrator's certificate is judged like the others.
func TestAdminCertificateIsDue(t *testing.T) {
	s := controlPlaneFiles(t, node.PKIShared, year, time.Now().Add(-year))
	ca, err := s.authority()
	if err != nil {
		t.Fatal(err)
	}
	spec := pki.Users("")[kubeconfig.Admin]
	for age, want := range map[time.Duration]string{day: "", year * 70 / 100: "ends at ", year + time.Hour: "expired at ", -time.Hour: "not valid before "} {
		m := s.maker()
		m.Now = time.Now().Add(-age)
		pair, err := m.Leaf(spec, ca)
		if err != nil {
			t.Fatal(err)
		}
		m.Now, m.RenewBefore = time.Now(), 120*day
		err = adminFits(spec, string(pair.CertPEM()), pair.Key.Public(), ca, m)
		if (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("made %s ago: %v, want %q", age, err, want)
		}
	}
}

// A worker's certificate may be signed long after its run began.
func TestCertificateSignedLateInTheRun(t *testing.T) {
	s, _ := kubeletAged(t, node.PKIShared, time.Now())
	s.Start = time.Now().Add(-time.Hour)
	if err := s.bootstrapped(); err != nil {
		t.Error(err)
	}
}
