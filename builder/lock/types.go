// SPDX-License-Identifier: Apache-2.0

// Package lock holds the lock file: exactly which bytes the profiles and the tools
// resolve to for one architecture. It names archives, suites and pool paths, never hosts.
package lock

// Lock is the content of profiles/lock.<arch>.yaml.
type Lock struct {
	// Version of this format.
	Version      int    `yaml:"version"`
	Architecture string `yaml:"architecture"` // Debian's and Go's name: amd64, arm64
	// Archives records the signed indexes the packages were resolved from.
	Archives []Archive `yaml:"archives"`
	// Packages holds every Debian package once, sorted by name then version.
	Packages []Package `yaml:"packages"`
	// Sets maps what is composed from packages ("root/controlplane", "initrd/base",
	// "tool/qemu") to package names in dependency order.
	Sets map[string][]string `yaml:"sets"`
	// Modules pins what each component is built from.
	Modules []Module `yaml:"modules"`
	// Releases pins official artefacts by digest.
	Releases []Release `yaml:"releases,omitempty"`
}

// Archive is one signed Debian index.
type Archive struct {
	Name  string `yaml:"name"`  // debian, debian-security
	Suite string `yaml:"suite"` // trixie, trixie-updates, trixie-security
	Date  string `yaml:"date"`  // the Date field of the Release file
	// InRelease is the SHA-256 of the signed file, SignedBy the fingerprints that verified.
	InRelease string   `yaml:"inRelease"`
	SignedBy  []string `yaml:"signedBy"`
}

// Package is one .deb.
type Package struct {
	Name         string `yaml:"name"`
	Version      string `yaml:"version"`
	Architecture string `yaml:"architecture"` // the lock's, or "all"
	Archive      string `yaml:"archive"`
	Suite        string `yaml:"suite"`
	Path         string `yaml:"path"` // below the archive's root: pool/main/...
	Size         int64  `yaml:"size"` // bytes
	SHA256       string `yaml:"sha256"`
	// Source is the source package and its version, for the bill of materials.
	Source string `yaml:"source,omitempty"`
}

// Module is one component built from a Go module.
type Module struct {
	Component string `yaml:"component"`
	Path      string `yaml:"path"`
	Version   string `yaml:"version"`
	Sum       string `yaml:"sum"`  // go.sum's h1 digest of the module
	Size      int64  `yaml:"size"` // of the module's zip, bytes
	// Recipe is the SHA-256 over assets/components/<name>, which holds go.mod and go.sum
	// and so every dependency's digest. A build refuses a component with another one.
	Recipe string `yaml:"recipe"`
}

// Release is an official artefact.
type Release struct {
	Name         string `yaml:"name"`
	Version      string `yaml:"version"`
	Architecture string `yaml:"architecture"`
	URL          string `yaml:"url"`
	Size         int64  `yaml:"size,omitempty"`
	SHA256       string `yaml:"sha256"`
}
