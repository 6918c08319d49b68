// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"os/exec"
	"testing"
)

// Each version is lower than all that follow.
func TestCompareVersionsOrder(t *testing.T) {
	versions := []string{
		"0~~", "0~~a", "0~", "0", "0.1~rc1-1", "0.1-1", "0.1-1+b1", "0.1-1.1", "0.2", "0.10", "1.0~beta1~svc1", "1.0~beta1",
		"1.0", "1.0a", "1.0b", "1.0+dfsg-1", "1.0+dfsg-1+deb13u1", "1.0.1", "2:0.1", "2:0.1-1~deb13u1", "2:0.1-1", "10:0",
	}
	for i, a := range versions {
		for j, b := range versions {
			if got, want := CompareVersions(a, b), sign(i-j); got != want {
				t.Errorf("CompareVersions(%q, %q) = %d, want %d", a, b, got, want)
			}
		}
	}
}

func TestCompareVersionsEqual(t *testing.T) {
	for _, pair := range [][2]string{
		{"1.0", "0:1.0"}, {"1.0", "1.0-0"}, {"1.0-0", "1.00-00"}, {"1.a", "1.a0"}, {"007", "7"}, {"1.0-1", "00:1.0-1"},
		{"99999999999999999999999999", "0099999999999999999999999999"},
	} {
		if got := CompareVersions(pair[0], pair[1]); got != 0 {
			t.Errorf("CompareVersions(%q, %q) = %d, want 0", pair[0], pair[1], got)
		}
	}
}

func TestCheckVersion(t *testing.T) {
	for v, ok := range map[string]bool{
		"1": true, "1:2.3~rc1+dfsg-4+deb13u1": true, "1-2-3": true, "1:2:3": true, "20250419": true,
		"": false, ":1": false, "a:1": false, "1-": false, "-1": false, "1_2": false, "1 2": false, "1-a_b": false, "1:": false,
	} {
		if err := CheckVersion(v); (err == nil) != ok {
			t.Errorf("CheckVersion(%q) = %v, want valid %v", v, err, ok)
		}
	}
}

// FuzzCompareVersions checks the laws of an order on any strings and, where dpkg is at
// hand and both are valid versions, that it agrees.
func FuzzCompareVersions(f *testing.F) {
	f.Add("1.0-1", "1.0-1+b1", "1:0")
	f.Add("1~rc", "1", "1a")
	f.Add("", "~", "0")
	dpkg, _ := exec.LookPath("dpkg")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if CompareVersions(a, a) != 0 {
			t.Errorf("%q differs from itself", a)
		}
		ab := CompareVersions(a, b)
		if ab != -CompareVersions(b, a) {
			t.Errorf("comparing %q and %q depends on their order", a, b)
		}
		if ab <= 0 && CompareVersions(b, c) <= 0 && CompareVersions(a, c) > 0 {
			t.Errorf("%q <= %q <= %q, but the first is greater than the last", a, b, c)
		}
		if dpkg != "" && startsWithDigit(a) && startsWithDigit(b) {
			op := map[int]string{-1: "lt", 0: "eq", 1: "gt"}[ab]
			if err := exec.Command(dpkg, "--compare-versions", a, op, b).Run(); err != nil {
				t.Errorf("dpkg does not agree that %q %s %q", a, op, b)
			}
		}
	})
}

// startsWithDigit selects versions that dpkg compares without complaint.
func startsWithDigit(v string) bool {
	epoch, upstream, _ := splitVersion(v)
	return CheckVersion(v) == nil && isDigit(upstream[0]) && len(epoch) < 9
}
