// SPDX-License-Identifier: Apache-2.0

package phase

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func nothing(context.Context, *world) error { return nil }

// step returns a valid phase.
func step(name string, needs ...string) Phase[*world] {
	return Phase[*world]{Name: name, Purpose: "test", Needs: needs, Run: nothing, Timeout: time.Minute, OnChange: Redo}
}

func TestNewReportsEveryProblem(t *testing.T) {
	broken := step("Upper")
	noRun := step("no-run")
	noRun.Run = nil
	noTimeout := step("no-timeout")
	noTimeout.Timeout = 0
	noPurpose := step("no-purpose")
	noPurpose.Purpose = ""
	noChange := step("no-change")
	noChange.OnChange = 0
	_, err := New(step("a", "missing"), step("a"), broken, noRun, noTimeout, noPurpose, noChange)
	if err == nil {
		t.Fatal("a broken graph was accepted")
	}
	for _, want := range []string{`"missing", which does not exist`, "defined twice", "not lower-case", "nothing to run", "no timeout", "no purpose", "changed node document"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not among the problems:\n%v", want, err)
		}
	}
}

func TestNewRefusesCycles(t *testing.T) {
	for name, phases := range map[string][]Phase[*world]{
		"self":  {step("a", "a")},
		"two":   {step("a", "b"), step("b", "a")},
		"three": {step("x"), step("a", "x", "c"), step("b", "a"), step("c", "b")},
	} {
		if _, err := New(phases...); err == nil || !strings.Contains(err.Error(), "circle") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestForRoleDropsNeedsThatDoNotApply(t *testing.T) {
	cp := step("certs")
	cp.Roles = []string{"control-plane"}
	g, err := New(step("kubelet", "certs", "image"), cp, step("image"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range g.For("worker") {
		got = append(got, p.Name+"<-"+strings.Join(p.Needs, ","))
	}
	if s := strings.Join(got, " "); s != "image<- kubelet<-image" {
		t.Errorf("worker: %s", s)
	}
	if n := len(g.For("control-plane")); n != 3 {
		t.Errorf("control plane: %d phases", n)
	}
}

func TestPlanForms(t *testing.T) {
	b := step("b", "a")
	b.Attempts, b.OnChange = 3, Refuse
	g, err := New(b, step("a"))
	if err != nil {
		t.Fatal(err)
	}
	steps := g.Plan("")
	var back []Step
	if err := json.Unmarshal([]byte(JSON(steps)), &back); err != nil {
		t.Fatal(err)
	}
	if len(back) != 2 || back[0].Name != "a" || back[1].Needs[0] != "a" || back[1].Attempts != 3 || back[1].OnChange != "refuse" || back[0].OnChange != "redo" {
		t.Errorf("JSON came back as %+v", back)
	}
	if dot := DOT(steps); !strings.Contains(dot, `"a" -> "b";`) || !strings.HasPrefix(dot, "digraph") {
		t.Errorf("DOT:\n%s", dot)
	}
	if table := Table(steps); strings.Count(table, "\n") != 3 || !strings.Contains(table, "b      a      1m0s") {
		t.Errorf("table:\n%s", table)
	}
}
