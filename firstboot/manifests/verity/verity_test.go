// SPDX-License-Identifier: Apache-2.0

package verity

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/imgbuild/imgbuild/firstboot/baseimage"
)

func TestUseChangesEveryContainerAndNothingElse(t *testing.T) {
	spec := corev1.PodSpec{
		InitContainers: []corev1.Container{{Name: "a", Image: "example.net/a"}},
		Containers: []corev1.Container{
			{Name: "b", Image: "example.net/b", Command: []string{"b", "--x"}, Args: []string{"y"},
				VolumeMounts: []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}},
			{Name: "c", Image: "example.net/c", ImagePullPolicy: corev1.PullAlways},
		},
		Volumes: []corev1.Volume{{Name: "v"}},
	}
	Use(&spec, baseimage.Ref)
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		if c.Image != baseimage.Ref || c.ImagePullPolicy != corev1.PullNever {
			t.Errorf("%s: image %s, policy %s", c.Name, c.Image, c.ImagePullPolicy)
		}
		last := c.VolumeMounts[len(c.VolumeMounts)-1]
		if last.Name != VolumeName || last.MountPath != "/usr" || !last.ReadOnly {
			t.Errorf("%s: last mount %+v", c.Name, last)
		}
	}
	if b := spec.Containers[0]; !slices.Equal(b.Command, []string{"b", "--x"}) || !slices.Equal(b.Args, []string{"y"}) || b.VolumeMounts[0].Name != "v" {
		t.Errorf("the container's own parts changed: %+v", b)
	}
	if len(spec.Volumes) != 2 || spec.Volumes[0].Name != "v" || spec.Volumes[1].HostPath == nil || spec.Volumes[1].HostPath.Path != "/usr" {
		t.Errorf("volumes %+v", spec.Volumes)
	}
}
