// SPDX-License-Identifier: Apache-2.0

// Command agent runs scripts on a stock machine for whoever connects: POST /run has the script,
// the answer its exit status and what it printed. It is what such machines, which nobody can log
// in to, are driven with; it belongs on a segment that nobody else is on.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"time"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "agent: name the address to listen on")
		os.Exit(2)
	}
	http.HandleFunc("POST /run", run)
	s := &http.Server{Addr: os.Args[1], ReadHeaderTimeout: time.Minute}
	fmt.Fprintln(os.Stderr, "agent:", s.ListenAndServe())
	os.Exit(1)
}

func run(w http.ResponseWriter, r *http.Request) {
	script, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	// Not on the command line, where every process of the machine could read it.
	cmd := exec.CommandContext(r.Context(), "/bin/sh", "-eu")
	in, err := cmd.StdinPipe()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	go func() {
		_, _ = in.Write(script) // a shell that ends early does not read all of it
		_ = in.Close()
	}()
	out, err := cmd.CombinedOutput()
	answer := struct {
		Status int
		Output string
	}{Output: string(out)}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		answer.Status = exit.ExitCode()
		os.Stderr.Write(out) // for the console; what a script prints otherwise may be secret
	} else if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // whoever asked has gone
}
