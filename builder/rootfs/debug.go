// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"errors"
	"path"
)

const debugUnit = "imgbuild-debug-shell.service"

// debugShellUnit is a root shell on the console, without asking who is there. Only images
// whose profile says debug have it, and their name, os-release and manifest say so.
const debugShellUnit = `[Unit]
Description=Root shell on the console of a debug image
IgnoreOnIsolate=yes

[Service]
ExecStart=-/bin/sh
Environment=PS1="debug# " TERM=linux HOME=/root
WorkingDirectory=-/root
Restart=always
RestartSec=1
StandardInput=tty-force
StandardOutput=inherit
StandardError=inherit
TTYPath=/dev/console
TTYReset=yes
KillMode=process
SendSIGHUP=yes

[Install]
WantedBy=multi-user.target
`

// debugShell adds the unit and starts it with the system.
func (c *composer) debugShell() error {
	file := path.Join(vendorUnits, debugUnit)
	return errors.Join(
		c.put("units", file, debugShellUnit),
		c.link("units", path.Join(etcUnits, "multi-user.target.wants", debugUnit), file),
	)
}
