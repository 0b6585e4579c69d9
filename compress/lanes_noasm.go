//go:build !amd64 || noasm

package compress

// laneTables is empty without vector kernels.
type laneTables struct{}

// availableLaneLoops returns the loops this CPU can run, fastest first.
func availableLaneLoops() []laneLoop { return []laneLoop{lanePlain} }

func (m *laneModel) buildVector() { m.vector = laneTables{} }

func (m *laneModel) pushVector(states []uint32, symbols, contexts []byte, lo, hi int, w *wordStack) int {
	return hi
}

func (m *laneModel) pushStartVector(states []uint32, symbols, contexts []byte, left int) (int, bool) {
	return 0, false
}

func (m *laneModel) popVector(states []uint32, symbols, contexts []byte, lo, hi int, src []byte, renormalise bool) (int, int, bool) {
	return lo, 0, true
}
