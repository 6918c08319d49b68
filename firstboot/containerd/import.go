// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	content "github.com/containerd/containerd/api/services/content/v1"
	images "github.com/containerd/containerd/api/services/images/v1"
	leases "github.com/containerd/containerd/api/services/leases/v1"
	apitypes "github.com/containerd/containerd/api/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Socket is containerd's own API, which also serves CRI.
const Socket = "/run/containerd/containerd.sock"

// namespace is the one the CRI plugin works in; leaseName protects content from garbage
// collection while no image refers to it yet.
const (
	namespace = "k8s.io"
	leaseName = "imgbuild-import"
	// pinned images are never removed by the kubelet's image garbage collection.
	pinnedLabel = "io.cri-containerd.pinned"
)

// Client talks to one containerd.
type Client struct{ conn *grpc.ClientConn }

// Dial prepares a client of the unix socket at path. It does not wait for containerd:
// calls do, until their context ends, trying again after at most 100 ms.
func Dial(socket string) (*Client, error) {
	conn, err := grpc.NewClient("unix://"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1, MaxDelay: 100 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	if err != nil {
		return nil, fmt.Errorf("containerd at %s: %w", socket, err)
	}
	return &Client{conn: conn}, nil
}

// Close closes the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Has reports whether the CRI plugin knows an image of this name.
func (c *Client) Has(ctx context.Context, name string) (bool, error) {
	r, err := cri.NewImageServiceClient(c.conn).ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: name}})
	if err != nil {
		return false, fmt.Errorf("asking containerd for image %s: %w", name, err)
	}
	return r.Image != nil, nil
}

// Import stores the images of a layout, pins them, and waits until the CRI plugin lists
// them. What is already there is kept; an interrupted import is taken up again.
func (c *Client) Import(ctx context.Context, l *Layout) error {
	apiCtx := metadata.AppendToOutgoingContext(ctx, "containerd-namespace", namespace)
	_, err := leases.NewLeasesClient(c.conn).Create(apiCtx, &leases.CreateRequest{
		ID: leaseName, Labels: map[string]string{"containerd.io/gc.expire": time.Now().Add(time.Hour).UTC().Format(time.RFC3339)},
	})
	if err != nil && status.Code(err) != codes.AlreadyExists {
		return fmt.Errorf("making a containerd lease: %w", err)
	}
	leaseCtx := metadata.AppendToOutgoingContext(apiCtx, "containerd-lease", leaseName)
	for _, img := range l.Images {
		if err := c.store(leaseCtx, l, img); err != nil {
			return fmt.Errorf("image %s: %w", img.Name, err)
		}
	}
	if _, err := leases.NewLeasesClient(c.conn).Delete(apiCtx, &leases.DeleteRequest{ID: leaseName}); err != nil && status.Code(err) != codes.NotFound {
		return fmt.Errorf("ending the containerd lease: %w", err)
	}
	for _, img := range l.Images {
		if err := c.wait(ctx, img.Name); err != nil {
			return err
		}
	}
	return nil
}

// Name gives an image that is stored more names, pins it under them too, and waits until the CRI
// plugin lists them.
func (c *Client) Name(ctx context.Context, image string, names ...string) error {
	apiCtx := metadata.AppendToOutgoingContext(ctx, "containerd-namespace", namespace)
	have, err := images.NewImagesClient(c.conn).Get(apiCtx, &images.GetImageRequest{Name: image})
	if err != nil {
		return fmt.Errorf("image %s: %w", image, err)
	}
	for _, name := range names {
		if err := c.record(apiCtx, name, have.Image.Target); err != nil {
			return fmt.Errorf("naming image %s %s: %w", image, name, err)
		}
	}
	for _, name := range names {
		if err := c.wait(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// store writes what an image consists of, leaves first, then the image itself.
func (c *Client) store(ctx context.Context, l *Layout, img Image) error {
	labels := map[string]string{"containerd.io/gc.ref.content.config": img.Manifest.Config.Digest.String()}
	for i, layer := range img.Manifest.Layers {
		labels["containerd.io/gc.ref.content.l."+strconv.Itoa(i)] = layer.Digest.String()
		if err := c.blob(ctx, l, layer, nil); err != nil {
			return err
		}
	}
	if err := c.blob(ctx, l, img.Manifest.Config, nil); err != nil {
		return err
	}
	if err := c.blob(ctx, l, img.Target, labels); err != nil {
		return err
	}
	return c.record(ctx, img.Name, &apitypes.Descriptor{MediaType: img.Target.MediaType, Digest: img.Target.Digest.String(), Size: img.Target.Size})
}

// record makes a name stand for a manifest.
func (c *Client) record(ctx context.Context, name string, target *apitypes.Descriptor) error {
	want := &images.Image{Name: name, Labels: map[string]string{pinnedLabel: "pinned"}, Target: target}
	api := images.NewImagesClient(c.conn)
	_, err := api.Create(ctx, &images.CreateImageRequest{Image: want})
	if status.Code(err) == codes.AlreadyExists {
		_, err = api.Update(ctx, &images.UpdateImageRequest{Image: want})
	}
	return err
}

// blob writes one blob; containerd verifies size and digest when it commits.
func (c *Client) blob(ctx context.Context, l *Layout, d ocispec.Descriptor, labels map[string]string) error {
	r, size, err := l.open(blobPath(d.Digest))
	if err != nil {
		return err
	}
	defer r.Close()
	if size != d.Size {
		return fmt.Errorf("blob %s is %d bytes long, its descriptor says %d", d.Digest, size, d.Size)
	}
	err = c.write(ctx, r, d, labels)
	if status.Code(err) == codes.AlreadyExists {
		return nil
	}
	if err != nil {
		return fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	return nil
}

func (c *Client) write(ctx context.Context, r io.Reader, d ocispec.Descriptor, labels map[string]string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := content.NewContentClient(c.conn).Write(ctx)
	if err != nil {
		return err
	}
	ref := leaseName + "-" + d.Digest.String()
	call := func(m *content.WriteContentRequest) error {
		m.Ref, m.Total, m.Expected = ref, d.Size, d.Digest.String()
		if err := stream.Send(m); err != nil && !errors.Is(err, io.EOF) {
			return err // io.EOF means that the cause is in the answer
		}
		_, err := stream.Recv()
		return err
	}
	if err := call(&content.WriteContentRequest{Action: content.WriteAction_STAT}); err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	var offset int64
	for offset < d.Size {
		n, err := io.ReadFull(r, buf[:min(int64(len(buf)), d.Size-offset)])
		if err != nil {
			return err
		}
		// Writing from offset 0 truncates what an interrupted import left behind.
		if err := call(&content.WriteContentRequest{Action: content.WriteAction_WRITE, Offset: offset, Data: buf[:n]}); err != nil {
			return err
		}
		offset += int64(n)
	}
	return call(&content.WriteContentRequest{Action: content.WriteAction_COMMIT, Offset: offset, Labels: labels})
}

// wait polls until the CRI plugin has seen the image, which it learns from an event.
func (c *Client) wait(ctx context.Context, name string) error {
	for {
		has, err := c.Has(ctx, name)
		if err != nil || has {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("image %s is stored but the CRI plugin does not list it: %w", name, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}
