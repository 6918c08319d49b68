// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// authorityFrom is an authority made at a moment.
func authorityFrom(t *testing.T, at time.Time) string {
	t.Helper()
	m := &pki.Maker{Algorithm: node.ECDSAP256, CAValidity: time.Hour, Now: at}
	key, err := m.Key()
	if err != nil {
		t.Fatal(err)
	}
	pair, err := m.Authority(pki.Spec{Name: "ca", CommonName: "kubernetes"}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pair.CertPEM())
}

// A clock that says what cannot be is refused on every machine, as long as it says so.
func TestClock(t *testing.T) {
	made := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	const created = "2026-11-21T00:00:00Z"
	for name, c := range map[string]struct {
		created   string
		authority bool
		clock     time.Time
		want      string
	}{
		"right":                          {created, true, made, ""},
		"never set":                      {"", false, time.Unix(0, 0), "clock: the clock says 1970-01-01T00:00:00Z; set it"},
		"nothing is known":               {"", false, builtAfter, ""},
		"before the rendering":           {created, false, made.Add(-6 * time.Minute), "clock: the clock says 2026-11-20T23:54:00Z, and the cluster was first rendered at 2026-11-21T00:00:00Z; set the clock"},
		"long before the rendering":      {created, true, builtAfter, "the cluster was first rendered at"},
		"never set, and it was rendered": {created, true, time.Unix(0, 0), "clock: the clock says 1970-01-01T00:00:00Z; set it"},
		"a little behind":                {created, true, made.Add(-5 * time.Minute), ""},
		"in another zone":                {"2026-11-21T01:00:00+01:00", false, made.Add(-4 * time.Minute), ""},
		"ahead":                          {created, true, made.Add(10 * 365 * 24 * time.Hour), ""},
		"before the authority":           {"", true, made.Add(-6 * time.Minute), "clock: the clock says 2026-11-20T23:54:00Z, and the cluster's authority was made at 2026-11-20T23:55:00Z; set the clock"},
		"an authority that was rotated":  {"2026-01-02T00:00:00Z", true, made.Add(-time.Hour), "the cluster's authority was made at"},
	} {
		for _, role := range []node.Role{node.ControlPlane, node.Worker} {
			files := map[string]string{RolesFile: "control-plane worker"}
			if c.authority {
				files[kubeadm.PKIDir+"/ca.crt"] = authorityFrom(t, made)
			}
			m, _ := machineWith(t, files)
			m.Node.Role, m.Node.Cluster.Created, m.Start = role, c.created, c.clock
			m.Now = func() time.Time { return c.clock }
			if err := m.Check(); (err == nil) != (c.want == "") || err != nil && !only(err, c.want) {
				t.Errorf("%s, %s: %v, want %q and nothing else", name, role, err, c.want)
			}
			// Time is synchronised while first boot looks again.
			m.Now = func() time.Time { return made.Add(time.Hour) }
			if err := m.Check(); err != nil || c.want != "" && !m.Start.Equal(made.Add(time.Hour)) {
				t.Errorf("%s, %s, after the clock was set: %v, the run is of %s", name, role, err, m.Start)
			}
		}
	}
}
