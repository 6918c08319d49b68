// SPDX-License-Identifier: Apache-2.0

package ignition

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/coreos/ignition/v2/config/v3_5"
	"github.com/coreos/ignition/v2/config/v3_5/types"
)

// noise does not compress.
func noise(n int) []byte {
	var out []byte
	for sum := sha256.Sum256(nil); len(out) < n; sum = sha256.Sum256(sum[:]) {
		out = append(out, sum[:]...)
	}
	return out[:n]
}

func TestContentsComeBack(t *testing.T) {
	for name, c := range map[string]struct {
		data   []byte
		packed bool
	}{
		"empty": {}, "short": {data: []byte("a=b, c%20d\n")}, "text": {data: []byte(strings.Repeat("word ", 2000)), packed: true},
		"the last size that is left alone": {data: bytes.Repeat([]byte("x"), packFrom)}, "noise": {data: noise(50_000)},
	} {
		r := Contents(c.data)
		if got := r.Compression != nil; got != c.packed {
			t.Errorf("%s: compressed is %v", name, got)
		}
		if got, err := Data(r); err != nil || !bytes.Equal(got, c.data) {
			t.Errorf("%s: %d bytes came back of %d: %v", name, len(got), len(c.data), err)
		}
		// Ignition itself has to take it.
		config, err := json.Marshal(types.Config{Ignition: types.Ignition{Version: types.MaxVersion.String()},
			Storage: types.Storage{Files: []types.File{{Node: types.Node{Path: "/f"}, FileEmbedded1: types.FileEmbedded1{Contents: r}}}}})
		if err != nil {
			t.Fatal(err)
		}
		if _, report, err := v3_5.Parse(config); err != nil || len(report.Entries) > 0 {
			t.Errorf("%s: %v %s", name, err, report)
		}
	}
	if a, b := Contents(noise(9000)), Contents(noise(9000)); *a.Source != *b.Source {
		t.Error("the same content gives two URLs")
	}
}

func TestData(t *testing.T) {
	text := func(s string) *string { return &s }
	// printf x | gzip -n
	const gz = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\x00\x00\x83\x16\xdc\x8c\x01\x00\x00\x00"
	packed := "data:;base64," + base64.StdEncoding.EncodeToString([]byte(gz))
	bomb := Contents(make([]byte, most+1))
	for name, c := range map[string]struct {
		in            types.Resource
		want, problem string
	}{
		"base64":      {types.Resource{Source: text("data:text/plain;base64,aGVsbG8=")}, "hello", ""},
		"escaped":     {types.Resource{Source: text("data:,hello%20you%0A")}, "hello you\n", ""},
		"gzip":        {types.Resource{Source: &packed, Compression: text("gzip")}, "x", ""},
		"none":        {types.Resource{Source: text("data:,a"), Compression: text("")}, "a", ""},
		"empty":       {types.Resource{}, "", "no contents"},
		"remote":      {types.Resource{Source: text("https://example.org/f")}, "", "not inline"},
		"no comma":    {types.Resource{Source: text("data:hush")}, "", "invalid"},
		"bad base64":  {types.Resource{Source: text("data:;base64,hush!")}, "", "invalid"},
		"not gzip":    {types.Resource{Source: text("data:,hush"), Compression: text("gzip")}, "", "damaged"},
		"unknown":     {types.Resource{Source: text("data:,hush"), Compression: text("xz")}, "", `"xz" is not known`},
		"gzip, huge":  {bomb, "", "larger than"},
		"gzip, short": {types.Resource{Source: text(packed[:len(packed)-8]), Compression: text("gzip")}, "", "damaged"},
	} {
		got, err := Data(c.in)
		if c.problem == "" && (err != nil || string(got) != c.want) || c.problem != "" && (err == nil || !strings.Contains(err.Error(), c.problem)) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: content is shown: %v", name, err)
		}
	}
}
