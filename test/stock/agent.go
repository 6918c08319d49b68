// SPDX-License-Identifier: Apache-2.0

package stock

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// AgentPort is the TCP port of the agent, which is program agent below this directory.
const AgentPort = 7077

// Agent leads to a machine that has finished its boot and what it had to do in it.
type Agent struct {
	// Dial connects to host:port, as Gateway.Dial does.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Name and Address are the machine's.
	Name    string
	Address netip.Addr
}

// answer is what the agent says about a script.
type answer struct {
	// Status is the exit status of the shell.
	Status int
	// Output is standard output and standard error as they came.
	Output string
}

// Await returns when the agent answers or ctx ends.
func (a Agent) Await(ctx context.Context) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := a.post(attempt, "true")
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the agent of %s does not answer: %w", a.Name, err)
		case <-time.After(time.Second):
		}
	}
}

// Run lets the machine's shell run a script, with kubeadm and ctr on its path, and returns what
// it printed. A status that is not 0 is an error that quotes it.
func (a Agent) Run(ctx context.Context, script string) (string, error) {
	r, err := a.post(ctx, script)
	if err != nil {
		return "", fmt.Errorf("%s: %w", a.Name, err)
	}
	if r.Status != 0 {
		return r.Output, fmt.Errorf("%s: exit status %d\n%s", a.Name, r.Status, r.Output)
	}
	return r.Output, nil
}

// Do runs a Step and returns what kubeadm printed.
func (a Agent) Do(ctx context.Context, s Step) (string, error) {
	config, err := s.config(a.Name, a.Address)
	if err != nil {
		return "", err
	}
	return a.Run(ctx, "umask 077; cat > "+configPath+" <<'END_OF_CONFIG'\n"+strings.TrimSuffix(string(config), "\n")+"\nEND_OF_CONFIG\numask 022; { "+s.command()+"; } </dev/null\n")
}

func (a Agent) post(ctx context.Context, script string) (r answer, err error) {
	address := net.JoinHostPort(a.Address.String(), strconv.Itoa(AgentPort))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/run", strings.NewReader(script))
	if err != nil {
		return r, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return a.Dial(ctx, address) }}}
	resp, err := client.Do(req)
	if err != nil {
		return r, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1024)) // a part explains it as well
		return r, fmt.Errorf("the agent answers %s: %s", resp.Status, text)
	}
	return r, json.NewDecoder(resp.Body).Decode(&r)
}
