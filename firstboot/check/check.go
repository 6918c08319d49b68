// SPDX-License-Identifier: Apache-2.0

// Package check verifies on a running node that its files and its cluster's objects are what
// kubeadm v1.36 would have left behind. Every check is independent of the code that produced
// what it looks at: the expected values are written down here once more. Where the product
// differs from kubeadm on purpose, Exemptions says so.
package check

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
)

// API reads objects. Get fills obj, a typed object whose name and namespace are set.
type API interface {
	Get(ctx context.Context, obj runtime.Object) error
}

// Env is what checks look at.
type Env struct {
	// Root is the directory that holds the node's file system.
	Root string
	// Config is what the node should be.
	Config *kubeadm.Config
	// First says that this node started the cluster.
	First bool
	// API is nil when no API server can be asked; checks that need it are then skipped.
	API API
}

// Status is the outcome of a check.
type Status string

// The outcomes.
const (
	Pass Status = "pass"
	Fail Status = "fail"
	Skip Status = "skip"
)

// Check is one named assertion.
type Check struct {
	ID, Title string
	// NeedsAPI and Worker say what the check needs and whether it applies to workers.
	NeedsAPI, Worker bool
	run              func(context.Context, *Env) error
}

// Result is the outcome of one check. Problems never hold secrets.
type Result struct {
	ID       string   `json:"id"`
	Title    string   `json:"title"`
	Status   Status   `json:"status"`
	Problems []string `json:"problems,omitempty"`
	Reason   string   `json:"reason,omitempty"` // why it was skipped
}

// All lists the checks in order.
func All() []Check {
	return slices.Concat(fileChecks, pkiChecks, manifestChecks, kubeletChecks, objectChecks, addonChecks)
}

// Run performs the checks named by only, or all.
func Run(ctx context.Context, e *Env, only ...string) []Result {
	var out []Result
	for _, c := range All() {
		if len(only) > 0 && !slices.Contains(only, c.ID) {
			continue
		}
		r := Result{ID: c.ID, Title: c.Title, Status: Pass}
		switch {
		case c.NeedsAPI && e.API == nil:
			r.Status, r.Reason = Skip, "no API server to ask"
		case !c.Worker && e.Config.Role == node.Worker:
			r.Status, r.Reason = Skip, "concerns control planes only"
		default:
			if err := c.run(ctx, e); err != nil {
				r.Status, r.Problems = Fail, strings.Split(err.Error(), "\n")
			}
		}
		out = append(out, r)
	}
	return out
}

// Failed says whether any result is a failure.
func Failed(results []Result) bool {
	return slices.ContainsFunc(results, func(r Result) bool { return r.Status == Fail })
}

// Exemption is a difference from kubeadm that delivery verity makes on purpose.
type Exemption struct {
	Checks []string
	What   string
	Reason string
}

// Exemptions lists them all. With delivery oci none applies.
var Exemptions = []Exemption{
	{[]string{"D14", "D24", "D25"}, "image", "the program comes from the host's verified /usr, the image is the node's base image"},
	{[]string{"D14", "D24", "D25"}, "imagePullPolicy", "the base image is in no registry"},
	{[]string{"D14", "D24", "D25"}, "volume host-usr", "it carries the program"},
	{[]string{"D24"}, "volume lib-modules", "the modules are below /usr already"},
	{[]string{"D24", "D25"}, "nodeSelector", "only nodes of the product have the programs"},
	{[]string{"D25"}, "command", "the base image has no entry point of CoreDNS"},
}

// exempt says whether a component may differ from kubeadm in what.
func (e *Env) exempt(check, component, what string) bool {
	return e.Config.Verity(component) && slices.ContainsFunc(Exemptions, func(x Exemption) bool {
		return x.What == what && slices.Contains(x.Checks, check)
	})
}

func (e *Env) path(p string) string { return filepath.Join(e.Root, p) }

// problems collects what is wrong.
type problems []error

func (p *problems) addf(format string, args ...any) { *p = append(*p, fmt.Errorf(format, args...)) }

func (p *problems) add(err error) {
	if err != nil {
		*p = append(*p, err)
	}
}

// equal records a difference between what is there and what should be.
func equal[T any](p *problems, what string, got, want T) {
	if g, w := fmt.Sprintf("%v", got), fmt.Sprintf("%v", want); g != w {
		p.addf("%s is %s, want %s", what, g, w)
	}
}

func (p problems) err() error { return errors.Join(p...) }
