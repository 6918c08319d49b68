// SPDX-License-Identifier: Apache-2.0

package phases

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
	"github.com/imgbuild/imgbuild/firstboot/kubeconfig"
	"github.com/imgbuild/imgbuild/firstboot/manifests"
)

// TestKubeadmOnARealControlPlane lets the real kubeadm look at a control plane that it has not
// made. The machine's directory is its root.
func TestKubeadmOnARealControlPlane(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	m, s := newMachine(t, ctx)
	defer func() { cancel(); m.wg.Wait() }()
	program := filepath.Join(m.components, "kubeadm")
	if _, err := os.Stat(program); err != nil {
		t.Skipf("%s does not hold kubeadm", m.components)
	}
	m.enclosed(program) // before the long part
	if _, err := runOnce(t, ctx, s); err != nil {
		t.Fatal(err)
	}
	m.mirrorPods(s)
	out := m.kubeadm("certs", "check-expiration")
	for _, want := range []string{"admin.conf", "apiserver ", "apiserver-etcd-client", "etcd-peer", "front-proxy-client", "scheduler.conf", "super-admin.conf", "front-proxy-ca"} {
		if !strings.Contains(out, want) {
			t.Errorf("nothing is said about %s:\n%s", want, out)
		}
	}
	if strings.Contains(out, "MISSING") || strings.Contains(out, "invalid") || strings.Contains(out, "Error") {
		t.Error(out)
	}
	if out := m.kubeadm("token", "list"); !strings.Contains(out, "abcdef.0123456789abcdef") || !strings.Contains(out, "authentication,signing") {
		t.Errorf("the token of the document is not listed:\n%s", out)
	}
	out = m.kubeadm("upgrade", "plan", "v1.36.99", "-o", "json")
	var plan struct {
		AvailableUpgrades []struct {
			Components []struct{ Name, CurrentVersion string }
		}
	}
	if err := json.Unmarshal([]byte(out), &plan); err != nil || len(plan.AvailableUpgrades) != 1 {
		t.Fatalf("%v\n%s", err, out)
	}
	versions := map[string]string{}
	for _, c := range plan.AvailableUpgrades[0].Components {
		versions[c.Name] = c.CurrentVersion
	}
	for component, want := range map[string]string{kubeadm.APIServer: "v1.36.3", kubeadm.ControllerManager: "v1.36.3", kubeadm.Scheduler: "v1.36.3", "CoreDNS": kubeadm.CoreDNSImageTag} {
		if versions[component] != want {
			t.Errorf("kubeadm takes %s for version %q, it is %s", component, versions[component], want)
		}
	}
}

// enclosed puts a program below the machine's root, or skips the test where an ordinary user may
// not make that a root.
func (m *machine) enclosed(program string) {
	m.t.Helper()
	from, err := os.Open(program)
	if err != nil {
		m.t.Fatal(err)
	}
	defer from.Close()
	to, err := os.OpenFile(filepath.Join(m.root, "kubeadm"), os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		m.t.Fatal(err)
	}
	_, err = io.Copy(to, from)
	if closeErr := to.Close(); err != nil || closeErr != nil {
		m.t.Fatal(err, closeErr)
	}
	if out, err := m.inRoot("version").CombinedOutput(); err != nil {
		m.t.Skipf("this user may not change the root of a program here: %v\n%s", err, out)
	}
}

// inRoot is kubeadm with the machine's directory as its root, as root of a user namespace.
func (m *machine) inRoot(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(m.ctx, "/kubeadm", args...)
	cmd.Path, cmd.Err = "/kubeadm", nil
	cmd.Dir, cmd.Env = "/", []string{"PATH=/", "HOME=/"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: m.root, Cloneflags: syscall.CLONE_NEWUSER, Pdeathsig: syscall.SIGKILL,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}}
	return cmd
}

// kubeadm returns what it prints for programs and people; what it warns of is logged.
func (m *machine) kubeadm(args ...string) string {
	m.t.Helper()
	cmd := m.inRoot(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	m.t.Logf("kubeadm %s:\n%s%s", strings.Join(args, " "), errs.String(), out.String())
	if err != nil {
		m.t.Fatal(err)
	}
	return out.String()
}

// mirrorPods does what the kubelet that is not here would: it says what the node holds, shows the
// static pods in the API, and runs the pods of jobs, with success.
func (m *machine) mirrorPods(s *State) {
	config, err := clientcmd.BuildConfigFromFlags("", s.path(kubeadm.Dir+"/"+kubeconfig.SuperAdmin))
	if err != nil {
		m.t.Fatal(err)
	}
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		m.t.Fatal(err)
	}
	holds := []byte(`{"status": {"capacity": {"cpu": "4", "memory": "4Gi", "pods": "110"}, "allocatable": {"cpu": "4", "memory": "4Gi", "pods": "110"}}}`)
	if _, err := c.CoreV1().Nodes().Patch(m.ctx, m.node, types.StrategicMergePatchType, holds, metav1.PatchOptions{}, "status"); err != nil {
		m.t.Fatal(err)
	}
	for _, pod := range manifests.StaticPods(s.Config) {
		pod.Spec.NodeName, pod.Name = m.node, pod.Name+"-"+m.node
		for limit := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
			_, err := c.CoreV1().Pods(pod.Namespace).Create(m.ctx, pod, metav1.CreateOptions{})
			if err == nil {
				break
			}
			// A pod that is none of a kubelet's needs a service account, which comes a moment later.
			if time.Now().After(limit) {
				m.t.Fatal(err)
			}
		}
	}
	m.wg.Go(func() {
		for m.ctx.Err() == nil {
			if err := succeed(m.ctx, c, m.node); err != nil {
				m.fail(err)
			}
			time.Sleep(300 * time.Millisecond)
		}
	})
}

// succeed ends the pods of jobs on a node.
func succeed(ctx context.Context, c kubernetes.Interface, node string) error {
	list, err := c.CoreV1().Pods(metav1.NamespaceSystem).List(ctx, metav1.ListOptions{LabelSelector: "job-name"})
	if err != nil {
		return fmt.Errorf("the pods of jobs: %w", err)
	}
	for _, pod := range list.Items {
		if pod.Spec.NodeName != node || pod.Status.Phase != corev1.PodPending {
			continue
		}
		pod.Status.Phase = corev1.PodSucceeded
		if _, err := c.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, &pod, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("pod %s: %w", pod.Name, err)
		}
	}
	return nil
}
