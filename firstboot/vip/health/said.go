// SPDX-License-Identifier: Apache-2.0

package health

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// said is what the files say. The server and the address change independently.
type said struct {
	watch *Watch
	mu    sync.Mutex
	// healthy is what StateFile says. Owner is what OwnerFile says, nil before it says anything.
	healthy bool
	owner   *bool
}

// health says how the server is. A machine that is not healthy is no owner to keep: that goes
// first, and comes last.
func (s *said) health(now bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.healthy = now; now {
		return errors.Join(write(s.watch.StateFile, now), s.ownership())
	}
	return errors.Join(s.ownership(), write(s.watch.StateFile, now))
}

// address looks who has the address now.
func (s *said) address() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ownership()
}

func (s *said) ownership() error {
	if !s.watch.ownership() {
		return nil
	}
	has := false
	if s.healthy {
		addresses, err := net.InterfaceAddrs()
		if err != nil {
			return err
		}
		has = slices.ContainsFunc(addresses, func(a net.Addr) bool {
			p, err := netip.ParsePrefix(a.String())
			return err == nil && p.Addr().Unmap() == s.watch.Address
		})
	}
	if s.owner != nil && *s.owner == has {
		return nil
	}
	s.owner = &has
	return write(s.watch.OwnerFile, has)
}

// write replaces a file in one step. A reader sees the old or the new one; in memory there is
// nothing to sync.
func write(file string, yes bool) error {
	text := "0\n"
	if yes {
		text = "1\n"
	}
	tmp := filepath.Join(filepath.Dir(file), "."+filepath.Base(file)+".new")
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, file)
}

// Clear takes files away, which counts as unhealthy and as no owner. It is for after a watch that
// ended without doing so.
func Clear(files ...string) error {
	var errs []error
	for _, f := range files {
		if err := os.Remove(f); f != "" && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
