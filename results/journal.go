package results

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
)

// A journal is a header and records. The header names the schema version and
// the cell; a record is
//
//	length  uint32, little endian, of the payload, not 0
//	crc     uint32, little endian, CRC-32C of the payload
//	payload block number and row count as uvarints, then the rows, then the
//	        number of the block's counts as uvarint and the counts as uvarints
//
// A record that is cut short or does not match its checksum ends the journal: it
// is what a crash left of the block being written.
const (
	journalMagic  = "SBJRNL04"
	journalHeader = 8 + 4 + 64 + 4 // magic, version, key, CRC-32C of these
	recordHeader  = 8
	// minRow is the smallest encoded row: flags, 17 varints, one float.
	minRow = 1 + 10 + 7 + 8
)

// errHeader marks a file that holds no journal of the cell: nothing in it can be
// gone on with.
var errHeader = errors.New("not a journal of this cell")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Journal takes the rows of a cell block by block. It is not safe for concurrent
// use.
type Journal struct {
	f      *os.File
	last   int
	counts []int64 // of the recovered blocks
	buf    []byte
	err    error // of a failed Append; what follows it in the file is unknown
}

func appendJournalHeader(b []byte, key string) []byte {
	start := len(b)
	b = append(b, journalMagic...)
	b = binary.LittleEndian.AppendUint32(b, SchemaVersion)
	b = append(b, key...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

// openJournal opens or makes the journal of a cell, drops a torn tail, or all of
// it where the header is not one of the cell, and returns the rows of the whole blocks and the number of the last, -1 for none.
func openJournal(path, key string) (_ *Journal, rows []Row, last int, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, nil, -1, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, nil, -1, err
	}
	rows, counts, last, whole, err := decodeJournal(b, key)
	if errors.Is(err, errHeader) {
		rows, counts, last, whole, err = nil, nil, -1, 0, nil
	}
	if err != nil {
		return nil, nil, -1, fmt.Errorf("%s: %w; delete it to begin the cell again", path, err)
	}
	if whole < len(b) {
		if err := f.Truncate(int64(whole)); err != nil {
			return nil, nil, -1, err
		}
	}
	if _, err := f.Seek(int64(whole), io.SeekStart); err != nil {
		return nil, nil, -1, err
	}
	if whole == 0 {
		if _, err := f.Write(appendJournalHeader(nil, key)); err != nil {
			return nil, nil, -1, err
		}
	}
	if err := f.Sync(); err != nil {
		return nil, nil, -1, err
	}
	return &Journal{f: f, last: last, counts: counts}, rows, last, nil
}

// decodeJournal reads the whole records of b; counts is the sum of the blocks' counts. whole is the number of bytes they
// and the header take. Without the header of the cell's journal the error is
// errHeader, with a sound one of a newer schema it is ErrSchema. A record whose checksum is right but whose content is not
// is an error: no crash makes one.
func decodeJournal(b []byte, key string) (rows []Row, counts []int64, last, whole int, err error) {
	head := appendJournalHeader(nil, key)
	if n := min(len(b), journalHeader); string(b[:n]) != string(head[:n]) {
		const sum = journalHeader - 4
		if n == journalHeader && string(b[:8]) == journalMagic && binary.LittleEndian.Uint32(b[sum:]) == crc32.Checksum(b[:sum], castagnoli) {
			if v := binary.LittleEndian.Uint32(b[8:]); v > SchemaVersion {
				return nil, nil, -1, 0, fmt.Errorf("journal of %w %d, this program reads version %d", ErrSchema, v, SchemaVersion)
			}
		}
		return nil, nil, -1, 0, errHeader
	}
	if len(b) < journalHeader {
		return nil, nil, -1, 0, nil
	}
	last, whole = -1, journalHeader
	for {
		rest := b[whole:]
		if len(rest) < recordHeader {
			return rows, counts, last, whole, nil
		}
		n := int(binary.LittleEndian.Uint32(rest))
		if n == 0 || n > len(rest)-recordHeader {
			return rows, counts, last, whole, nil
		}
		payload := rest[recordHeader : recordHeader+n]
		if crc32.Checksum(payload, castagnoli) != binary.LittleEndian.Uint32(rest[4:]) {
			return rows, counts, last, whole, nil
		}
		block, part, add, err := decodeBlock(payload)
		if err != nil {
			return nil, nil, -1, 0, fmt.Errorf("record after block %d: %w", last, err)
		}
		if block <= last {
			return nil, nil, -1, 0, fmt.Errorf("block %d after block %d", block, last)
		}
		if counts, err = addCounts(counts, add); err != nil {
			return nil, nil, -1, 0, fmt.Errorf("record after block %d: %w", last, err)
		}
		last = block
		rows = append(rows, part...)
		whole += recordHeader + n
	}
}

// addCounts adds the counts of a block to those of the blocks before it.
func addCounts(sum, add []int64) ([]int64, error) {
	if len(sum) < len(add) {
		sum = append(sum, make([]int64, len(add)-len(sum))...)
	}
	for i, n := range add {
		if sum[i] > math.MaxInt64-n {
			return nil, errors.New("malformed block: counts exceed 64 bits")
		}
		sum[i] += n
	}
	return sum, nil
}

// Append adds the rows of a block and returns when they are on disk. Blocks are
// numbered from 0 upwards and each is given once; gaps are allowed.
func (j *Journal) Append(block int, rows []Row) error { return j.AppendCounted(block, rows, nil) }

// Counts returns the sums, place by place, of the counts that came with the
// blocks recovered.
func (j *Journal) Counts() []int64 { return j.counts }

// AppendCounted is Append for a block with counts, none of them negative: what
// the caller counted in the block, such as magnitudes.
func (j *Journal) AppendCounted(block int, rows []Row, counts []int64) error {
	if j.err != nil {
		return j.err
	}
	if block <= j.last || block > math.MaxInt32 {
		return fmt.Errorf("journal: block %d after block %d", block, j.last)
	}
	b := append(j.buf[:0], make([]byte, recordHeader)...)
	b = appendBlock(b, block, rows, counts)
	j.buf = b
	n := len(b) - recordHeader
	if n > math.MaxInt32 {
		return fmt.Errorf("journal: block %d has %d bytes, at most %d fit", block, n, math.MaxInt32)
	}
	binary.LittleEndian.PutUint32(b, uint32(n))
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[recordHeader:], castagnoli))
	if _, j.err = j.f.Write(b); j.err == nil {
		j.err = j.f.Sync()
	}
	if j.err == nil {
		j.last = block
	}
	return j.err
}

