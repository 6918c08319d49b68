// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/imgbuild/imgbuild/firstboot/check"
	"github.com/imgbuild/imgbuild/firstboot/cluster"
	"github.com/imgbuild/imgbuild/firstboot/host"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phases"
)

var checkVerb = verb{
	name: "check", args: "[--json] [--kubeconfig FILE] [ID...]", purpose: "check that the node is what kubeadm would have made it",
	flags: func(fs *pflag.FlagSet) {
		fs.Bool("json", false, "print results as JSON")
		fs.String("kubeconfig", kubeadm.Dir+"/"+kubeconfig.Admin, "kubeconfig for the checks of cluster objects; they are skipped without it")
		fs.String("node", node.Path, "node document")
	},
	run: func(ctx context.Context, e *Env, fs *pflag.FlagSet, args []string) error {
		document, _ := fs.GetString("node")
		conf, _ := fs.GetString("kubeconfig")
		asJSON, _ := fs.GetBool("json")
		for _, id := range args {
			if err := knownCheck(id); err != nil {
				return err
			}
		}
		env, err := e.checkEnv(ctx, filepath.Join(e.Root, document), conf)
		if err != nil {
			return err
		}
		results := check.Run(ctx, env, args...)
		if err := e.printResults(results, asJSON); err != nil {
			return err
		}
		if check.Failed(results) {
			return fmt.Errorf("%w: a check failed", errNotReady)
		}
		return nil
	},
}

func knownCheck(id string) error {
	var ids []string
	for _, c := range check.All() {
		if c.ID == id {
			return nil
		}
		ids = append(ids, c.ID)
	}
	return fmt.Errorf("%w: unknown check %q; known: %s", errUsage, id, strings.Join(ids, ", "))
}

// checkEnv resolves the document against this machine as first boot does.
func (e *Env) checkEnv(ctx context.Context, document, conf string) (*check.Env, error) {
	n, _, err := node.Load(document)
	if err != nil {
		return nil, err
	}
	if err := host.Recognise(e.Root, n); err != nil {
		return nil, err
	}
	hostCtx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	h, err := host.Find(hostCtx, e.Root, n)
	if err != nil {
		return nil, err
	}
	h.Now = time.Now()
	c, err := kubeadm.New(n, h)
	if err != nil {
		return nil, err
	}
	membership, err := phases.LoadMembership(e.Root)
	if err != nil {
		return nil, err
	}
	if membership != nil {
		membership.Apply(c)
	}
	env := &check.Env{Root: e.Root, Config: c}
	if _, err := os.Stat(filepath.Join(e.Root, kubeadm.Dir, kubeconfig.SuperAdmin)); err == nil {
		env.First = true
	}
	conf = filepath.Join(e.Root, conf)
	if _, err := os.Stat(conf); errors.Is(err, os.ErrNotExist) {
		return env, nil
	}
	api, err := cluster.FromFile(conf, "")
	if err != nil {
		return nil, err
	}
	env.API = api
	return env, nil
}

func (e *Env) printResults(results []check.Result, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(e.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(results)
	}
	for _, r := range results {
		line := fmt.Sprintf("%s %-4s %s", r.ID, r.Status, r.Title)
		if r.Reason != "" {
			line += " (" + r.Reason + ")"
		}
		if _, err := fmt.Fprintln(e.Stdout, line); err != nil {
			return err
		}
		for _, p := range r.Problems {
			if _, err := fmt.Fprintln(e.Stdout, "     "+p); err != nil {
				return err
			}
		}
	}
	return nil
}
