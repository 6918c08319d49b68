// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"fmt"
	"strings"
)

// CompareVersions orders two package versions as Debian policy 5.6.12 does: by epoch,
// then upstream version, then Debian revision. It returns -1, 0 or 1. Any two strings
// can be compared; CheckVersion says whether one is well formed.
func CompareVersions(a, b string) int {
	ea, ua, ra := splitVersion(a)
	eb, ub, rb := splitVersion(b)
	if c := compareDigits(ea, eb); c != 0 {
		return c
	}
	if c := compareVersionPart(ua, ub); c != 0 {
		return c
	}
	return compareVersionPart(ra, rb)
}

// splitVersion separates [epoch:]upstream[-revision]. Absent parts are empty, which
// compares equal to "0" as policy requires.
func splitVersion(v string) (epoch, upstream, revision string) {
	if e, rest, ok := strings.Cut(v, ":"); ok {
		epoch, v = e, rest
	}
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		return epoch, v[:i], v[i+1:]
	}
	return epoch, v, ""
}

// compareVersionPart walks both strings in alternating runs: a run without digits,
// compared by weight, then a run of digits, compared as a number.
func compareVersionPart(a, b string) int {
	for a != "" || b != "" {
		for (a != "" && !isDigit(a[0])) || (b != "" && !isDigit(b[0])) {
			wa, wb := weight(a), weight(b)
			if wa != wb {
				return sign(wa - wb)
			}
			a, b = a[1:], b[1:] // equal weights: neither is at its end, see weight
		}
		na, nb := digits(a), digits(b)
		if c := compareDigits(a[:na], b[:nb]); c != 0 {
			return c
		}
		a, b = a[na:], b[nb:]
	}
	return 0
}

// weight ranks the first character of a non-digit run: a tilde sorts before the end of
// the string, the end before letters, letters before everything else. The end of a run
// is a digit or the end of the string; both weigh 0, and the caller's loop condition
// excludes that both sides are there.
func weight(s string) int {
	switch {
	case s == "" || isDigit(s[0]):
		return 0
	case s[0] == '~':
		return -1
	case s[0] >= 'a' && s[0] <= 'z' || s[0] >= 'A' && s[0] <= 'Z':
		return int(s[0])
	}
	return int(s[0]) + 256
}

// compareDigits compares decimal numbers of any length; "" is zero.
func compareDigits(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if len(a) != len(b) {
		return sign(len(a) - len(b))
	}
	return strings.Compare(a, b)
}

func digits(s string) int {
	n := 0
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	return n
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}

// CheckVersion reports why v is not a version of Debian policy 5.6.12, or nil.
func CheckVersion(v string) error {
	epoch, upstream, revision := splitVersion(v)
	hasEpoch := strings.Contains(v, ":")
	switch {
	case hasEpoch && (epoch == "" || digits(epoch) != len(epoch)):
		return fmt.Errorf("version %q: the epoch %q is not a number", v, epoch)
	case upstream == "":
		return fmt.Errorf("version %q: the upstream version is empty", v)
	case strings.HasSuffix(v, "-"):
		return fmt.Errorf("version %q: the Debian revision after the last hyphen is empty", v)
	}
	for _, c := range []byte(upstream) {
		if !isAlnum(c) && strings.IndexByte(".+-~:", c) < 0 {
			return fmt.Errorf("version %q: %q is not allowed in an upstream version", v, c)
		}
	}
	for _, c := range []byte(revision) {
		if !isAlnum(c) && strings.IndexByte(".+~", c) < 0 {
			return fmt.Errorf("version %q: %q is not allowed in a Debian revision", v, c)
		}
	}
	return nil
}

func isAlnum(c byte) bool {
	return isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
