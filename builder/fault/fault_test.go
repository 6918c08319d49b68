// SPDX-License-Identifier: Apache-2.0

package fault_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/imgbuild/imgbuild/builder/fault"
)

var classes = map[string]fault.Class{
	"Usage": fault.Usage, "Config": fault.Config, "MissingPin": fault.MissingPin, "Digest": fault.Digest,
	"Network": fault.Network, "NoSpace": fault.NoSpace, "TooSmall": fault.TooSmall, "Build": fault.Build,
	"Machine": fault.Machine, "Corrupt": fault.Corrupt, "Interrupted": fault.Interrupted,
}

func TestEveryClassIsDocumentedWithItsStatus(t *testing.T) {
	doc, err := os.ReadFile("../../docs/exit-codes.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[fault.Class]string{}
	for name, class := range classes {
		if other, taken := seen[class]; taken {
			t.Errorf("%s and %s share status %d", name, other, class)
		}
		seen[class] = name
		if row := fmt.Sprintf("| %d | %s |", class, name); !strings.Contains(string(doc), row) {
			t.Errorf("docs/exit-codes.md lacks the row %q", row)
		}
	}
	if rows := strings.Count(string(doc), "\n| "); rows != len(classes)+4 {
		t.Errorf("docs/exit-codes.md has %d rows, want one per class, 0, 1 and the heading (%d)", rows, len(classes)+4)
	}
}

func TestClassOf(t *testing.T) {
	inner := fault.New(fault.Digest, "fetch it again", "%s: bad bytes", "a.deb")
	for _, c := range []struct {
		err  error
		want fault.Class
	}{
		{nil, fault.Unclassified},
		{fs.ErrNotExist, fault.Unclassified},
		{inner, fault.Digest},
		{fmt.Errorf("unpack: %w", inner), fault.Digest},
		{errors.Join(fs.ErrNotExist, inner), fault.Digest},
		{fault.Wrap(fault.Build, inner, "outermost wins"), fault.Build},
		{fault.Wrap(fault.Build, nil, "no error stays none"), fault.Unclassified},
	} {
		if got := fault.ClassOf(c.err); got != c.want {
			t.Errorf("ClassOf(%v) = %d, want %d", c.err, got, c.want)
		}
	}
	if want := "a.deb: bad bytes\n  next: fetch it again"; inner.Error() != want {
		t.Errorf("message %q, want %q", inner.Error(), want)
	}
}