// Close closes the file. The journal stays until the cell is committed.
func (j *Journal) Close() error { return j.f.Close() }

// Flags of an encoded row.
const (
	flagSame byte = 1 << iota // cell and point as in the row before
	flagGreedy
	flagFallback
	flagIncludeKV
	flagEdge
	flagCloud
	flagsKnown = 1<<iota - 1
)

func appendBlock(b []byte, block int, rows []Row, counts []int64) []byte {
	b = binary.AppendUvarint(b, uint64(block))
	b = binary.AppendUvarint(b, uint64(len(rows)))
	for i := range rows {
		var before *Row
		if i > 0 {
			before = &rows[i-1]
		}
		b = appendRow(b, &rows[i], before)
	}
	b = binary.AppendUvarint(b, uint64(len(counts)))
	for _, n := range counts {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return b
}

// ints32 and ints64 list the integer columns in the order of the encoding.
func (p *Point) ints32() []*int32 {
	return []*int32{&p.SplitLayer, &p.WeightLayer, &p.FrontBits, &p.BackBits, &p.Group, &p.BackGroup, &p.MaxActivationBits, &p.LowerBound, &p.Lanes, &p.MaxTokens, &p.Block, &p.MaxLength,
		&p.ActivationBits, &p.KVBits, &p.BackActivationBits, &p.BackKVBits}
}

func (p *Point) strings() []*string {
	return []*string{&p.Model, &p.Task, &p.Protocol, &p.Method, &p.Codec,
		&p.Search, &p.StopRule, &p.Comparison, &p.Granularity, &p.AboveType, &p.SparseIndex, &p.ScaleType, &p.Limit,
		&p.TauBy, &p.Restore, &p.Tables, &p.KVTables, &p.Preset, &p.Quantizer, &p.BackQuantizer, &p.Calibration}
}

func (r *Row) ints32() []*int32 {
	return []*int32{&r.Doc, &r.Choice, &r.Gold, &r.ContextTokens, &r.Tokens, &r.Chars, &r.Bytes, &r.Words, &r.DroppedLeft, &r.PayloadTokens}
}

func (r *Row) ints64() []*int64 {
	return []*int64{&r.PayloadBytes, &r.PayloadHeader, &r.PayloadTables, &r.PayloadCodes, &r.PayloadSide, &r.PayloadSparse, &r.KVPayloadBytes}
}

func appendRow(b []byte, r, before *Row) []byte {
	// NaN differs from itself; such a point is simply written out again.
	same := before != nil && before.Cell == r.Cell && before.Point == r.Point
	var flags byte
	for _, f := range []struct {
		on   bool
		flag byte
	}{
		{same, flagSame}, {r.Greedy, flagGreedy}, {r.Fallback, flagFallback},
		{r.IncludeKV, flagIncludeKV}, {r.EdgeSeconds != nil, flagEdge}, {r.CloudSeconds != nil, flagCloud},
	} {
		if f.on {
			flags |= f.flag
		}
	}
	b = append(b, flags)
	if !same {
		b = appendString(b, r.Cell)
		for _, s := range r.Point.strings() {
			b = appendString(b, *s)
		}
		for _, v := range r.Point.ints32() {
			b = binary.AppendVarint(b, int64(*v))
		}
		b = binary.AppendVarint(b, r.Seed)
		b = appendFloat(b, r.Threshold)
		b = appendFloat(b, r.Delta)
		b = appendFloat(b, r.Clamp)
		b = appendFloat(b, r.Alpha)
	}
	for _, v := range r.ints32() {
		b = binary.AppendVarint(b, int64(*v))
	}
	for _, v := range r.ints64() {
		b = binary.AppendVarint(b, *v)
	}
	b = appendFloat(b, r.LogProb)
	if r.EdgeSeconds != nil {
		b = appendFloat(b, *r.EdgeSeconds)
	}
	if r.CloudSeconds != nil {
		b = appendFloat(b, *r.CloudSeconds)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendFloat(b []byte, v float64) []byte {
	return binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
}

// blockReader reads an encoded block. The first failure sticks.
type blockReader struct {
	b   []byte
	err error
}

func (r *blockReader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("malformed block: %s", what)
	}
	r.b = nil
}

func (r *blockReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *blockReader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail("number")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *blockReader) int32() int32 {
	v := r.varint()
	if v != int64(int32(v)) {
		r.fail("number exceeds 32 bits")
		return 0
	}
	return int32(v)
}

func (r *blockReader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail("cut short")
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *blockReader) byte() byte {
	b := r.take(1)
	if b == nil {
		return 0
	}
	return b[0]
}

func (r *blockReader) float() float64 {
	b := r.take(8)
	if b == nil {
		return 0
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(b))
}

func decodeBlock(b []byte) (block int, rows []Row, counts []int64, err error) {
	r := &blockReader{b: b}
	k, n := r.uvarint(), r.uvarint()
	if r.err == nil && (k > math.MaxInt32 || n > uint64(len(r.b)/minRow)) {
		r.fail("block number or row count too large")
	}
	if r.err != nil {
		return 0, nil, nil, r.err
	}
	rows = make([]Row, 0, n)
	for range n {
		var row Row
		flags := r.byte()
		if flags&^flagsKnown != 0 || flags&flagSame != 0 && len(rows) == 0 {
			r.fail("row flags")
		}
		if flags&flagSame != 0 && len(rows) > 0 {
			row.Cell, row.Point = rows[len(rows)-1].Cell, rows[len(rows)-1].Point
		} else {
			row.Cell = string(r.take(r.uvarint()))
			for _, s := range row.Point.strings() {
				*s = string(r.take(r.uvarint()))
			}
			for _, v := range row.Point.ints32() {
				*v = r.int32()
			}
			row.Seed = r.varint()
			row.Threshold = r.float()
			row.Delta = r.float()
			row.Clamp = r.float()
			row.Alpha = r.float()
		}
		row.IncludeKV = flags&flagIncludeKV != 0
		row.Greedy = flags&flagGreedy != 0
		row.Fallback = flags&flagFallback != 0
		for _, v := range row.ints32() {
			*v = r.int32()
		}
		for _, v := range row.ints64() {
			*v = r.varint()
		}
		row.LogProb = r.float()
		if flags&flagEdge != 0 {
			v := r.float()
			row.EdgeSeconds = &v
		}
		if flags&flagCloud != 0 {
			v := r.float()
			row.CloudSeconds = &v
		}
		if r.err != nil {
			return 0, nil, nil, r.err
		}
		rows = append(rows, row)
	}
	n = r.uvarint()
	if r.err == nil && n > uint64(len(r.b)) {
		r.fail("number of counts too large")
	}
	for i := uint64(0); i < n && r.err == nil; i++ {
		v := r.uvarint()
		if v > math.MaxInt64 {
			r.fail("count too large")
		}
		counts = append(counts, int64(v))
	}
	if r.err != nil {
		return 0, nil, nil, r.err
	}
	if len(r.b) != 0 {
		return 0, nil, nil, errors.New("malformed block: bytes after the last count")
	}
	return int(k), rows, counts, nil
}
