//go:build !amd64 || noasm

package compress

// availableRowLoops returns the loops this CPU can run, fastest first.
func availableRowLoops() []rowLoop { return []rowLoop{plainRowLoop} }
