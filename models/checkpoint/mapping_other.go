//go:build !unix

package checkpoint

import (
	"errors"
	"os"
)

// mapFile always answers errors.ErrUnsupported here, so that files are read instead.
func mapFile(*os.File, int) (data []byte, unmap func() error, err error) {
	return nil, nil, errors.ErrUnsupported
}

// releasePages has nothing to do: no file is mapped here.
func releasePages([]byte) {}
