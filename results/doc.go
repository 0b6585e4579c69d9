// Package results keeps what a run measured: rows, cells, run directories,
// tables and paired comparisons. It imports nothing of the other packages, so
// that a directory written by one program can be read, checked and compared by
// another that knows no model.
//
// The way of the data:
//
//  1. [Create] makes or reopens a run directory and takes its lock. The spec in
//     it never changes; a different spec is refused.
//  2. [Run.Journal] gives back the rows of the blocks that were finished before
//     a crash, then takes the rows of each further block. A block is on disk
//     when [Journal.Append] returns.
//  3. [Run.Commit] writes cells/<key>.parquet and then cells/<key>.json, each to
//     a temporary name, synced and renamed. A cell is done when both are there
//     and agree: [Run.Done].
//  4. [Run.Merge] streams the done cells into run.parquet.
//  5. [OpenRun], [Run.Cells] and [Run.Rows] read them back; [Tables] and
//     [Compare] turn them into tables and tests.
//
// A cell is the unit of caching and failure, a row the unit of storage.
// Aggregates can always be recomputed from the rows ([Run.Metrics]).
//
// # Files of a run
//
//	spec.yaml            the resolved spec, as given to Create
//	manifest.json        names, versions, digests, host, the cells in order
//	cells/<key>.parquet  one [Row] per scored choice, document or block
//	cells/<key>.json     one [CellResult]
//	cells/<key>.journal  rows of an unfinished cell
//	run.parquet          the rows of all done cells
//
// Everything in them but the object "measured" of a cell and the times of the
// manifest is the same, byte for byte, in two runs of one spec on one host.
package results
