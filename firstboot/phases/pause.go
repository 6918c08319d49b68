// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
)

// maxPause is how long the kubelet may be frozen: less than the three minutes after which it
// takes its container runtime for broken. From the API's first answer to its first object it
// may take grace.
const (
	maxPause = 2 * time.Minute
	grace    = 5 * time.Second
)

// pauseKubelet freezes the kubelet from the moment etcd and the API server run until phase api
// has written to the API. A kubelet that asks an API that is not there waits longer after every
// attempt, up to two minutes for what a node needs to be Ready, and takes processor time that
// the API server lacks. Frozen, it makes its next attempt as soon as it is thawed. A restart
// would do that, too, but a kubelet that is restarted forgets that a container has not passed
// its startup probe (kubernetes 1.36), and kills an API server that is not healthy 80 seconds
// later.
//
// It is an attempt: without it phase kubelet-connect restarts the kubelet. While the kubelet is
// frozen, nobody starts a container that ends, so that ends the pause. A power cut leaves
// nothing behind; a first boot that was killed thaws the kubelet when it starts again.
func pauseKubelet(ctx context.Context, s *State) (err error) {
	if len(s.predecessors()) > 0 || s.joined() {
		return nil // this kubelet has an API to ask, or had one to wait for
	}
	ctx, cancel := context.WithTimeout(ctx, maxPause)
	defer cancel()
	if !s.untilServing(ctx, true, s.Poll) {
		return nil
	}
	if err := s.freezeKubelet("1"); err != nil {
		s.Log.Warn("the kubelet asks for the API while it starts", "error", err)
		return nil
	}
	defer func() { err = errors.Join(err, s.ThawKubelet()) }()
	ended := make(chan struct{}, 2)
	go func() {
		s.untilServing(ctx, false, healthPause)
		ended <- struct{}{}
	}()
	go func() {
		// After a power cut phase api may be done already and write nothing.
		if firstAnswer(ctx, s.Config.LocalEndpoint()) == nil {
			pause(ctx, grace)
		}
		ended <- struct{}{}
	}()
	select {
	case <-s.written:
		s.KubeletPaused = true
	case <-ended:
	}
	return nil
}

// markWritten says that phase api is done, which may be so more than once in a run.
func (s *State) markWritten() {
	select {
	case <-s.written:
	default:
		close(s.written)
	}
}

// ThawKubelet ends the pause that a run which was killed may have left.
func (s *State) ThawKubelet() error {
	err := s.freezeKubelet("0")
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it does not run
	}
	return err
}

// freezeKubelet writes to the freezer of the unit's control group. systemctl freeze would do
// the same, but wants a message bus, and nodes have none.
func (s *State) freezeKubelet(value string) error {
	f, err := os.OpenFile(s.path("/sys/fs/cgroup/system.slice/"+KubeletUnit+"/cgroup.freeze"), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// untilServing waits until both the API server and etcd of this machine accept connections, or
// until one of them does not, and says whether that is so before the end of ctx.
func (s *State) untilServing(ctx context.Context, want bool, every time.Duration) bool {
	etcd := net.JoinHostPort(s.loopback(), strconv.Itoa(kubeadm.EtcdClientPort))
	for {
		if (accepts(ctx, s.Config.LocalEndpoint()) && accepts(ctx, etcd)) == want {
			return ctx.Err() == nil
		}
		if !pause(ctx, every) {
			return false
		}
	}
}

// pause sleeps and says whether ctx is still running.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// accepts says whether somebody listens at host:port.
func accepts(ctx context.Context, address string) bool {
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", address)
	if err == nil {
		conn.Close()
	}
	return err == nil
}
