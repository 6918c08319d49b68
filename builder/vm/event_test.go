// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"testing"
	"time"
)

func TestParseLine(t *testing.T) {
	const ms = time.Millisecond
	cases := []struct {
		line string
		want Event
	}{
		{"imgbuild: start cp-1 role control-plane t=18.9s", Event{Kind: FirstbootStarted, Name: "cp-1", Uptime: 18900 * ms}},
		{"imgbuild: phase certs ok 0.12s (t=21.3s)", Event{Kind: PhaseEnded, Name: "certs", State: "ok", Took: 120 * ms, Uptime: 21300 * ms}},
		{"imgbuild: phase addons failed 4.00s (t=21.3s): no: such thing", Event{Kind: PhaseEnded, Name: "addons", State: "failed", Took: 4000 * ms, Uptime: 21300 * ms, Reason: "no: such thing"}},
		{"imgbuild: phase etcd retrying 4.00s (t=1.0s): later", Event{Kind: PhaseEnded, Name: "etcd", State: "retrying", Took: 4000 * ms, Uptime: 1000 * ms, Reason: "later"}},
		{"[   20.123456] imgbuild: mark api t=20.1s", Event{Kind: Mark, Name: "api", Uptime: 20100 * ms}},
		{"firstboot[312]: imgbuild: node cp-1 Ready t=48.2s", Event{Kind: NodeReady, Name: "cp-1", Uptime: 48200 * ms}},
		{"imgbuild: node cp-1 failed t=48.2s: phase certs: no", Event{Kind: NodeFailed, Name: "cp-1", Uptime: 48200 * ms, Reason: "phase certs: no"}},
		{"imgbuild: this machine cannot start. Failed units:", Event{Kind: CannotStart, Uptime: -1, Reason: "the initrd stopped; the console says why"}},
		{"[  133.5] report-failure[230]: imgbuild: stopped. Correct the cause and restart the machine.", Event{Kind: Explained, Uptime: -1, Reason: "the initrd stopped; the console says why"}},
		{"[    0.000000] Linux version 6.12.107+deb13-amd64", Event{Kind: KernelStarted}},
		{"[    4.674566] Run /init as init process", Event{Kind: InitStarted, Uptime: 4674566 * time.Microsecond}},
		{"[   14.500000] systemd[1]: Switching root.", Event{Kind: RootSwitched, Uptime: 14500 * ms}},
		{"[    4.538589] Kernel panic - not syncing: VFS", Event{Kind: Panicked, Uptime: 4538589 * time.Microsecond}},
		{"[    5.199662] Oops: int3: 0000 [#2] PREEMPT SMP NOPTI", Event{Kind: Oopsed, Name: "int3", Uptime: 5199662 * time.Microsecond}},
		{"[    5.199662] Oops: general protection fault, probably for non-canonical address 0x1: 0000 [#1] SMP", Event{Kind: Oopsed, Name: "general protection fault, probably for non-canonical address 0x1", Uptime: 5199662 * time.Microsecond}},
		{`BdsDxe: starting Boot0001 "UEFI Misc Device" from PciRoot(0x0)`, Event{Kind: LoaderStarted, Uptime: -1}},
		{"Booting initrd of imgbuild 0.1.0 (controlplane).", Event{Kind: InitStarted, Uptime: -1}},
		{"Welcome to imgbuild 0.1.0 (controlplane)!", Event{Kind: RootSwitched, Uptime: -1}},
		{"         Starting ignition-fetch-offline.se…onfig where no network is needed...", Event{Kind: Mark, Name: "ignition-fetch-offline", Uptime: -1}},
		{"[  OK  ] Finished ignition-complete.service… record that the config is applied.", Event{Kind: Mark, Name: "ignition-done", Uptime: -1}},
		{"         Starting ignition.service - Ignition: disks, files, users and units...", Event{Kind: Mark, Name: "ignition-all stages", Uptime: -1}},
		{"[  OK  ] Finished ignition.service - Ignition: disks, files, users and units.", Event{Kind: Mark, Name: "ignition-done", Uptime: -1}},
		{"[  OK  ] Finished ignition-mount.service - …n: mount what the config writes to.", Event{}},
		{"imgbuild: phase certs fine 0.12s (t=21.3s)", Event{}},
		{"imgbuild: phase certs ok", Event{}},
		{"somebody said imgbuild: mark x t=1.0s", Event{}},
		{"Run /init as init process", Event{}},
	}
	for _, c := range cases {
		got, ok := ParseLine(Line{At: 7, Text: c.line})
		if ok != (c.want.Kind != "") {
			t.Errorf("%q: recognised is %v", c.line, ok)
			continue
		}
		if !ok {
			continue
		}
		if c.want.At, c.want.Text = 7, c.line; got != c.want {
			t.Errorf("%q:\n got %+v\nwant %+v", c.line, got, c.want)
		}
	}
}

func FuzzParseLine(f *testing.F) {
	f.Add("imgbuild: phase certs ok 0.12s (t=21.3s)")
	f.Add("[    0.000000] Linux version 6")
	f.Add("imgbuild: mark x t=99999999999999999999999999s")
	f.Fuzz(func(t *testing.T, s string) {
		if e, ok := ParseLine(Line{Text: s}); ok && (e.Kind == "" || e.Took < 0 || e.Uptime < -1) {
			t.Errorf("%q: %+v", s, e)
		}
	})
}
