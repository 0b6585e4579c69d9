//go:build !linux

package cpu

// mapMemory returns nil: the Go heap serves.
func mapMemory(int) (region []byte, release func([]byte)) { return nil, nil }
