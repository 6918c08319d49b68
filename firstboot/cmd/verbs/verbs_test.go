// SPDX-License-Identifier: Apache-2.0

package verbs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/firstboot/addons/cni"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/node"
	"github.com/imgbuild/imgbuild/firstboot/phase"
	"github.com/imgbuild/imgbuild/firstboot/phases"
	"github.com/imgbuild/imgbuild/firstboot/pki"
	"github.com/imgbuild/imgbuild/firstboot/status"
	"github.com/imgbuild/imgbuild/firstboot/strict"
)

const document = "apiVersion: imgbuild.io/v1alpha1\nkind: Node\nrole: control-plane\nnode: {name: cp-1}\nbootstrapTokens: [{token: abcdef.0123456789abcdef}]\n"

// env returns an environment below a temporary root with a document, and its output.
func env(t *testing.T, doc string) (*Env, *bytes.Buffer, *bytes.Buffer) {
	t.Helper()
	var out, errs bytes.Buffer
	e := &Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Root: t.TempDir()}
	e.Console = filepath.Join(e.Root, "console")
	put(t, e.Console, "")
	if doc != "" {
		put(t, filepath.Join(e.Root, node.Path), doc)
	}
	return e, &out, &errs
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, ExitOK},
		{errors.New("x"), ExitFailed},
		{fmt.Errorf("a: %w", errUsage), ExitUsage},
		{fmt.Errorf("a: %w", strict.Problems{{}}), ExitDocument},
		{fmt.Errorf("a: %w", node.ErrAbsent), ExitDocument},
		{fmt.Errorf("a: %w", node.ErrIgnition), ExitDocument},
		{fmt.Errorf("a: %w", phase.ErrDocumentChanged), ExitChanged},
		{fmt.Errorf("a: %w", errNotReady), ExitNotReady},
		{fmt.Errorf("a: %w", context.Canceled), ExitInterrupted},
	} {
		if got := ExitCode(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, args := range []string{"", "nonsense", "plan --role x", "plan -o x", "plan x", "status --nope", "run x", "cni x", "report x", "version x", "node", "node check x", "check D99"} {
		e, _, errs := env(t, document)
		if got := Main(t.Context(), e, strings.Fields(args)); got != ExitUsage || errs.Len() == 0 {
			t.Errorf("%q: exit status %d, %s", args, got, errs)
		}
	}
	for _, args := range []string{"help", "--help", "run --help", "version", "plan", "plan --role worker -o dot", "plan -o json"} {
		e, out, errs := env(t, document)
		if got := Main(t.Context(), e, strings.Fields(args)); got != ExitOK || out.Len() == 0 || errs.Len() != 0 {
			t.Errorf("%q: exit status %d, %s", args, got, errs)
		}
	}
}

func TestNodeValidate(t *testing.T) {
	e, out, errs := env(t, document)
	file := filepath.Join(e.Root, node.Path)
	if got := Main(t.Context(), e, []string{"node", "validate", file}); got != ExitOK || !strings.Contains(out.String(), "valid control-plane document") {
		t.Errorf("%d %s %s", got, out, errs)
	}
	put(t, file, document+"roel: x\n")
	if got := Main(t.Context(), e, []string{"node", "validate", file}); got != ExitDocument || !strings.Contains(errs.String(), file+":6:1: roel") {
		t.Errorf("%d %s", got, errs)
	}
	ign, err := json.Marshal(map[string]any{"ignition": map[string]any{"version": "3.4.0"},
		"storage": map[string]any{"files": []any{map[string]any{"path": node.Path, "contents": map[string]any{"source": "data:,role%3A%20x"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	errs.Reset()
	put(t, file, string(ign))
	if got := Main(t.Context(), e, []string{"node", "validate", "--from-ignition", file}); got != ExitDocument || !strings.Contains(errs.String(), node.Path+":1:7: role") {
		t.Errorf("%d %s", got, errs)
	}
}

func TestCNI(t *testing.T) {
	e, out, errs := env(t, document)
	if got := Main(t.Context(), e, []string{"cni"}); got != ExitFailed || !strings.Contains(errs.String(), "subnet file") {
		t.Errorf("without a subnet file: %d %s", got, errs)
	}
	put(t, filepath.Join(e.Root, cni.SubnetFile), "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.3.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n")
	for range 2 {
		if got := Main(t.Context(), e, []string{"cni"}); got != ExitOK {
			t.Fatalf("%d %s", got, errs)
		}
	}
	if text := read(t, filepath.Join(e.Root, cni.NetworkFile)); !json.Valid([]byte(text)) || !strings.Contains(text, "10.244.3.0/24") {
		t.Error(text)
	}
	if strings.Count(out.String(), "was written") != 1 {
		t.Errorf("the configuration was written more than once: %s", out)
	}
}

func TestStatus(t *testing.T) {
	e, out, _ := env(t, document)
	if got := Main(t.Context(), e, []string{"status"}); got != ExitNotReady {
		t.Errorf("without a status: %d", got)
	}
	for state, want := range map[status.State]int{status.Ready: ExitOK, status.Running: ExitNotReady, status.Failed: ExitNotReady} {
		data, err := json.Marshal(status.Status{Node: "cp-1", State: state, Error: "boom", Phases: []status.Phase{{Name: "certs", State: phase.Done, Took: 0.12}}})
		if err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(e.Root, status.Path), string(data))
		for _, args := range [][]string{{"status"}, {"status", "--json"}} {
			out.Reset()
			if got := Main(t.Context(), e, args); got != want || !strings.Contains(out.String(), "certs") || !strings.Contains(out.String(), "boom") {
				t.Errorf("%s %v: %d %s", state, args, got, out)
			}
		}
	}
}

func TestRunWithoutAUsableDocument(t *testing.T) {
	for doc, want := range map[string]string{"": "no node document", document + "roel: x\n": "did you mean \"role\"?"} {
		e, _, errs := env(t, doc)
		if got := Main(t.Context(), e, []string{"run"}); got != ExitDocument || !strings.Contains(errs.String(), want) {
			t.Errorf("%d %s", got, errs)
		}
		if text := read(t, e.Console); !strings.Contains(text, "failed t=") || !strings.Contains(text, want) {
			t.Errorf("console: %s", text)
		}
	}
}

// TestFailureIsReported runs first boot where it must fail in preflight: the reason is on
// the console, in the status file and in the log, and no secret is anywhere.
func TestFailureIsReported(t *testing.T) {
	e, _, errs := env(t, document)
	ctx, cancel := context.WithCancel(t.Context())
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	err := e.run(ctx, filepath.Join(e.Root, node.Path), func(s *phases.State) {
		s.StartUnit = func(context.Context, string) error { t.Error("a unit was started"); return nil }
		// Preflight tries for a minute; the first report is enough.
		s.Log.Info("token abcdef.0123456789abcdef")
		watch.Go(func() {
			for said := []byte(nil); !bytes.Contains(said, []byte("retrying")) && ctx.Err() == nil; time.Sleep(time.Millisecond) {
				said, _ = os.ReadFile(e.Console) // it may not be there yet
			}
			cancel()
		})
	})
	if err == nil {
		t.Fatal("an empty directory was made a node")
	}
	var st status.Status
	text := read(t, filepath.Join(e.Root, status.Path))
	if err := json.Unmarshal([]byte(text), &st); err != nil {
		t.Fatal(err)
	}
	if st.State != status.Failed || !strings.Contains(st.Error, "preflight") || !strings.Contains(st.Error, "cgroup") {
		t.Errorf("%+v", st)
	}
	for place, text := range map[string]string{"console": read(t, e.Console), "status": text, "log": errs.String(),
		"journal": read(t, filepath.Join(e.Root, phase.JournalPath))} {
		if strings.Contains(text, "0123456789abcdef") {
			t.Errorf("%s shows a secret:\n%s", place, text)
		}
		if place != "log" && !strings.Contains(text, "cgroup") {
			t.Errorf("%s does not give the reason:\n%s", place, text)
		}
	}
}

func TestReportBeforeFirstBootIsComplete(t *testing.T) {
	e, _, errs := env(t, document)
	if got := Main(t.Context(), e, []string{"report"}); got != ExitFailed || !strings.Contains(errs.String(), "not complete") {
		t.Errorf("%d %s", got, errs)
	}
}

func makeCertificates(t *testing.T, e *Env) {
	t.Helper()
	s, err := e.state(t.Context(), filepath.Join(e.Root, node.Path))
	if err != nil {
		t.Fatal(err)
	}
	m := &pki.Maker{Algorithm: s.Config.Algorithm, CAValidity: s.Config.CAValidity, Validity: s.Config.Validity, Now: time.Now()}
	if _, err := pki.Ensure(t.Context(), e.Root, s.Config, m); err != nil {
		t.Fatal(err)
	}
}

// TestLifeAfterFirstBoot makes a control plane's certificates and shows and renews them.
func TestLifeAfterFirstBoot(t *testing.T) {
	e, out, errs := env(t, document)
	e.Host = func(context.Context, string, *node.Node) (kubeadm.Host, error) {
		return kubeadm.Host{Hostname: "cp-1", Address: netip.MustParseAddr("192.0.2.11"), KubernetesVersion: "v1.36.3"}, nil
	}
	e.RestartUnit = func(context.Context, string) error { return nil }
	if err := os.Mkdir(filepath.Join(e.Root, "proc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := Main(t.Context(), e, []string{"renew"}); got != ExitFailed || !strings.Contains(errs.String(), "first boot has not made certificates") {
		t.Fatalf("renewing nothing: %d %s %s", got, out, errs)
	}
	makeCertificates(t, e)
	if got := Main(t.Context(), e, []string{"renew"}); got != ExitOK || !strings.Contains(out.String(), "kubeconfigs renewed: admin.conf, controller-manager.conf, ") {
		t.Fatalf("%d %s %s", got, out, errs)
	}
	out.Reset()
	if got := Main(t.Context(), e, []string{"renew"}); got != ExitOK || out.String() != "no certificate is due\n" {
		t.Errorf("%d %s %s", got, out, errs)
	}
	st, err := json.Marshal(status.Status{Node: "cp-1", State: status.Ready})
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(e.Root, status.Path), string(st))
	out.Reset()
	if got := Main(t.Context(), e, []string{"status"}); got != ExitOK {
		t.Error(got)
	}
	for _, want := range []string{"CERTIFICATE", "etcd/peer.crt ", "admin.conf ", "apiserver.crt ", " 364\n", " 3649\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("status lacks %q:\n%s", want, out)
		}
	}
}
