// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/imgbuild/imgbuild/builder/fault"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/strict"
)

// SecretsFile is where Render keeps, in the rendered directory, what it must not make anew.
const SecretsFile = "secrets.yaml"

const secretsKind = "ClusterSecrets"

// secrets is the content of SecretsFile.
type secrets struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
	Cluster    string `yaml:"cluster"`
	// Created is the moment of the first rendering, of one that kept it: older directories have
	// none, and nobody knows it any more.
	Created        string      `yaml:"created,omitempty"`
	BootstrapToken node.Secret `yaml:"bootstrapToken"`
	CertificateKey node.Secret `yaml:"certificateKey"`
	// Founders are the control planes of the first rendering that are still there: only they
	// may start the cluster. None are known before the first rendering.
	Founders []string `yaml:"founders"`
	// Rendered is what hosts were given; nil in directories of earlier releases.
	Rendered *lastRendering `yaml:"rendered,omitempty"`
}

var (
	tokenForm = regexp.MustCompile(`^[a-z0-9]{6}\.[a-z0-9]{16}$`)
	keyForm   = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// readSecrets returns nil when the directory has none yet.
func readSecrets(dir, name string) (*secrets, error) {
	file := filepath.Join(dir, SecretsFile)
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(dir, IndexFile)); err == nil {
			return nil, fault.New(fault.Config, "restore "+SecretsFile+" from a backup, or render into another directory to make a new cluster",
				"%s: the cluster in %s was rendered before, and its secrets are gone", file, dir)
		}
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	s := &secrets{}
	doc := strict.Decode(file, text, s)
	check := func(path string, got node.Secret, form *regexp.Regexp) {
		if !form.MatchString(got.Reveal()) {
			doc.Report(path, "is missing or damaged", "what an earlier rendering wrote")
		}
	}
	check("bootstrapToken", s.BootstrapToken, tokenForm)
	check("certificateKey", s.CertificateKey, keyForm)
	if _, err := time.Parse(time.RFC3339, s.Created); s.Created != "" && err != nil {
		doc.Report("created", "is damaged", "what an earlier rendering wrote")
	}
	if s.Kind != secretsKind || s.APIVersion != APIVersion {
		doc.Report("kind", "is not "+secretsKind+" of "+APIVersion)
	}
	if err := doc.Err(); err != nil {
		return nil, fault.Wrap(fault.Config, err, "restore the file from a backup")
	}
	if s.Cluster != name {
		return nil, fault.New(fault.Config, "render into another directory, or put the name back",
			"%s holds the secrets of cluster %q, and the file names %q", dir, s.Cluster, name)
	}
	return s, nil
}

// newSecrets makes the secrets of a new cluster.
func newSecrets(name string, now time.Time, random io.Reader) (*secrets, error) {
	if random == nil {
		random = rand.Reader
	}
	id, err := word(random, 6)
	if err != nil {
		return nil, err
	}
	secret, err := word(random, 16)
	if err != nil {
		return nil, err
	}
	key := make([]byte, 32)
	if _, err := io.ReadFull(random, key); err != nil {
		return nil, fmt.Errorf("making a certificate key: %w", err)
	}
	return &secrets{APIVersion: APIVersion, Kind: secretsKind, Cluster: name, Created: now.UTC().Format(time.RFC3339),
		BootstrapToken: node.Secret(id + "." + secret), CertificateKey: node.Secret(hex.EncodeToString(key))}, nil
}

// word returns n letters and digits, each as likely as any other.
func word(random io.Reader, n int) (string, error) {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	out := make([]byte, 0, n)
	var b [1]byte
	for len(out) < n {
		if _, err := io.ReadFull(random, b[:]); err != nil {
			return "", fmt.Errorf("making a secret: %w", err)
		}
		if int(b[0]) < 256/len(letters)*len(letters) {
			out = append(out, letters[int(b[0])%len(letters)])
		}
	}
	return string(out), nil
}

// found brings the founders up to date. Hosts that are new since an earlier rendering are not
// among them, so that they never start a second cluster; previous are hosts that earlier
// renderings made configs for, as far as anybody remembers.
func (s *secrets) found(c *Cluster, previous []string) error {
	var now []string
	for _, h := range c.ControlPlanes() {
		now = append(now, h.Name)
	}
	if len(s.Founders) == 0 && previous == nil {
		s.Founders = now
		if c.PKI.Mode == node.PKIGenerate {
			s.Founders = []string{c.PKI.Initiator}
		}
		return nil
	}
	s.Founders = slices.DeleteFunc(s.Founders, func(f string) bool { return !slices.Contains(now, f) })
	if len(s.Founders) > 0 {
		return nil
	}
	// All of the first are gone; one that joined them takes their place, the one that the file
	// names if it can.
	for _, n := range append([]string{c.PKI.Initiator}, now...) {
		if slices.Contains(previous, n) {
			s.Founders = []string{n}
			return nil
		}
	}
	return fault.New(fault.Config, "replace control planes one by one, rendering each time, or render a new cluster into another directory",
		"none of the control planes of earlier renderings is left: there would be nothing to join")
}

func (s *secrets) encode() ([]byte, error) {
	text, err := yaml.Marshal(s)
	if err != nil {
		return nil, errors.New(SecretsFile + " cannot be encoded") // the cause could quote a secret
	}
	return append([]byte("# Secrets of a cluster. Keep this file and the directory pki: without them no host can be added.\n"), text...), nil
}
