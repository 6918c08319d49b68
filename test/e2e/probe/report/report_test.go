// SPDX-License-Identifier: Apache-2.0

package report

import (
	"reflect"
	"testing"
)

func TestParseMount(t *testing.T) {
	got, err := ParseMount(`36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - ext3 /dev/root ro,errors=continue`)
	want := Mount{Device: "98:0", Point: "/mnt 2", Options: []string{"rw", "noatime"}, Type: "ext3", Source: "/dev/root", Super: []string{"ro", "errors=continue"}}
	if err != nil || !reflect.DeepEqual(got, want) || got.Writable() {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "1 2 3", "1 2 3 4 5 6 - a", " - "} {
		if _, err := ParseMount(bad); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

func FuzzParseMount(f *testing.F) {
	f.Add("36 35 98:0 / / rw - ext3 /dev/root rw")
	f.Fuzz(func(t *testing.T, s string) {
		if m, err := ParseMount(s); err == nil && (m.Device == "" || m.Type == "") {
			t.Errorf("%q: %+v", s, m)
		}
	})
}
