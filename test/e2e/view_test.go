// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// view looks at a cluster, of one machine or of several, with the real kubectl.
type view struct {
	*testing.T
	env
	kubeconfig string
}

// in returns the view of a subtest.
func (v *view) in(t *testing.T) view { return view{T: t, env: v.env, kubeconfig: v.kubeconfig} }

// try runs the real kubectl on the host, over the proxy that the kubeconfig may name.
func (v *view) try(stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(v.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, v.kubernetes)
	cmd.Args = append([]string{"kubectl", "--kubeconfig", v.kubeconfig}, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w\n%s%s", strings.Join(args, " "), err, errs.String(), out.String())
	}
	return out.String(), nil
}

func (v *view) kubectl(args ...string) string {
	v.Helper()
	out, err := v.try("", args...)
	if err != nil {
		v.Fatal(err)
	}
	return out
}

// get decodes objects that kubectl prints as JSON.
func (v *view) get(into any, args ...string) error {
	out, err := v.try("", append(append([]string{"get"}, args...), "-o", "json")...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(out), into)
}

// eventually repeats check until it returns nil.
func (v *view) eventually(what string, limit time.Duration, check func() error) {
	v.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) || v.Context().Err() != nil {
			v.Fatalf("%s: not within %s: %v", what, limit, err)
		}
		time.Sleep(time.Second)
	}
}

// apply gives objects to the API through kubectl.
func (v *view) apply(objects ...any) {
	v.Helper()
	for _, o := range objects {
		if _, ok := o.(*core.Pod); ok {
			v.podsAdmitted()
		}
		text, err := yaml.Marshal(o)
		if err != nil {
			v.Fatal(err)
		}
		// What the API server had no time for is asked again, as people would.
		for again := 5; ; again-- {
			_, err := v.try(string(text), "apply", "-f", "-")
			if err == nil {
				break
			}
			if again == 0 || !strings.Contains(err.Error(), "Error from server (Timeout)") {
				v.Fatal(err)
			}
			v.Logf("once more: %s", err)
		}
	}
}

// podsAdmitted waits for what every pod needs and a new cluster has a moment after its first
// node: until the controller manager has made the service account, pods are refused.
func (v *view) podsAdmitted() {
	v.Helper()
	v.eventually("pods are admitted", 10*time.Minute, func() error {
		_, err := v.try("", "get", "serviceaccount", "default")
		return err
	})
}
