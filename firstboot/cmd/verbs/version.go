// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/pflag"
)

// version is stamped when firstboot is built.
var version string

var versionVerb = verb{
	name: "version", purpose: "print the version",
	run: func(_ context.Context, e *Env, _ *pflag.FlagSet, args []string) error {
		if err := noArgs(args); err != nil {
			return err
		}
		v := version
		if info, ok := debug.ReadBuildInfo(); ok && v == "" {
			v = info.Main.Version
		}
		_, err := fmt.Fprintf(e.Stdout, "firstboot %s %s %s/%s\n", v, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return err
	},
}
