// SPDX-License-Identifier: Apache-2.0

// Package manifest defines the document that says what is in an image. The build puts it
// into the image itself, under the protection of dm-verity, so that an image file and a
// booted node answer the question "what is in you?" with the same bytes.
package manifest

// Path is where an image carries its manifest.
const Path = "/usr/share/imgbuild/manifest.json"

// Format is the version of this document.
const Format = 1

// Manifest names every input of an image by version and digest.
type Manifest struct {
	Format       int    `json:"format"`
	Profile      string `json:"profile"`
	Architecture string `json:"architecture"`
	ImageID      string `json:"imageID"`
	ImageVersion string `json:"imageVersion"`
	// Key identifies the inputs as a whole: equal keys mean equal images.
	Key string `json:"key"`
	// Debug images let somebody log in on the console.
	Debug bool `json:"debug"`
	// Delivery says where control-plane programs run from.
	Delivery string `json:"delivery"`
	// Timestamp is the time of every file, in seconds since the epoch: the date of the
	// newest archive index the packages were resolved from.
	Timestamp  int64       `json:"timestamp"`
	Packages   []Package   `json:"packages"`
	Components []Component `json:"components"`
	Releases   []Release   `json:"releases,omitempty"`
}

// Package is a Debian package of the root file system.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Source  string `json:"source,omitempty"`
	SHA256  string `json:"sha256"`
}

// Release is an official artefact with the programs taken from it.
type Release struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	URL     string `json:"url"`
	SHA256  string `json:"sha256"` // of the artefact
	// Files are its programs: digest by path in the image.
	Files map[string]string `json:"files"`
}

// Component is a program built from a Go module.
type Component struct {
	Name    string `json:"name"`
	Module  string `json:"module"`
	Version string `json:"version"`
	// Recipe is the SHA-256 of the component's directory, which pins all dependencies.
	Recipe string `json:"recipe"`
	// Go is the toolchain that compiled it.
	Go string `json:"go"`
	// Files are its programs: digest by path in the image.
	Files map[string]string `json:"files"`
}
