// SPDX-License-Identifier: Apache-2.0

package node

import (
	"testing"
	"time"
)

// A moment may stand with or without quotes and in any zone.
func TestCreated(t *testing.T) {
	want := time.Date(2026, 11, 21, 11, 45, 14, 0, time.UTC)
	for _, text := range []string{"2026-11-21T11:45:14Z", "'2026-11-21T11:45:14Z'", "2026-11-21T12:45:14+01:00"} {
		n, err := Parse("n", []byte(minimal+"cluster: {created: "+text+"}"))
		if err != nil || !n.Cluster.CreatedAt().Equal(want) {
			t.Errorf("%s: %+v %v", text, n, err)
		}
	}
	if n, err := Parse("n", []byte(minimal)); err != nil || !n.Cluster.CreatedAt().IsZero() {
		t.Errorf("none: %+v %v", n, err)
	}
}
