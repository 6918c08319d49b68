// SPDX-License-Identifier: Apache-2.0

package health

import (
	"net"
	"os"
)

// Notify sends a message such as "READY=1" to the service manager (sd_notify(3)); without
// one it does nothing.
func Notify(message string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte(message))
	return err
}
