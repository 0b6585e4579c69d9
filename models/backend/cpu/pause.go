//go:build (amd64 || arm64) && !noasm

package cpu

// pause idles a spinning goroutine's core for n > 0 short whiles.
func pause(n int)
