//go:build (!amd64 && !arm64) || noasm

package cpu

// pause idles for n short whiles.
//
//go:noinline
func pause(n int) {
	for range n {
	}
}
