// SPDX-License-Identifier: Apache-2.0

package keyrings

import (
	"bytes"
	"encoding/hex"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
)

// The README is what a reviewer compares with Debian's published fingerprints, so it
// must not drift from the keys that are really embedded.
func TestReadmeNamesEveryKey(t *testing.T) {
	keys, err := Debian()
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `([^`]+\\.asc)` \\|[^|]+\\| `([0-9A-F ]+)` \\|$")
	documented := map[string]string{}
	for _, m := range row.FindAllStringSubmatch(string(readme), -1) {
		documented[m[1]] = strings.ReplaceAll(m[2], " ", "")
	}
	if len(documented) != len(keys) {
		t.Errorf("README.md lists %d keys, %d are embedded", len(documented), len(keys))
	}
	for name, data := range keys {
		ring, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(data))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(ring) != 1 || ring[0].PrivateKey != nil {
			t.Errorf("%s: %d keys, want one public key", name, len(ring))
			continue
		}
		got := strings.ToUpper(hex.EncodeToString(ring[0].PrimaryKey.Fingerprint))
		if documented[name] != got {
			t.Errorf("%s: README.md says %q, the file holds %q", name, documented[name], got)
		}
	}
}
