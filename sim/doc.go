// Package sim computes what a split costs from numbers alone: no clock, no files, no model.
//
// It follows arXiv 2511.04002, section 2. From the shape of a model (models.go) come the memory the edge
// needs for weights (Eq. 1) and for the key-value cache (Eq. 2), the size of what crosses the split (Eq. 3),
// the memory constraint (Eq. 8c) and a planning bound on compressed sizes (memory.go). A fading link has the
// rate at which Eq. 9 is smallest (channel.go). A server that many devices share is simulated step by step,
// with continuous or static batching (server.go), for requests of seeded devices (workload.go): Fig. 5.
//
// Sizes of memory and payload are whole bits in int64; a result that does not fit is an error, never a wrapped
// number. The server has seconds and bytes in float64. Layers are
// counted from 1. Where the paper can be read in several ways, each reading is an option and the zero value
// of the option is the default.
package sim
