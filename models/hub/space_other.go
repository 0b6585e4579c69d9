//go:build !(darwin || dragonfly || freebsd || linux || windows)

package hub

import "errors"

// freeBytes is not known here, so the disk is not checked before a download.
func freeBytes(string) (uint64, error) { return 0, errors.ErrUnsupported }
