// SPDX-License-Identifier: Apache-2.0

// Package verity turns a pod that would run an upstream image into one that runs the program
// in the host's verified /usr: the containers get the node's base image and a read-only mount
// of /usr, and nothing else about them changes.
package verity

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/imgbuild/imgbuild/firstboot/baseimage"
	"github.com/imgbuild/imgbuild/firstboot/kubeadm"
)

// Ref is the name of the base image for a component. kubeadm upgrade plan reads the versions of
// the API server and of CoreDNS from their images and refuses what is not one. Pods of the node
// itself name the version of the node's programs; other components have the name that every
// node has, whatever its version.
func Ref(component, kubernetes string) string {
	switch component {
	case kubeadm.APIServer, kubeadm.ControllerManager, kubeadm.Scheduler:
		return baseimage.At(kubernetes)
	case kubeadm.CoreDNS:
		return baseimage.At(kubeadm.CoreDNSImageTag)
	}
	return baseimage.Ref
}

// Everywhere are the names that the base image has on every node besides its own. A name stays in
// this list as long as there may be a cluster that was made with it.
func Everywhere() []string { return []string{Ref(kubeadm.CoreDNS, "")} }

// VolumeName is the name of the volume that carries the host's /usr.
const VolumeName = "host-usr"

// Use applies the transformation to every container of spec, with ref as the base image's name.
// Command and arguments stay; a program named without a directory is found through the base
// image's PATH.
//
// The pull policy is Never: the base image is imported by first boot and exists in no
// registry, so looking for it anywhere would only hide the real fault.
func Use(spec *corev1.PodSpec, ref string) {
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			c := &list[i]
			c.Image, c.ImagePullPolicy = ref, corev1.PullNever
			c.VolumeMounts = append(c.VolumeMounts,
				corev1.VolumeMount{Name: VolumeName, MountPath: "/usr", ReadOnly: true})
		}
	}
	kind := corev1.HostPathDirectory
	spec.Volumes = append(spec.Volumes, corev1.Volume{Name: VolumeName, VolumeSource: corev1.VolumeSource{
		HostPath: &corev1.HostPathVolumeSource{Path: "/usr", Type: &kind}}})
}
