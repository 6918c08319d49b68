// SPDX-License-Identifier: Apache-2.0

// Package containerdtest is a containerd for tests: the content, image and lease services
// and the image part of CRI, in memory, with the rules of the real ones that an import
// depends on. It runs as any user, which the real one does not.
package containerdtest

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"

	content "github.com/containerd/containerd/api/services/content/v1"
	images "github.com/containerd/containerd/api/services/images/v1"
	leases "github.com/containerd/containerd/api/services/leases/v1"
	apitypes "github.com/containerd/containerd/api/types"
	"github.com/opencontainers/go-digest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Server is the state behind the services.
type Server struct {
	mu sync.Mutex
	// Blobs and Labels are committed content and its labels, by digest.
	Blobs  map[string][]byte
	Labels map[string]map[string]string
	// Images are stored images by name; Leases the open ones.
	Images map[string]*images.Image
	Leases map[string]bool
	// Partial holds what unfinished writes left, by reference.
	Partial map[string][]byte
	// FailWrites makes so many content writes end half way.
	FailWrites int
}

// Start serves a new server and returns the path of its socket.
func Start(t testing.TB) string {
	socket, _ := New(t)
	return socket
}

// New serves a new server and returns the path of its socket and its state.
func New(t testing.TB) (string, *Server) {
	t.Helper()
	s := &Server{Blobs: map[string][]byte{}, Labels: map[string]map[string]string{}, Images: map[string]*images.Image{}, Leases: map[string]bool{}, Partial: map[string][]byte{}}
	socket := filepath.Join(t.TempDir(), "c.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	content.RegisterContentServer(g, contentServer{s: s})
	images.RegisterImagesServer(g, imageServer{s: s})
	leases.RegisterLeasesServer(g, leaseServer{s: s})
	cri.RegisterImageServiceServer(g, criServer{s: s})
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	return socket, s
}

// header returns a metadata value of a call, "" without one.
func header(ctx context.Context, name string) string {
	md, _ := metadata.FromIncomingContext(ctx)
	if v := md.Get(name); len(v) > 0 {
		return v[0]
	}
	return ""
}

// inNamespace refuses calls outside the namespace that the CRI plugin uses.
func inNamespace(ctx context.Context) error {
	if ns := header(ctx, "containerd-namespace"); ns != "k8s.io" {
		return status.Errorf(codes.FailedPrecondition, "namespace is %q", ns)
	}
	return nil
}

type contentServer struct {
	content.UnimplementedContentServer
	s *Server
}

func (c contentServer) Write(stream content.Content_WriteServer) error {
	ctx := stream.Context()
	if err := inNamespace(ctx); err != nil {
		return err
	}
	c.s.mu.Lock()
	leased := c.s.Leases[header(ctx, "containerd-lease")]
	c.s.mu.Unlock()
	if !leased {
		return status.Error(codes.FailedPrecondition, "content without a lease could be collected")
	}
	for {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		resp, err := c.s.write(req)
		if err != nil {
			return err
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
	}
}

func (s *Server) write(req *content.WriteContentRequest) (*content.WriteContentResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.Blobs[req.Expected]; ok {
		return nil, status.Errorf(codes.AlreadyExists, "content %s: already exists", req.Expected)
	}
	have := s.Partial[req.Ref]
	if req.Action != content.WriteAction_STAT {
		if req.Offset == 0 {
			have = nil
		} else if req.Offset != int64(len(have)) {
			return nil, status.Errorf(codes.OutOfRange, "write at %d, have %d", req.Offset, len(have))
		}
		data := req.Data
		if s.FailWrites > 0 && len(data) > 1 {
			s.FailWrites--
			s.Partial[req.Ref] = append(have, data[:len(data)/2]...)
			return nil, status.Error(codes.Unavailable, "the machine lost power")
		}
		have = append(have, data...)
		s.Partial[req.Ref] = have
	}
	if req.Action == content.WriteAction_COMMIT {
		if digest.FromBytes(have).String() != req.Expected || int64(len(have)) != req.Total {
			return nil, status.Errorf(codes.FailedPrecondition, "unexpected digest or size of %s", req.Ref)
		}
		s.Blobs[req.Expected], s.Labels[req.Expected] = have, req.Labels
		delete(s.Partial, req.Ref)
	}
	return &content.WriteContentResponse{Action: req.Action, Offset: int64(len(have)), Digest: req.Expected}, nil
}

type imageServer struct {
	images.UnimplementedImagesServer
	s *Server
}

func (i imageServer) Get(ctx context.Context, r *images.GetImageRequest) (*images.GetImageResponse, error) {
	if err := inNamespace(ctx); err != nil {
		return nil, err
	}
	i.s.mu.Lock()
	defer i.s.mu.Unlock()
	if img, ok := i.s.Images[r.Name]; ok {
		return &images.GetImageResponse{Image: img}, nil
	}
	return nil, status.Errorf(codes.NotFound, "image %s", r.Name)
}

func (i imageServer) Create(ctx context.Context, r *images.CreateImageRequest) (*images.CreateImageResponse, error) {
	return &images.CreateImageResponse{Image: r.Image}, i.s.put(ctx, r.Image, false)
}

func (i imageServer) Update(ctx context.Context, r *images.UpdateImageRequest) (*images.UpdateImageResponse, error) {
	return &images.UpdateImageResponse{Image: r.Image}, i.s.put(ctx, r.Image, true)
}

func (s *Server) put(ctx context.Context, img *images.Image, replace bool) error {
	if err := inNamespace(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.Images[img.Name]; ok && !replace {
		return status.Errorf(codes.AlreadyExists, "image %s: already exists", img.Name)
	}
	if _, ok := s.Blobs[img.Target.GetDigest()]; !ok {
		return status.Errorf(codes.NotFound, "content %s: not found", img.Target.GetDigest())
	}
	s.Images[img.Name] = &images.Image{Name: img.Name, Labels: img.Labels,
		Target: &apitypes.Descriptor{MediaType: img.Target.GetMediaType(), Digest: img.Target.GetDigest(), Size: img.Target.GetSize()}}
	return nil
}

type leaseServer struct {
	leases.UnimplementedLeasesServer
	s *Server
}

func (l leaseServer) Create(ctx context.Context, r *leases.CreateRequest) (*leases.CreateResponse, error) {
	if err := inNamespace(ctx); err != nil {
		return nil, err
	}
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.s.Leases[r.ID] {
		return nil, status.Errorf(codes.AlreadyExists, "lease %s: already exists", r.ID)
	}
	l.s.Leases[r.ID] = true
	return &leases.CreateResponse{Lease: &leases.Lease{ID: r.ID}}, nil
}

func (l leaseServer) Delete(_ context.Context, r *leases.DeleteRequest) (*emptypb.Empty, error) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	delete(l.s.Leases, r.ID)
	return &emptypb.Empty{}, nil
}

type criServer struct {
	cri.UnimplementedImageServiceServer
	s *Server
}

func (c criServer) ImageStatus(_ context.Context, r *cri.ImageStatusRequest) (*cri.ImageStatusResponse, error) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if img, ok := c.s.Images[r.Image.GetImage()]; ok {
		return &cri.ImageStatusResponse{Image: &cri.Image{Id: img.Target.GetDigest()}}, nil
	}
	return &cri.ImageStatusResponse{}, nil
}
