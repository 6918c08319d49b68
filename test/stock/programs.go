// SPDX-License-Identifier: Apache-2.0

package stock

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// KubernetesVersion and the tags are those that kubeadm asks for.
const (
	KubernetesVersion = "v1.36.3"
	etcdTag           = "3.6.8-0"
	coreDNSTag        = "v1.14.2"
	pauseTag          = "3.10.2"
	repository        = "registry.k8s.io"
)

// separate are the programs that upstream ships on their own and imgbuild as one.
var separate = []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"}

// programs are paths of programs by name.
type programs map[string]string

// build compiles what is not a component of imgbuild; component asks imgbuild for one that is.
func build(ctx context.Context, root, dir string, component func(name string) ([]string, error)) (programs, error) {
	out := programs{}
	for name, program := range map[string]string{"kubeadm": "kubeadm", "etcd": "etcd", "network": "coredns", "pause": "pause"} {
		files, err := component(name)
		if err != nil {
			return nil, err
		}
		if len(files) == 0 {
			return nil, fmt.Errorf("component %s has no program", name)
		}
		out[program] = files[0]
	}
	flags, err := stamps(filepath.Join(root, "assets/components/kubernetes/component.yaml"))
	if err != nil {
		return nil, err
	}
	for _, name := range separate {
		out[name] = filepath.Join(dir, name)
		if err := compile(ctx, filepath.Join(root, "assets/components/kubernetes"), "k8s.io/kubernetes/cmd/"+name, flags, out[name]); err != nil {
			return nil, err
		}
	}
	for name, from := range map[string]string{"ctr": "test/stock/ctr", "agent": "test/stock/agent"} {
		out[name] = filepath.Join(dir, name)
		if err := compile(ctx, filepath.Join(root, from), ".", "", out[name]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// compile runs the go command, whose cache makes the second time quick.
func compile(ctx context.Context, dir, pkg, flags, to string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w "+flags, "-o", to, pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s in %s: %w\n%s", cmd, dir, err, out)
	}
	return nil
}

// stamps returns the linker flags that a component's variables amount to.
func stamps(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	var c struct {
		Module    struct{ Version string }
		Variables map[string]string
	}
	if err := yaml.Unmarshal(data, &c); err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	parts := strings.SplitN(strings.TrimPrefix(c.Module.Version, "v"), ".", 3)
	values := strings.NewReplacer("${version}", c.Module.Version, "${major}", parts[0], "${minor}", parts[min(1, len(parts)-1)])
	var flags []string
	for _, name := range sortedKeys(c.Variables) { // in another order the linker would run again
		flags = append(flags, "-X "+name+"="+values.Replace(c.Variables[name]))
	}
	return strings.Join(flags, " "), nil
}
