// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// TestPauseKubelet has a regular file for the freezer, and listeners for etcd and
// the API server.
func TestPauseKubelet(t *testing.T) {
	const address = "127.3.1.1"
	api, _ := apiOf(t, node.Peer{Address: address}, "0")
	u, _ := url.Parse(api.URL)
	port, _ := strconv.ParseInt(u.Port(), 10, 32)
	etcd, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(kubeadm.EtcdClientPort)))
	if err != nil {
		t.Fatal(err)
	}
	defer etcd.Close()

	s := founder(t, "cp-1", int32(port))
	s.Membership = &Membership{Members: []node.Peer{{Name: "cp-1", Address: address}}}
	s.Config.Address, s.loopbackAddress, s.Poll = netip.MustParseAddr(address), address, 10*time.Millisecond
	freezer := s.path("/sys/fs/cgroup/system.slice/kubelet.service/cgroup.freeze")
	state := func() string {
		text, _ := os.ReadFile(freezer)
		return string(text)
	}
	// run lets first boot pause the kubelet while meanwhile happens, and expects what the freezer
	// has then and in the end.
	run := func(name string, meanwhile func(), wantDuring, wantAfter string, wantPaused bool) {
		t.Helper()
		s.KubeletPaused, s.written = false, make(chan struct{})
		during := make(chan string, 1)
		time.AfterFunc(200*time.Millisecond, func() {
			got := state()
			meanwhile()
			during <- got
		})
		if err := pauseKubelet(t.Context(), s); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := <-during; got != wantDuring || state() != wantAfter || s.KubeletPaused != wantPaused {
			t.Errorf("%s: the freezer had %q and has %q, paused %v; want %q, %q, %v", name, got, state(), s.KubeletPaused, wantDuring, wantAfter, wantPaused)
		}
	}
	written := func() { s.markWritten(); s.markWritten() }
	if err := s.ThawKubelet(); err != nil {
		t.Errorf("without a kubelet: %v", err)
	}
	run("a kubelet without a control group", written, "", "", false)

	if err := os.MkdirAll(filepath.Dir(freezer), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(freezer, []byte("0"), 0o644); err != nil {
		t.Fatal(err)
	}
	run("until the API is there", written, "1", "0", true)

	run("an API that was written to before a power cut", func() {}, "1", "0", false)

	s.Membership.Joined = true
	run("a machine that joins", written, "0", "0", false)
	s.Membership.Joined = false
	run("etcd ends", func() { etcd.Close() }, "1", "0", false)

	if err := os.WriteFile(freezer, []byte("1"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.ThawKubelet(); err != nil || state() != "0" {
		t.Errorf("after a run that was killed: %v, the freezer has %q", err, state())
	}
}
