// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
	"github.com/imgbuild/imgbuild/firstboot/phases"
)

// resetting is a machine after its first boot, whose etcd does not answer.
type resetting struct {
	*Env
	out, errs *bytes.Buffer
	// log has what was stopped and started.
	log string
}

const volume = kubeadm.KubeletDir + "/pods/x/volume/y"

func newResetting(t *testing.T, systemctl string) *resetting {
	t.Helper()
	r := &resetting{log: filepath.Join(t.TempDir(), "log")}
	r.Env, r.out, r.errs = env(t, document+"pki: {algorithm: ECDSA-P256}\ntimeouts: {etcdAPICall: 1s}\n")
	r.Host = func(context.Context, string, *node.Node) (kubeadm.Host, error) {
		return kubeadm.Host{Hostname: "cp-1", Address: netip.MustParseAddr("127.201.1.1"), KubernetesVersion: "v1.36.3"}, nil
	}
	put(t, r.log, "")
	bin := t.TempDir()
	if err := os.WriteFile(bin+"/systemctl", []byte("#!/bin/sh\necho \"$*\" >>"+r.log+"\n"+systemctl+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	makeCertificates(t, r.Env)
	for _, path := range []string{phases.DoneMarker, phase.JournalPath, volume, kubeadm.EtcdDataDir + "/member/wal/x"} {
		put(t, filepath.Join(r.Root, path), "x")
	}
	put(t, filepath.Join(r.Root, "/proc/self/mountinfo"), "20 1 0:42 / / rw - tmpfs tmpfs rw\n")
	return r
}

// stopPods replaces what stops the pods.
func (r *resetting) stopPods(t *testing.T, err error) {
	r.StopPods = func(context.Context, *phases.State) error {
		put(t, r.log, read(t, r.log)+"pods\n")
		return err
	}
}

// left says whether every file of the machine is there, and whether none is.
func (r *resetting) left(t *testing.T) (kept, gone bool) {
	t.Helper()
	kept, gone = true, true
	for _, path := range []string{phases.DoneMarker, phase.JournalPath, volume, kubeadm.EtcdDataDir + "/member/wal/x", kubeadm.PKIDir + "/apiserver.key"} {
		_, err := os.Stat(filepath.Join(r.Root, path))
		kept, gone = kept && err == nil, gone && errors.Is(err, os.ErrNotExist)
	}
	return kept, gone
}

func TestReset(t *testing.T) {
	again := []string{"start --no-block firstboot.service", "start --no-block firstboot-renew.timer"}
	for _, c := range []struct {
		name, systemctl, args string
		edit                  func(t *testing.T, r *resetting)
		status                int
		want                  string   // on either stream
		did                   []string // in this order
		not                   string   // was not done
	}{
		{"without confirmation", "", "", nil, ExitUsage, "confirm with --yes", nil, "stop"},
		{"first boot cannot be stopped", "test $2 != firstboot-renew.timer", "--yes --force", nil, ExitFailed, "exit status 1", again, "pods"},
		{"etcd is silent", "", "--yes", nil, ExitFailed, "--force resets this machine anyway", append([]string{"stop firstboot.service"}, again...), "pods"},
		{"a pod is stuck", "", "--yes --force", func(t *testing.T, r *resetting) { r.stopPods(t, errors.New("the pods do not end")) },
			ExitFailed, "the pods do not end; nothing was removed from the disk: run firstboot reset again", []string{"stop firstboot.service", "pods"}, "start"},
		{"an interruption", "", "--yes --force", func(t *testing.T, r *resetting) { r.stopPods(t, context.Canceled) }, ExitInterrupted, "nothing was removed", []string{"pods"}, "start"},
		{"the kubelet does not stop", "test $2 != kubelet.service", "--yes --force", func(_ *testing.T, r *resetting) { r.StopPods = nil }, ExitFailed, "nothing was removed", []string{"stop kubelet.service"}, "containerd"},
		{"a volume is mounted", "", "--yes --force", func(t *testing.T, r *resetting) {
			put(t, filepath.Join(r.Root, "/proc/self/mountinfo"), "20 1 0:42 / "+filepath.Dir(volume)+" rw - tmpfs tmpfs rw\n")
		}, ExitFailed, "still mounted: " + filepath.Dir(volume), []string{"pods"}, "start"},
		{"by force", "", "--yes --force", nil, ExitOK, "first boot runs again when it starts the next time\nremove its node with: kubectl delete node cp-1", []string{"stop firstboot.service", "pods"}, "start"},
		{"with no member to ask about", "", "--yes", func(t *testing.T, r *resetting) {
			if err := os.RemoveAll(filepath.Join(r.Root, kubeadm.PKIDir)); err != nil {
				t.Fatal(err)
			}
		}, ExitOK, "this machine has no etcd member\n", []string{"stop firstboot.service", "pods"}, "start"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newResetting(t, c.systemctl)
			r.stopPods(t, nil)
			if c.edit != nil {
				c.edit(t, r)
			}
			status := Main(t.Context(), r.Env, append([]string{"reset"}, strings.Fields(c.args)...))
			if text := r.out.String() + r.errs.String(); status != c.status || !strings.Contains(text, c.want) {
				t.Errorf("exit status %d, want %d and %q:\n%s", status, c.status, c.want, text)
			}
			if kept, gone := r.left(t); kept != (status != ExitOK) || gone != (status == ExitOK) {
				t.Errorf("all files are there: %v, none: %v", kept, gone)
			}
			did := read(t, r.log)
			if lines := strings.Split(did, "\n"); strings.Contains(did, c.not) || !slices.IsSortedFunc(c.did, func(a, b string) int { return slices.Index(lines, a) - slices.Index(lines, b) }) ||
				slices.ContainsFunc(c.did, func(d string) bool { return !slices.Contains(lines, d) }) {
				t.Errorf("did %q, want %q and no %q", lines, c.did, c.not)
			}
		})
	}
}

// A reset in a cluster that grew does not promise what must not happen.
func TestNextStart(t *testing.T) {
	if got := nextStart(nil); got != "first boot runs again when it starts the next time" {
		t.Error(got)
	}
	got := nextStart([]string{"cp-2", "cp-3"})
	for _, want := range []string{"must not start again with its node document", "cp-2, cp-3", "imgbuild cluster render"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q lacks %q", got, want)
		}
	}
}
