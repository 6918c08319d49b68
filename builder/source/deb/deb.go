// SPDX-License-Identifier: Apache-2.0

// Package deb obtains Debian packages: it verifies an archive from its signature down,
// resolves what a profile wants to a closed set of packages, downloads them by digest and
// unpacks them into the store without running anything they contain.
//
// Nothing here needs Debian's own programs, root, or a Debian host.
package deb
