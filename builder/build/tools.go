// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/imgbuild/imgbuild/builder/lock"
	"github.com/imgbuild/imgbuild/builder/source/deb"
	"github.com/imgbuild/imgbuild/builder/store"
	"github.com/imgbuild/imgbuild/builder/tool"
	"github.com/imgbuild/imgbuild/builder/tree"
)

// toolFormat goes up when laying out a tool set changes.
const toolFormat = 1

// hostArch is the architecture of the programs that run on the build machine.
const hostArch = "amd64"

// Tool returns a tool set of the lock, laid out in the store: "qemu", "verify", "cc".
func Tool(ctx context.Context, env Env, name string) (*tool.Set, error) {
	pins, err := lock.Load(lock.Path(env.Root, hostArch))
	if err != nil {
		return nil, err
	}
	set, err := pins.Set(lock.ToolSet(name))
	if err != nil {
		return nil, err
	}
	key := toolKey(set)
	if entry, ok := env.Store.Lookup(key); ok {
		return tool.New(entry.Dir), nil
	}
	if err := deb.Fetch(ctx, env.Store, set, env.mirrors(""), env.fetchOptions()); err != nil {
		return nil, err
	}
	unpacked, err := deb.UnpackAll(ctx, env.Store, set, env.Sink)
	if err != nil {
		return nil, err
	}
	t := tree.New()
	for _, u := range unpacked {
		if err := u.AddTo(t); err != nil {
			return nil, err
		}
	}
	return layOut(ctx, env.Store, key, t)
}

func toolKey(set []lock.Package) store.Key {
	var digests []string
	for _, p := range set {
		digests = append(digests, p.SHA256)
	}
	return store.NewKey("tool", toolFormat, digests...)
}

// compilerPrograms are what the compiler driver starts, by the names it looks for.
var compilerPrograms = map[string]string{
	"cc1":      "/usr/libexec/gcc/x86_64-linux-gnu/14/cc1",
	"collect2": "/usr/libexec/gcc/x86_64-linux-gnu/14/collect2",
	"as":       "/usr/bin/x86_64-linux-gnu-as",
	"ld":       "/usr/bin/x86_64-linux-gnu-ld",
	"ar":       "/usr/bin/x86_64-linux-gnu-ar",
}

// CCompiler returns the path of a C compiler made of locked packages. Only the race
// detector of the project's own tests needs one; images are built without.
//
// The driver starts its helpers itself, so each gets a script that runs it through the
// set's loader, and the driver is told to look for them there.
func CCompiler(ctx context.Context, env Env) (string, error) {
	set, err := Tool(ctx, env, "cc")
	if err != nil {
		return "", err
	}
	entry, err := env.Store.Derive(ctx, store.NewKey("cc", 2, set.Dir), func(_ context.Context, dir string) error {
		run := func(program string) string {
			return fmt.Sprintf("#!/bin/sh\nexec '%[1]s/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2' --library-path '%[1]s/usr/lib/x86_64-linux-gnu' --argv0 '%[1]s%[2]s' '%[1]s%[2]s'", set.Dir, program)
		}
		for name, program := range compilerPrograms {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(run(program)+" \"$@\"\n"), 0o755); err != nil {
				return err
			}
		}
		// The C library's linker script names files below /lib and /lib64, which are links in
		// a system and in no package of the set.
		root := filepath.Join(dir, "root")
		if err := os.Mkdir(root, 0o755); err != nil {
			return err
		}
		for link, target := range map[string]string{"usr": set.Dir + "/usr", "lib": "usr/lib", "lib64": "usr/lib64"} {
			if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
				return err
			}
		}
		// The helpers are found beside the driver's script, wherever the store puts it.
		driver := strings.Replace(run("/usr/bin/x86_64-linux-gnu-gcc-14"), "exec ", "here=$(dirname \"$0\")\nexec ", 1)
		return os.WriteFile(filepath.Join(dir, "cc"), []byte(driver+" -B\"$here/\" --sysroot=\"$here/root\" \"$@\"\n"), 0o755)
	})
	if err != nil {
		return "", err
	}
	return filepath.Join(entry.Dir, "cc"), nil
}
