// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/addons"
	"github.com/imgbuild/imgbuild/firstboot/cluster"
	"github.com/imgbuild/imgbuild/firstboot/discovery"
	"github.com/imgbuild/imgbuild/firstboot/host"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// State is what the phases of one run share. The fields of the first group are set before
// the run; Config is set by phase identity, which everything that reads it needs.
type State struct {
	// Root is the directory the node's files are below: "/" on a node.
	Root string
	Node *node.Node
	// Start is the moment of this run, from which validities and expiries count.
	Start time.Time
	Log   *slog.Logger
	// Mark records a moment of the time line.
	Mark func(name string)
	// StartUnit starts a systemd unit without waiting for it.
	StartUnit func(ctx context.Context, unit string) error
	// RestartUnit restarts one without waiting for it.
	RestartUnit func(ctx context.Context, unit string) error
	// StopUnit stops one and waits until it has.
	StopUnit func(ctx context.Context, unit string) error
	// Containerd is the path of containerd's socket.
	Containerd string
	// Host finds out about the machine; it may wait for the network.
	Host func(ctx context.Context, root string, n *node.Node) (kubeadm.Host, error)
	// Poll is slept between two looks at something that is awaited. Looking more often
	// takes processor time from what is being waited for.
	Poll time.Duration
	// now is the clock.
	now func() time.Time
	// inspect is phase preflight.
	inspect func(context.Context, *State) error

	Config *kubeadm.Config
	// Membership is set by phase discovery on control planes, Found wherever the cluster
	// was looked for with a token in this run.
	Membership *Membership
	Found      *discovery.Cluster
	// loopbackAddress replaces the loopback address in tests that hold several machines.
	loopbackAddress string
	// APIWait is how long this run waited for the API's first answer.
	APIWait time.Duration
	// written is closed when phase api is done. KubeletPaused says that the kubelet was frozen
	// until then.
	written       chan struct{}
	KubeletPaused bool
}

// NewState returns the state of a run on this machine.
func NewState(n *node.Node, log *slog.Logger, mark func(string)) *State {
	return &State{
		Root: "/", Node: n, Start: time.Now(), Log: log, Mark: mark, StartUnit: queued("start"), RestartUnit: queued("restart"), StopUnit: stopUnit,
		Containerd: "/run/containerd/containerd.sock", Host: host.Find, now: time.Now, Poll: 250 * time.Millisecond, inspect: inspect, written: make(chan struct{}),
	}
}

// path returns the place of a node's file below the root.
func (s *State) path(p string) string { return filepath.Join(s.Root, p) }

// absent says that there is no such file.
func (s *State) absent(path string) bool {
	_, err := os.Lstat(s.path(path))
	return errors.Is(err, os.ErrNotExist)
}

func (s *State) maker() *pki.Maker {
	return &pki.Maker{Algorithm: s.Config.Algorithm, CAValidity: s.Config.CAValidity, Validity: s.Config.Validity, Now: s.Start}
}

// authority reads the cluster's authority from disk; Key is nil with an external one.
func (s *State) authority() (*pki.Pair, error) {
	text, err := os.ReadFile(s.path(kubeadm.PKIDir + "/ca.crt"))
	if err != nil {
		return nil, err
	}
	p := &pki.Pair{}
	if p.Cert, err = pki.ParseCert(text); err != nil {
		return nil, fmt.Errorf("%s/ca.crt: %w", kubeadm.PKIDir, err)
	}
	if s.Config.ExternalCA {
		return p, nil
	}
	if text, err = os.ReadFile(s.path(kubeadm.PKIDir + "/ca.key")); err != nil {
		return nil, err
	}
	if p.Key, err = pki.ParseKey(text); err != nil {
		return nil, fmt.Errorf("%s/ca.key: %w", kubeadm.PKIDir, err)
	}
	return p, nil
}

// loopback is the address at which this machine's programs listen for itself.
func (s *State) loopback() string {
	if s.loopbackAddress != "" {
		return s.loopbackAddress
	}
	return s.Config.Loopback()
}

// client returns a client of this machine's own API server, on a worker one of the endpoint
// with the kubelet's identity. It logs in as a member of
// system:masters, whom the API server trusts before any RBAC object exists; where that
// file is absent (a joined control plane) as the cluster's administrator.
func (s *State) client() (*cluster.Client, error) {
	if s.Config.Role == node.Worker {
		return cluster.FromFile(s.path(kubeadm.Dir+"/"+kubeconfig.Kubelet), "")
	}
	return s.clientOf(s.Config.LocalURL())
}

// clientOf returns a control plane's client of the API server at a URL.
func (s *State) clientOf(server string) (*cluster.Client, error) {
	file := s.path(kubeadm.Dir + "/" + kubeconfig.SuperAdmin)
	if _, err := os.Stat(file); err != nil {
		file = s.path(kubeadm.Dir + "/" + kubeconfig.Admin)
	}
	return cluster.FromFile(file, server)
}

// objects returns what is written in some of the addons phases.
func (s *State) objects(phases ...addons.Phase) ([]addons.Object, error) {
	ca, err := s.authority()
	if err != nil {
		return nil, err
	}
	all, err := addons.Objects(s.Config, addons.Inputs{CAPEM: ca.CertPEM()})
	if err != nil {
		return nil, err
	}
	return addons.In(all, phases...), nil
}

// sleep waits one polling interval; it returns what ended ctx.
func (s *State) sleep(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(s.Poll):
		return nil
	}
}

// queued returns a function that queues a job for a unit. Waiting for the job would tie
// first boot to readiness protocols it checks better itself.
func queued(verb string) func(ctx context.Context, unit string) error {
	return func(ctx context.Context, unit string) error { return systemctl(ctx, verb, "--no-block", unit) }
}

func stopUnit(ctx context.Context, unit string) error { return systemctl(ctx, "stop", unit) }

// reloadUnit makes a unit read its configuration, if it runs.
func reloadUnit(ctx context.Context, unit string) error {
	return systemctl(ctx, "try-reload-or-restart", unit)
}

func systemctl(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "systemctl", args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
