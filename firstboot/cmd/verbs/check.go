// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"context"
	"errors"

	"github.com/spf13/pflag"
)

var checkVerb = verb{
	name: "check", args: "[--json]", purpose: "check that the node is what kubeadm would have made it",
	flags: func(fs *pflag.FlagSet) {
		fs.Bool("json", false, "print results as JSON")
		fs.String("kubeconfig", "/etc/kubernetes/admin.conf", "kubeconfig for the checks of cluster objects")
	},
	run: func(_ context.Context, e *Env, fs *pflag.FlagSet, args []string) error {
		return errors.New("not available")
	},
}
