// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/vm"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/pki"
)

// secret is something that must not be seen, in every form in which it could be.
type secret struct {
	name  string
	forms []string
}

// plain is a secret that is text.
func plain(name, value string) secret {
	return secret{name, append(encoded([]byte(value)), value, url.QueryEscape(value))}
}

// shortest is the least length of a form: what is shorter would be found by chance.
const shortest = 12

// encoded is data as it looks in the middle of longer data in base64, for each of the three
// ways in which it can lie there, and in hexadecimal.
func encoded(data []byte) []string {
	forms := []string{hex.EncodeToString(data), strings.ToUpper(hex.EncodeToString(data))}
	for _, coding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 {
			text := coding.EncodeToString(append(make([]byte, before), data...))
			// The first and the last digits depend on what surrounds data.
			if text = text[(before*8+5)/6:]; len(text) > 1 {
				text = text[:len(text)-1]
			}
			if len(text) >= shortest {
				forms = append(forms, text)
			}
		}
	}
	return forms
}

var clientKey = regexp.MustCompile(`client-key-data: *"?([A-Za-z0-9+/=]+)`)

// keysIn finds the private keys in a file: in PEM, or in a kubeconfig.
func keysIn(name string, text []byte) (out []secret) {
	for _, m := range clientKey.FindAllSubmatch(text, -1) {
		if data, err := base64.StdEncoding.DecodeString(string(m[1])); err == nil {
			out = append(out, keysIn(name, data)...)
		}
	}
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return out
		}
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			out = append(out, keyForms(name, block))
		}
	}
}

// keyForms are those of what makes a key private, which is not all of the file: a certificate
// holds the public half too.
func keyForms(name string, block *pem.Block) secret {
	s := secret{name: name}
	var private []byte
	switch key, _ := pki.ParseKey(pem.EncodeToMemory(block)); k := key.(type) {
	case *ecdsa.PrivateKey:
		private, _ = k.Bytes()
	case *rsa.PrivateKey:
		private = k.Primes[0].Bytes()
	}
	at := bytes.Index(block.Bytes, private)
	if len(private) == 0 || at < 0 {
		private, at = block.Bytes, 0
	}
	s.forms = encoded(private)
	// The lines of the PEM text with the private part, and those lines once more in base64.
	const perLine = 48
	for n, line := range strings.Split(string(pem.EncodeToMemory(&pem.Block{Type: "KEY", Bytes: block.Bytes})), "\n")[1:] {
		if n*perLine+perLine > at && n*perLine < at+len(private) && len(line) >= shortest {
			s.forms = append(append(s.forms, line), encoded([]byte(line))...)
		}
	}
	return s
}

// hidden expects no secret in any place.
func hidden(t *testing.T, secrets []secret, places map[string]string) {
	t.Helper()
	size, forms := 0, 0
	for place, text := range places {
		if text == "" {
			t.Errorf("nothing of %s was kept to look for secrets in", place)
		}
		size += len(text)
		for _, s := range secrets {
			for _, form := range s.forms {
				if at := strings.Index(text, form); at >= 0 {
					line := strings.Count(text[:at], "\n") + 1
					t.Errorf("line %d of %s shows the secret %s", line, place, s.name)
					break
				}
			}
		}
	}
	for _, s := range secrets {
		forms += len(s.forms)
	}
	t.Logf("%d secrets in %d forms looked for in %d places, %d KiB", len(secrets), forms, len(places), size>>10)
}

// TestSecretForms hides keys as careless programs would, and finds them.
func TestSecretForms(t *testing.T) {
	guest, err := vm.SingleNode("cp-1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var keys []secret
	var public, private []byte
	for _, f := range guest.Files {
		found := keysIn(f.Path, f.Data)
		if keys = append(keys, found...); len(found) > 0 {
			private = f.Data
		} else {
			public = append(public, f.Data...)
		}
		if f.Path == kubeadm.PKIDir+"/ca.key" && len(found) != 1 {
			t.Errorf("%d keys in %s", len(found), f.Path)
		}
	}
	if len(keys) != 4 {
		t.Fatalf("%d keys found", len(keys))
	}
	last := keys[len(keys)-1]
	inBase64 := base64.StdEncoding.EncodeToString(private)
	if got := keysIn("conf", []byte("    client-key-data: "+inBase64+"\n")); len(got) != 1 || got[0].forms[0] != last.forms[0] {
		t.Errorf("the key of a kubeconfig: %v", got)
	}
	block, _ := pem.Decode(private)
	shows := func(text string, s secret) bool {
		for _, form := range s.forms {
			if strings.Contains(text, form) {
				return true
			}
		}
		return false
	}
	for name, text := range map[string]string{
		"PEM":                  "x " + string(private),
		"one line":             strings.ReplaceAll(string(private), "\n", `\n`),
		"base64":               inBase64,
		"base64, shifted":      base64.StdEncoding.EncodeToString(append([]byte("k"), private...)),
		"base64, shifted more": base64.StdEncoding.EncodeToString(append([]byte("ke"), private...)),
		"DER":                  base64.StdEncoding.EncodeToString(append([]byte("k"), block.Bytes...)),
		"hexadecimal":          hex.EncodeToString(block.Bytes),
	} {
		if !shows(text, last) {
			t.Errorf("a key in %s is not found", name)
		}
		if shows(text, keys[0]) {
			t.Errorf("another key is found in %s", name)
		}
	}
	for _, text := range []string{string(public), base64.StdEncoding.EncodeToString(public), "-----BEGIN EC PRIVATE KEY-----"} {
		for _, s := range keys {
			if shows(text, s) {
				t.Errorf("%s is found in what is public", s.name)
			}
		}
	}
	token := plain("token", "abcdef.0123456789abcdef")
	for _, text := range []string{"token abcdef.0123456789abcdef", base64.StdEncoding.EncodeToString([]byte("id:abcdef.0123456789abcdef\n"))} {
		if !shows(text, token) {
			t.Errorf("the token is not found in %q", text)
		}
	}
}
