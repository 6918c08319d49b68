// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/base64"
	"fmt"
	"path"
	"strconv"
	"strings"
)

// registryDir is where containerd looks for a directory per registry.
const registryDir = "/etc/containerd/certs.d"

// upstreams are registries whose API is not at their own name.
var upstreams = map[string]string{"docker.io": "registry-1.docker.io"}

// credentials reads USER:PASSWORD.
func credentials(text []byte) (user, password string, ok bool) {
	line := strings.TrimSpace(string(text))
	if strings.ContainsAny(line, "\r\n") {
		return "", "", false
	}
	return strings.Cut(line, ":")
}

// registryFiles returns containerd's hosts.toml of each registry, with the certificates it
// names. Order matters in these files: containerd asks hosts in the order of their tables and
// the server last. Credentials are sent as HTTP basic authentication (RFC 7617) in every
// request; containerd does not change how a header is written, so it is written as HTTP
// libraries write it and a token that containerd fetched takes its place.
func (s *Source) registryFiles() []file {
	var files []file
	for _, r := range s.Cluster.Registries {
		if len(r.Mirrors) == 0 {
			continue // a problem, which is reported
		}
		name := r.Host
		if name == "*" {
			name = "_default"
		}
		dir := path.Join(registryDir, name)
		mirrors, server := r.Mirrors, Mirror{}
		if r.Host == "*" || r.Fallback != nil && !*r.Fallback {
			// Without a server of its own the last mirror is where containerd ends.
			mirrors, server = r.Mirrors[:len(r.Mirrors)-1], r.Mirrors[len(r.Mirrors)-1]
		} else {
			server.URL = "https://" + r.Host
			if at, ok := upstreams[r.Host]; ok {
				server.URL = "https://" + at
			}
		}
		var b strings.Builder
		secret := false
		write := func(m Mirror, table, ca string) {
			fmt.Fprintf(&b, "capabilities = [\"pull\", \"resolve\"]\n")
			if m.OverridePath {
				b.WriteString("override_path = true\n")
			}
			if m.CAFile != "" {
				fmt.Fprintf(&b, "ca = %s\n", quoted(ca)) // beside this file
				files = append(files, file{path: path.Join(dir, ca), mode: 0o644, data: s.files[m.CAFile]})
			}
			if user, password, ok := credentials(s.files[m.CredentialsFile]); ok {
				secret = true
				fmt.Fprintf(&b, "[%sheader]\nAuthorization = %s\n", table, quoted("Basic "+base64.StdEncoding.EncodeToString([]byte(user+":"+password))))
			}
		}
		fmt.Fprintf(&b, "server = %s\n", quoted(server.URL))
		write(server, "", "server.pem")
		for i, m := range mirrors {
			fmt.Fprintf(&b, "\n[host.%s]\n", quoted(m.URL))
			write(m, "host."+quoted(m.URL)+".", fmt.Sprintf("mirror-%d.pem", i))
		}
		mode := 0o644
		if secret {
			mode = 0o600
		}
		files = append(files, file{path: path.Join(dir, "hosts.toml"), mode: mode, data: []byte(b.String())})
	}
	return files
}

// quoted writes a basic string of TOML. URLs, paths and base64 need no other escapes than
// those Go and TOML share.
func quoted(s string) string { return strconv.QuoteToASCII(s) }
