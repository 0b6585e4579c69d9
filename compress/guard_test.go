//go:build !linux

package compress

import "testing"

// guarded returns n bytes; there are no guard pages here.
func guarded(t testing.TB, n int, front bool) []byte { return make([]byte, n) }
