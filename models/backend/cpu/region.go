package cpu

import (
	"runtime"
	"unsafe"
)

// offHeap is from how many bytes on the memory of a weight is mapped outside
// of the Go heap: large weights then do not raise the heap size at which the
// collector starts, which would let as much garbage pile up. The pages are
// ordinary ones; large ones read no faster than the kernels' prefetching, and
// the system takes its time to find them.
const offHeap = 4 << 20

// allocate returns n zeroed values that live as long as owner: whoever uses
// them keeps owner alive.
func allocate[T uint16 | uint32 | float32, O any](owner *O, n int) []T {
	var zero T
	size := n * int(unsafe.Sizeof(zero))
	if size < offHeap {
		return make([]T, n)
	}
	region, release := mapMemory(size)
	if region == nil {
		return make([]T, n)
	}
	runtime.AddCleanup(owner, func(r []byte) { release(r) }, region)
	return unsafe.Slice((*T)(unsafe.Pointer(&region[0])), n)
}
