// SPDX-License-Identifier: Apache-2.0

package fetch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/imgbuild/imgbuild/builder/store"
)

// request makes one HTTP request for what partial lacks and appends it. It returns how
// many bytes it appended, also with an error.
func (t *transfer) request(ctx context.Context, url string, partial *os.File) (int64, error) {
	have, err := partial.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, local(err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(t.Stall, func() { cancel(errStalled) })
	defer watchdog.Stop()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("User-Agent", t.UserAgent)
	// The pin is over the bytes as stored, so nothing may recode them on the way.
	req.Header.Set("Accept-Encoding", "identity")
	if have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
		if v := readOrigin(partial).validatorFor(url); v != "" {
			req.Header.Set("If-Range", v)
		}
	}
	resp, err := t.Client.Do(req)
	if err != nil {
		return 0, transportError(ctx, err)
	}
	defer resp.Body.Close()
	t.reached.Store(true)

	switch resp.StatusCode {
	case http.StatusPartialContent:
		if err := checkRange(resp.Header.Get("Content-Range"), have, t.item.Size); err != nil {
			return 0, t.restart(partial, err)
		}
		t.task.Note(fmt.Sprintf("resuming at %d bytes", have))
		t.progressTo(have)
	case http.StatusOK:
		// Also the answer of an origin that ignores Range or whose file has changed.
		if want := t.item.Size; want > 0 && resp.ContentLength >= 0 && resp.ContentLength != want {
			return 0, fmt.Errorf("%w: expected %d bytes, the origin announces %d", errWrong, want, resp.ContentLength)
		}
		if err := t.restart(partial, nil); err != nil {
			return 0, err
		}
		have = 0
		writeOrigin(partial, url, resp.Header)
	case http.StatusRequestedRangeNotSatisfiable:
		return 0, t.restart(partial, errors.New("the origin's file is shorter than what was received of it"))
	default:
		return 0, statusError(resp)
	}
	return t.receive(ctx, resp.Body, partial, have, watchdog)
}

// receive appends the body to partial and resets the watchdog with every piece.
func (t *transfer) receive(ctx context.Context, body io.Reader, partial *os.File, have int64, watchdog *time.Timer) (int64, error) {
	buf := make([]byte, 128<<10)
	var n int64
	for {
		k, err := body.Read(buf)
		if k > 0 {
			watchdog.Reset(t.Stall)
			if want := t.item.Size; want > 0 && have+n+int64(k) > want {
				// The file is at an end the pin does not know. Nothing received is right.
				return n, errors.Join(t.restart(partial, nil),
					fmt.Errorf("%w: the origin sends more than the expected %d bytes", errWrong, want))
			}
			if _, err := partial.Write(buf[:k]); err != nil {
				return n, local(err)
			}
			n += int64(k)
			t.progressTo(have + n)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return n, transportError(ctx, err)
		}
	}
	if want := t.item.Size; want > 0 && have+n < want {
		return n, &passing{err: fmt.Errorf("connection ended after %d of %d bytes", have+n, want)}
	}
	return n, nil
}

// restart empties the partial file. The reason, if any, is a passing one: the next request
// asks for everything.
func (t *transfer) restart(partial *os.File, reason error) error {
	if err := partial.Truncate(0); err != nil {
		return local(err)
	}
	if _, err := partial.Seek(0, io.SeekStart); err != nil {
		return local(err)
	}
	if reason == nil {
		return nil
	}
	return &passing{err: reason}
}

// checkRange compares the Content-Range of a 206 answer (RFC 9110, 14.4) with what was
// asked for. A total of 0 is unknown.
func checkRange(header string, start, total int64) error {
	var gotStart, gotEnd, gotTotal int64
	if _, err := fmt.Sscanf(header, "bytes %d-%d/%d", &gotStart, &gotEnd, &gotTotal); err != nil {
		// An unknown total ("*") is allowed.
		if _, err := fmt.Sscanf(header, "bytes %d-%d/", &gotStart, &gotEnd); err != nil {
			return fmt.Errorf("the origin answers with Content-Range %q", header)
		}
		gotTotal = total
	}
	if gotStart != start || (total > 0 && gotTotal != total) {
		return fmt.Errorf("asked for bytes from %d of %d, the origin answers with Content-Range %q", start, total, header)
	}
	return nil
}

// origin remembers which version of which URL a partial file holds. It lies beside the
// partial file; losing it costs a validation, not correctness.
type origin struct {
	URL          string `json:"url"`
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"lastModified,omitempty"`
}

// validatorFor returns the value of If-Range for a request to url. Another mirror has its
// own validators, so there only size and digest tell.
func (o origin) validatorFor(url string) string {
	if o.URL != url {
		return ""
	}
	if o.ETag != "" {
		return o.ETag
	}
	return o.LastModified
}

func readOrigin(partial *os.File) (o origin) {
	data, err := os.ReadFile(partial.Name() + store.PartialNote)
	if err != nil || json.Unmarshal(data, &o) != nil {
		return origin{}
	}
	return o
}

func writeOrigin(partial *os.File, url string, h http.Header) {
	o := origin{URL: url, ETag: h.Get("ETag"), LastModified: h.Get("Last-Modified")}
	if len(o.ETag) > 2 && o.ETag[:2] == "W/" {
		o.ETag = "" // weak: does not promise the same bytes (RFC 9110, 13.1.5)
	}
	if data, err := json.Marshal(o); err == nil {
		_ = os.WriteFile(partial.Name()+store.PartialNote, data, 0o644)
	}
}
