// SPDX-License-Identifier: Apache-2.0

package node

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestSalvage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.yaml")
	if c, secrets := Salvage(path); c != (Callback{}) || secrets != nil {
		t.Errorf("of no document: %v %v", c, secrets)
	}
	usable := Callback{URL: "https://x/", Token: "hush-hush"}
	for text, want := range map[string]Callback{
		minimal + "callback: {url: 'https://x/', token: hush-hush}":                          usable,
		"kind: [Pod]\nroel: x\ncallback: {url: 'https://x/', token: hush-hush, colour: red}": usable,
		"callback: {url: 'https://x/', token: hush-hush}\n---\n{}":                           usable,
		"callback: {url: 'https://x/', token: hush-hush, token: other}":                      {URL: "https://x/"},
		"callback: {url: 'https://x/', token: 'hush hush'}":                                  {URL: "https://x/"},
		"callback: {url: 'https://x/', token: [hush]}":                                       {URL: "https://x/"},
		"callback: {url: 'https://u:hush@x/'}":                                               {},
		"callback: {url: x}":                                                                 {},
		"callback: {url: [x]}":                                                               {},
		"callback: {url: 'https://x/', url: 'https://y/'}":                                   {},
		"callback: {url: 'https://x/'}\ncallback: {url: 'https://y/'}":                       {},
		"callback: {url: 'https://x/', ca: x}":                                               {},
		"callback: {url: 'https://x/', ca: [x]}":                                             {},
		"callback: {token: hush-hush}":                                                       {},
		"callback: 'https://x/'":                                                             {},
		"callback: {url: 'https://x/'":                                                       {},
		"":                                                                                   {},
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, secrets := Salvage(path)
		if got != want {
			t.Errorf("%s: %q %q %q", text, got.URL, got.CA, got.Token.Reveal())
		}
		if want.Token != "" && !slices.Contains(secrets, want.Token.Reveal()) {
			t.Errorf("%s: the token is no secret", text)
		}
	}
}
