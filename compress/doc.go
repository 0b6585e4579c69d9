// Package compress holds the boundary codec of split inference and the weight
// quantiser of its edge part, as pure functions on float32 matrices.
//
// The way of the data through the codec of arXiv 2511.04002, section 2.3, for a
// matrix with one token per row and one channel per column:
//
//  1. Threshold splitting (Eq. 4, ts.go): values with magnitude at or above the
//     threshold, and every value that is not finite, leave the row and travel
//     exactly as a sparse matrix (csr.go). Zeros stay in their places.
//  2. Token-wise adaptive bit quantisation (Algorithm 1, tabq.go): for each row
//     the number of magnitude bits Q is lowered from the allowed maximum while
//     the distortion of the integer codes stays within a tolerance.
//  3. Integer quantisation of the magnitudes at Q (Eq. 5 to 7, aiq.go); the sign
//     is put back on the code. The scale of each row travels with Q (side.go).
//  4. Entropy coding of the codes by interleaved rANS (rans.go, the codec
//     "literal") or packing at a fixed width (packed.go, the codec "packed").
//  5. One message with header, lengths and checksum around the parts
//     (message.go). Its length is the size reported in results.
//
// The codec "raw16" sends every value in two bytes and quantises nothing.
//
// The codec "split1" sends the values of steps 1 to 3 in a message made for one
// token (split1.go): tables of frequencies agreed beforehand (tables.go) or
// learned from the stream at both ends (session.go), few lanes. kv.go does so for
// the keys and values of a cache. FORMAT.md defines every byte that is written.
//
// Every reading of the paper that admits a choice is a field of [Options].
// [Quantise] stops after step 3 and gives the intermediate result; its Restore
// equals what [Decode] makes of the message bit for bit.
//
// wquant.go holds the group-wise weight quantisation of OPSC, histogram.go the
// distribution of magnitudes used by figures.
package compress
