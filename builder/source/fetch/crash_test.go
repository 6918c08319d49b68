// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/imgbuild/imgbuild/builder/store"
)

// Variables of the child process that TestKilledWhileFetching shoots.
const (
	childDir = "IMGBUILD_TEST_FETCH_DIR"
	childURL = "IMGBUILD_TEST_FETCH_URL"
)

const crashItems = 8

func crashContent(n int) []byte { return content(200_000 + n) }

func crashList(url string) []Item {
	var items []Item
	for n := range crashItems {
		items = append(items, item(fmt.Sprintf("pkg-%d", n), crashContent(n), fmt.Sprintf("%s/%d", url, n)))
	}
	return items
}

// Two processes download the same things and are killed again and again. What they
// received is used, not thrown away, and in the end all bytes are right.
func TestKilledWhileFetching(t *testing.T) {
	if dir := os.Getenv(childDir); dir != "" {
		st, err := store.Open(dir)
		if err == nil {
			err = Fetch(t.Context(), st, crashList(os.Getenv(childURL)), quick())
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	o, dir := newOrigin(t), filepath.Join(t.TempDir(), "cache")
	var sent atomic.Int64
	for n := range crashItems {
		data := crashContent(n)
		o.handle(fmt.Sprintf("/%d", n), func(w http.ResponseWriter, r *http.Request) {
			file(data)(slow{w, &sent}, r)
		})
	}
	child := func() *exec.Cmd {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledWhileFetching$")
		cmd.Env = append(os.Environ(), childDir+"="+dir, childURL+"="+o.URL)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	for range 8 {
		a, b := child(), child()
		gone := make(chan error, 2)
		for _, c := range []*exec.Cmd{a, b} {
			go func() { gone <- c.Wait() }()
		}
		// They are shot after some bytes, not after some time, so that a busy machine
		// does not shoot them before they began. At the end they finish by themselves.
		until, running := sent.Load()+30_000+rand.Int64N(150_000), 2
		for running > 0 && sent.Load() < until {
			select {
			case <-gone:
				running--
			case <-time.After(time.Millisecond):
			}
		}
		_ = a.Process.Kill()
		_ = b.Process.Kill()
		for ; running > 0; running-- {
			<-gone
		}
	}
	// Someone with a live connection finishes the work.
	st, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := Fetch(t.Context(), st, crashList(o.URL), quick()); err != nil {
		t.Fatal(err)
	}
	resumed := 0
	for n := range crashItems {
		path, err := st.Blob(store.DigestOf(crashContent(n)))
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); !bytes.Equal(got, crashContent(n)) {
			t.Errorf("item %d has wrong bytes", n)
		}
		for _, r := range o.seen(fmt.Sprintf("/%d", n)) {
			if strings.HasPrefix(r, "bytes=") {
				resumed++
			}
		}
	}
	if resumed == 0 {
		t.Error("nothing was resumed")
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "partial")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// slow delays every piece of a body, so that a kill finds a transfer half done.
type slow struct {
	http.ResponseWriter
	sent *atomic.Int64
}

func (s slow) Write(p []byte) (int, error) {
	n := 0
	for len(p) > 0 {
		k, err := s.ResponseWriter.Write(p[:min(len(p), 8192)])
		n += k
		s.sent.Add(int64(k))
		if err != nil {
			return n, err
		}
		s.ResponseWriter.(http.Flusher).Flush()
		time.Sleep(5 * time.Millisecond)
		p = p[k:]
	}
	return n, nil
}
