// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
)

// Nodes that one machine could be are named together, whoever looks; who looks for itself hears
// only of itself.
func TestTwins(t *testing.T) {
	const yes, no = corev1.ConditionTrue, corev1.ConditionUnknown
	const uuid = "nodes %s have the same product UUID, u-1: one virtual machine is a copy of the other"
	for name, tc := range map[string]struct {
		nodes    []*corev1.Node
		all, own []string // whose names are in each line
	}{
		"none":                     {nil, nil, nil},
		"all differ":               {[]*corev1.Node{nodeOf("a", "1", "u-1", yes), nodeOf("b", "2", "u-2", yes)}, nil, nil},
		"firmware that knows none": {[]*corev1.Node{nodeOf("a", "", "", yes), nodeOf("b", "", "", yes), nodeOf("c", "1", "00000000-0000", yes), nodeOf("d", "2", "00000000-0000", yes)}, nil, nil},
		"a worker's":               {[]*corev1.Node{nodeOf("a", "1", "u-1", yes), nodeOf("c", "2", "u-2", yes), nodeOf("b", "3", "U-2", yes)}, []string{"b, c"}, nil},
		"its own":                  {[]*corev1.Node{nodeOf("b", "2", "u-1", yes), nodeOf("a", "1", "U-1", yes)}, []string{"a, b"}, []string{"a, b"}},
		"its own, not Ready yet":   {[]*corev1.Node{nodeOf("b", "2", "u-1", yes), nodeOf("a", "1", "u-1", no)}, nil, []string{"a, b"}},
		"what it was called":       {[]*corev1.Node{nodeOf("b", "2", "u-1", no), nodeOf("a", "1", "u-1", yes)}, nil, nil},
		"a disk":                   {[]*corev1.Node{nodeOf("a", "1", "u-1", yes), nodeOf("b", "1", "u-2", yes)}, []string{"a, b"}, []string{"a, b"}},
		"three, and two":           {[]*corev1.Node{nodeOf("a", "1", "u-1", yes), nodeOf("b", "2", "u-1", yes), nodeOf("c", "3", "u-1", yes), nodeOf("d", "4", "u-2", yes), nodeOf("e", "5", "u-2", yes)}, []string{"a, b, c", "d, e"}, []string{"a, b, c"}},
	} {
		var nodes []corev1.Node
		for _, n := range tc.nodes {
			nodes = append(nodes, *n)
		}
		for self, want := range map[string][]string{"": tc.all, "a": tc.own} {
			var lines []string
			if err := twins(nodes, self); err != nil {
				lines = strings.Split(err.Error(), "\n")
			}
			if len(lines) != len(want) {
				t.Errorf("%s, of %q: %q", name, self, lines)
				continue
			}
			for i, l := range lines {
				if !strings.HasPrefix(l, "nodes "+want[i]+" have the same ") || strings.Contains(l, "machine id, 1: ") != (name == "a disk") {
					t.Errorf("%s, of %q: %s, want %s", name, self, l, want[i])
				}
			}
		}
	}
	err := twins([]corev1.Node{*nodeOf("a", "1", "u-1", yes), *nodeOf("b", "2", "u-1", yes)}, "")
	if want := strings.Replace(uuid, "%s", "a, b", 1); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
}

// Workers may not list nodes: control planes say hour after hour which of all are one machine,
// whatever else is to be renewed. The failure of renewing is what people are told.
func TestRenewNamesTwins(t *testing.T) {
	for name, tc := range map[string]struct {
		renew, placed, answers bool
		uuid                   string
		want                   bool
	}{
		"two workers":              {true, true, true, "u-1", true},
		"and nothing is renewed":   {false, true, true, "u-1", true},
		"they differ":              {true, true, true, "u-2", false},
		"the API does not answer":  {false, true, false, "u-1", false},
		"there is no API here yet": {false, false, true, "u-1", false},
	} {
		t.Run(name, func(t *testing.T) {
			s, kept := renewing(t, node.PKIShared)
			s.Node.Join.Renew = tc.renew
			kept.put(t, "/api/v1/nodes/w-1", nodeOf("w-1", "1", "u-1", corev1.ConditionTrue))
			kept.put(t, "/api/v1/nodes/w-2", nodeOf("w-2", "2", tc.uuid, corev1.ConditionTrue))
			if tc.placed {
				if _, err := kubeadm.WriteFiles(s.Root, kubeadm.File{Path: kubeadm.ManifestsDir + "/kube-apiserver.yaml", Mode: 0o600}); err != nil {
					t.Fatal(err)
				}
			}
			if !tc.answers {
				s.Config.APIPort = 1
				for _, name := range s.kubeconfigNames() { // which name the port
					if _, err := kubeadm.WriteFiles(s.Root, kubeadm.File{Path: kubeadm.Dir + "/" + name, Mode: 0o600, Data: []byte("{}")}); err != nil {
						t.Fatal(err)
					}
				}
			}
			r, err := Renew(t.Context(), s, 120*day)
			if (err != nil) != tc.want || err != nil && !strings.Contains(err.Error(), "nodes w-1, w-2 have the same product UUID, u-1: ") {
				t.Errorf("%+v %v", r, err)
			}
			if (len(r.Tokens) > 0) != tc.renew {
				t.Errorf("what is due is not renewed: %+v", r)
			}
		})
	}
}

// told collects what a phase says while it is at work.
type told struct{ errs []string }

func (o *told) Transition(t phase.Transition) {
	if t.Err != nil {
		o.errs = append(o.errs, string(t.State)+" "+t.Err.Error())
	}
}

// A control plane that is a copy of another node says so where its phases do, and comes up.
func TestCopyOfANodeIsToldInFirstBoot(t *testing.T) {
	for uuid, want := range map[string]string{
		"u-1": "retrying nodes cp-1, w-1 have the same product UUID, u-1: one virtual machine is a copy of the other; give each a UUID of its own",
		"u-2": "",
	} {
		s, kept := renewing(t, node.PKIShared)
		kept.put(t, "/api/v1/nodes/cp-1", nodeOf("cp-1", "1", "u-1", corev1.ConditionFalse))
		kept.put(t, "/api/v1/nodes/w-1", nodeOf("w-1", "2", uuid, corev1.ConditionTrue))
		s.Mark = func(string) {}
		g, err := phase.New(phase.Phase[*State]{Name: MarkControlPlane, Purpose: "x", Run: markControlPlane, Timeout: time.Minute, OnChange: phase.Redo})
		if err != nil {
			t.Fatal(err)
		}
		j, err := phase.OpenJournal(s.path(phase.JournalPath))
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		var o told
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := (&phase.Runner[*State]{Graph: g, Journal: j, Role: "control-plane", Document: "sha256:x", Observer: &o}).Run(ctx, s); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(o.errs, "\n"); got != want {
			t.Errorf("%s: told %q, want %q", uuid, got, want)
		}
		var n corev1.Node
		if kept.get(t, "/api/v1/nodes/cp-1", &n); len(n.Spec.Taints) == 0 {
			t.Errorf("%s: the node is not marked", uuid)
		}
	}
}
