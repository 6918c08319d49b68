// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/vm"
)

func TestBoard(t *testing.T) {
	hosts := []vm.FleetHost{{Name: "cp-1"}, {Name: "worker-1"}}
	show := func(width int) string {
		var out bytes.Buffer
		b := newBoard(&out, hosts, width)
		b.event("worker-1", vm.Event{At: 1500 * time.Millisecond, Kind: vm.KernelStarted})
		b.event("cp-1", vm.Event{At: 9 * time.Second, Kind: vm.PhaseEnded, Name: "certs", State: "failed", Took: time.Second, Reason: "no room"})
		b.event("cp-1", vm.Event{At: 12 * time.Second, Kind: vm.Noted, Text: "KVM is not used: /dev/kvm is not there"})
		b.event("", vm.Event{At: 20 * time.Second, Kind: vm.APIAnswered})
		return out.String()
	}
	plain := "worker-1    1.5  kernel\n" +
		"cp-1        9.0  certs                  failed 1.00 s: no room\n" +
		"cp-1       12.0  KVM is not used: /dev/kvm is not there\n" +
		"*          20.0  the API answers\n"
	columns := "cp-1                     worker-1\n" +
		"----------------------   ----------------------\n" +
		"                         1.5 kernel\n" +
		"9.0 certs failed 1.00 …\n" +
		"cp-1        9.0  certs                  failed 1.00 s: no room\n" +
		"12.0 KVM is not used: …\n" +
		"cp-1       12.0  KVM is not used: /dev/kvm is not there\n" +
		"*          20.0  the API answers\n"
	for width, want := range map[int]string{0: plain, 47: plain, 50: columns} {
		if got := show(width); got != want {
			t.Errorf("%d columns:\n%s\nwant:\n%s", width, got, want)
		}
	}
}
