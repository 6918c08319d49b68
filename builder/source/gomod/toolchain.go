// SPDX-License-Identifier: Apache-2.0

package gomod

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/imgbuild/imgbuild/builder/fault"
)

// Toolchain is the Go toolchain found on PATH and the environment every command of a
// build runs with. Nothing of the user's Go settings reaches the compiler; what says
// where modules come from (GOPROXY, GOSUMDB and their kin) and where caches are, does.
type Toolchain struct {
	// Path of the go command.
	Path string
	// Version as the toolchain reports it: "go1.26.8".
	Version string
	env     []string
}

// passed are the variables of the process that Go commands may see.
var passed = []string{
	"PATH", "HOME", "TMPDIR", "USER", "LANG",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "NETRC", "SSH_AUTH_SOCK",
}

// kept are the settings taken over from the user's Go environment.
var kept = []string{
	"GOPROXY", "GOSUMDB", "GONOPROXY", "GONOSUMDB", "GOPRIVATE", "GOINSECURE", "GOVCS", "GOAUTH",
	"GOPATH", "GOMODCACHE", "GOCACHE",
}

// FindToolchain looks for Go on PATH. CacheDir is where Go's own caches go when the user's
// environment has no writable place for them (no HOME, as in a service or a container).
func FindToolchain(ctx context.Context, cacheDir string) (*Toolchain, error) {
	path, err := exec.LookPath("go")
	if err != nil {
		return nil, fault.New(fault.Build, "install Go 1.26 and put it on PATH", "the go command is not on PATH")
	}
	t := &Toolchain{Path: path}
	cmd := exec.CommandContext(ctx, path, append([]string{"env", "-json", "GOVERSION"}, kept...)...)
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN=local", "GOWORK=off", "GOFLAGS=")
	cmd.Dir = os.TempDir()
	out, err := cmd.Output()
	if err != nil {
		if ctx.Err() != nil {
			return nil, fault.Wrap(fault.Interrupted, ctx.Err(), "")
		}
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
		}
		return nil, fault.Wrap(fault.Build, fmt.Errorf("%s env: %w", path, err), "check that the Go installation works")
	}
	settings := map[string]string{}
	if err := json.Unmarshal(out, &settings); err != nil {
		return nil, fault.Wrap(fault.Build, fmt.Errorf("%s env: %w", path, err), "check that the Go installation works")
	}
	t.Version = settings["GOVERSION"]
	t.env = environment(settings, cacheDir)
	return t, nil
}

// environment returns the variables for building, apart from the target's.
func environment(settings map[string]string, cacheDir string) []string {
	env := []string{
		"CGO_ENABLED=0", "GO111MODULE=on", "GOENV=off", "GOTOOLCHAIN=local", "GOWORK=off",
		"GOEXPERIMENT=", "GODEBUG=", "GOAMD64=v1", "GOARM64=v8.0", "GOFIPS140=off",
	}
	flags := "GOFLAGS="
	for name, own := range map[string]string{"GOMODCACHE": "mod", "GOCACHE": "build", "GOPATH": "path"} {
		if !usable(settings[name]) {
			settings[name] = filepath.Join(cacheDir, "go", own)
			flags = "GOFLAGS=-modcacherw" // a cache of ours can be deleted with rm -r
		}
	}
	env = append(env, flags)
	for _, name := range kept {
		env = append(env, name+"="+settings[name])
	}
	for _, name := range passed {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// usable says whether dir can hold a cache, or can be made. It writes nothing: planning a
// build asks, too.
func usable(dir string) bool {
	if !filepath.IsAbs(dir) {
		return false
	}
	for {
		info, err := os.Stat(dir)
		switch {
		case err == nil:
			return info.IsDir() && unix.Access(dir, unix.W_OK|unix.X_OK) == nil
		case !errors.Is(err, fs.ErrNotExist):
			return false
		}
		if _, err := os.Lstat(dir); err == nil {
			return false // a link that leads nowhere
		}
		dir = filepath.Dir(dir)
	}
}

// target returns the environment for one architecture.
func (t *Toolchain) target(arch string) []string {
	return append(t.env[:len(t.env):len(t.env)], "GOOS=linux", "GOARCH="+arch)
}
