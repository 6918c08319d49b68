// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/node"
)

// What a run signs counts from the moment at which preflight found the clock right.
func TestPreflightMovesTheRun(t *testing.T) {
	created := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	n := &node.Node{Role: node.Worker, Node: node.Machine{Name: "w-1"}, Cluster: node.Cluster{Created: created.Format(time.RFC3339)}}
	node.SetDefaults(n)
	s := &State{Root: t.TempDir(), Node: n, Start: created.Add(-time.Hour), Log: slog.New(slog.DiscardHandler)}
	for clock, refused := range map[time.Time]bool{created.Add(-time.Hour): true, created.Add(time.Minute): false} {
		s.now = func() time.Time { return clock }
		// Nothing else of this machine is there, either.
		if err := inspect(t.Context(), s); err == nil || strings.Contains(err.Error(), "clock: the clock says 2026-11-20T23:00:00Z, and the cluster was first rendered at 2026-11-21T00:00:00Z") != refused {
			t.Errorf("at %s: %v", clock, err)
		}
		if !refused && !s.Start.Equal(clock) {
			t.Errorf("the run is of %s", s.Start)
		}
		s.Start = created.Add(-time.Hour)
	}
}
