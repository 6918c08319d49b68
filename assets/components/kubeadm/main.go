// SPDX-License-Identifier: Apache-2.0

// Command kubeadm is the stock cluster tool. No image holds it: boot tests and benchmarks
// build it to have an independent peer that joins, is joined, and is timed against.
package main

import (
	"k8s.io/kubernetes/cmd/kubeadm/app"
	errors "k8s.io/kubernetes/cmd/kubeadm/app/util/errors"
)

func main() { errors.HandleError(app.Run()) }
