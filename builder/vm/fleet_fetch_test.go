// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/cluster"
	"github.com/imgbuild/imgbuild/builder/fault"
)

// fetching is a fleet without machines whose kubeconfig get writes.
func fetching(t *testing.T, get func(f *Fleet, file string) error) *Fleet {
	t.Helper()
	f, _ := paper(t)
	dir := t.TempDir()
	f.opts.Dir, f.opts.Network, f.opts.API = filepath.Join(dir, "run"), netip.MustParsePrefix("10.9.0.1/24"), []string{"10.9.0.2:6443"}
	file := filepath.Join(dir, "admin.conf")
	f.opts.Fetch = &Fetch{File: file, Get: func(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error)) error {
		if _, err := dial(ctx, "tcp", "192.0.2.1:6443"); err == nil || !strings.Contains(err.Error(), "not on the segment") {
			t.Errorf("the way does not lead into the segment: %v", err)
		}
		return get(f, file)
	}}
	return f
}

func admin(t *testing.T, file string) error {
	t.Helper()
	config, err := SingleNode("cp-1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	text, err := config.Ignition()
	if err != nil {
		t.Fatal(err)
	}
	return WriteAdmin(file, text, "10.9.0.2:6443")
}

func proxied(t *testing.T, file string) bool {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(text), "proxy-url: http://127.0.0.1:")
}

// A kubeconfig that only the cluster can make comes when all are Ready, and leads into the
// segment for as long as the fleet runs.
func TestFetch(t *testing.T) {
	tries := 0
	f := fetching(t, func(f *Fleet, file string) error {
		if tries++; tries == 1 {
			return errors.New("not published yet")
		}
		return admin(t, file)
	})
	if err := f.start(); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Result().Kubeconfig != "" {
		t.Error("there is a kubeconfig before anything is Ready")
	}
	if err := f.WaitReady(t.Context()); err != nil || tries != 2 {
		t.Fatalf("after %d tries: %v", tries, err)
	}
	file := f.Result().Kubeconfig
	if file != f.opts.Fetch.File || !proxied(t, file) {
		t.Errorf("%q leads nowhere", file)
	}
	if err := f.WaitReady(t.Context()); err != nil || tries != 2 {
		t.Errorf("waiting again: %d tries, %v", tries, err)
	}
	f.Close()
	if proxied(t, file) {
		t.Error("the proxy is still named when the fleet has ended")
	}
}

// A kubeconfig that an earlier run fetched leads in from the start; one that does not open the
// API any more is replaced.
func TestFetchedBefore(t *testing.T) {
	tries := 0
	f := fetching(t, func(f *Fleet, file string) error { tries++; return admin(t, file) })
	if err := admin(t, f.opts.Fetch.File); err != nil {
		t.Fatal(err)
	}
	if err := f.start(); fault.ClassOf(err) != fault.Config || !strings.Contains(err.Error(), "remove its kubeconfig") {
		t.Errorf("without the disks of that cluster: %v", err)
	}
	f.Close()
	f = fetching(t, func(f *Fleet, file string) error { tries++; return admin(t, file) })
	disk := filepath.Join(f.opts.Dir, "cp-1", overlayFile)
	if err := errors.Join(admin(t, f.opts.Fetch.File), os.MkdirAll(filepath.Dir(disk), 0o700), os.WriteFile(disk, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := f.start(); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Result().Kubeconfig == "" || !proxied(t, f.opts.Fetch.File) || !f.consolesTell() {
		t.Error("the kubeconfig of before is not used")
	}
	if err := f.WaitReady(t.Context()); err != nil || tries != 1 || !proxied(t, f.opts.Fetch.File) {
		t.Errorf("%d tries, %v", tries, err)
	}
}

// Another cluster's authority does not become the right one by waiting.
func TestFetchFromAnotherCluster(t *testing.T) {
	f := fetching(t, func(*Fleet, string) error {
		return fault.Wrap(fault.Network, cluster.ErrOtherCluster, "remove the authority")
	})
	if err := f.start(); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.WaitReady(t.Context()); fault.ClassOf(err) != fault.Machine || !strings.Contains(err.Error(), "next: remove the authority") {
		t.Error(err)
	}
}
