// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Temporary says whether a call may succeed when made again. An API server that has just
// started refuses connections, then answers 401 and 403 until its authenticators and RBAC
// roles are loaded, and 404 for namespaces it is about to create. So everything is
// temporary except what says that the object itself is wrong; the caller's deadline ends
// the waiting.
func Temporary(err error) bool {
	if errors.Is(err, context.Canceled) {
		return false
	}
	return !apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err) && !apierrors.IsMethodNotSupported(err) &&
		!apierrors.IsRequestEntityTooLargeError(err) && !apierrors.IsUnsupportedMediaType(err)
}

// NotFound says whether the answer was that the object does not exist.
func NotFound(err error) bool { return apierrors.IsNotFound(err) }
