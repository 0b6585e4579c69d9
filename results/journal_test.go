package results

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// writeJournal makes a journal of blocks of 1, 2, 3, ... rows and returns its
// path, all rows, and the file sizes after the header and after each block.
func writeJournal(t testing.TB, key string, blocks int) (path string, rows []Row, sizes []int64) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "j")
	j, recovered, last, err := openJournal(path, key)
	if err != nil || recovered != nil || last != -1 {
		t.Fatalf("new journal: %v, last block %d, %v", recovered, last, err)
	}
	size := func() {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, info.Size())
	}
	size()
	all := testRows(key, blocks*(blocks+1)/2)
	for b := range blocks {
		part := all[b*(b+1)/2 : (b+1)*(b+2)/2]
		if err := j.Append(b, part); err != nil {
			t.Fatal(err)
		}
		size()
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	return path, all, sizes
}

func TestJournalEveryTruncation(t *testing.T) {
	const blocks = 4
	key := testKey(1)
	path, rows, sizes := writeJournal(t, key, blocks)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(t.TempDir(), "cut")
	for n := range len(whole) + 1 {
		if err := os.WriteFile(cut, whole[:n], 0o644); err != nil {
			t.Fatal(err)
		}
		want := -1
		for want+1 < blocks && sizes[want+2] <= int64(n) {
			want++
		}
		j, got, last, err := openJournal(cut, key)
		if err != nil {
			t.Fatalf("cut at %d: %v", n, err)
		}
		if last != want {
			t.Fatalf("cut at %d: last block %d, want %d", n, last, want)
		}
		var wantRows []Row
		if want >= 0 {
			wantRows = rows[:(want+1)*(want+2)/2]
		}
		diff(t, "recovered rows", got, wantRows)
		// Going on from there must give the uninterrupted file, byte for byte.
		for b := last + 1; b < blocks; b++ {
			if err := j.Append(b, rows[b*(b+1)/2:(b+1)*(b+2)/2]); err != nil {
				t.Fatal(err)
			}
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		resumed, err := os.ReadFile(cut)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(resumed, whole) {
			t.Fatalf("cut at %d: the resumed journal differs from the uninterrupted one", n)
		}
	}
}

func TestJournalTornTail(t *testing.T) {
	key := testKey(1)
	path, rows, sizes := writeJournal(t, key, 3)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		edit func(b []byte) []byte
		last int
	}{
		{"zeros after a lost write", func(b []byte) []byte { return append(b, make([]byte, 100)...) }, 2},
		{"length beyond the file", func(b []byte) []byte { return append(b, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5) }, 2},
		{"last byte flipped", func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, 1},
		{"second block flipped", func(b []byte) []byte { b[sizes[1]+20] ^= 1; return b }, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, _, last, n, err := decodeJournal(tc.edit(bytes.Clone(whole)), key)
			if err != nil {
				t.Fatal(err)
			}
			if last != tc.last || int64(n) != sizes[tc.last+1] {
				t.Errorf("last block %d in %d bytes, want %d in %d", last, n, tc.last, sizes[tc.last+1])
			}
			diff(t, "rows", got, rows[:(tc.last+1)*(tc.last+2)/2])
		})
	}
}

func TestJournalRefuses(t *testing.T) {
	key := testKey(1)
	path, _, _ := writeJournal(t, key, 1)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	record := func(payload []byte) []byte {
		b := appendJournalHeader(nil, key)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
		b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(payload, castagnoli))
		return append(b, payload...)
	}
	newer := bytes.Clone(whole)
	newer[8]++
	sum := journalHeader - 4
	binary.LittleEndian.PutUint32(newer[sum:], crc32.Checksum(newer[:sum], castagnoli))
	twice := append(bytes.Clone(whole), whole[journalHeader:]...)
	for _, tc := range []struct {
		name, want string
		b          []byte
		key        string
	}{
		{"other file", "not a journal of this cell", []byte("PAR1 and then something"), key},
		{"other cell", "not a journal of this cell", whole, testKey(2)},
		{"newer schema", "unsupported schema version 2, this program reads version 1", newer, key},
		{"block twice", "block 0 after block 0", twice, key},
		{"no rows where some are named", "too large", record([]byte{0, 200, 1}), key},
		{"bytes after the counts", "after the last count", record([]byte{0, 0, 0, 9}), key},
		{"no counts where some are named", "number of counts", record([]byte{0, 0, 200, 1}), key},
		{"a count of 64 bits", "count too large", record(append(append([]byte{0, 0, 1}, bytes.Repeat([]byte{0xff}, 9)...), 1)), key},
		{"unknown flag", "row flags", record(append([]byte{0, 1, 0x80}, make([]byte, 40)...)), key},
		{"reference without a row before", "row flags", record(append([]byte{0, 1, 1}, make([]byte, 40)...)), key},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, _, _, err := decodeJournal(tc.b, tc.key)
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want one line with %q", err, tc.want)
			}
		})
	}
	if _, _, _, _, err := decodeJournal(newer, key); !errors.Is(err, ErrSchema) {
		t.Errorf("a newer journal gives %v, want ErrSchema", err)
	}
}

// TestJournalGarbage: a file that is no journal of the cell is begun afresh.
func TestJournalGarbage(t *testing.T) {
	key := testKey(1)
	path, _, _ := writeJournal(t, key, 2)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(whole)
	flipped[8] ^= 2 // the version, with the checksum of the right one
	for _, b := range [][]byte{[]byte("garbage"), bytes.Repeat([]byte{0}, 5000), flipped, append(appendJournalHeader(nil, testKey(2)), 1, 2)} {
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		j, rows, last, err := openJournal(path, key)
		if err != nil || rows != nil || last != -1 {
			t.Fatalf("%.10q: %d rows, last block %d, %v", b, len(rows), last, err)
		}
		for k, n := range []int{1, 3} {
			if err := j.Append(k, testRows(key, 3)[n/2:n]); err != nil {
				t.Fatal(err)
			}
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, whole) {
			t.Errorf("%.10q: the journal begun afresh differs from a new one", b)
		}
	}
}

func TestJournalEncodesEveryField(t *testing.T) {
	rows := fullRows(10)
	counts := []int64{0, 7, 1 << 40}
	block, got, gotCounts, err := decodeBlock(appendBlock(nil, 12, rows, counts))
	if err != nil || block != 12 {
		t.Fatalf("block %d, %v", block, err)
	}
	diff(t, "rows", got, rows)
	diff(t, "counts", gotCounts, counts)
}

// TestJournalCounts: the counts of whole blocks are added up, place by place.
func TestJournalCounts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "j")
	for step, want := range [][]int64{nil, {1, 2}, {5, 2, 9}, {5, 2, 9}} {
		j, _, last, err := openJournal(path, testKey(1))
		if err != nil || last != step-1 {
			t.Fatalf("last block %d, %v", last, err)
		}
		diff(t, "counts", j.Counts(), want)
		if err := j.AppendCounted(step, nil, [][]int64{{1, 2}, {4, 0, 9}, nil, nil}[step]); err != nil {
			t.Fatal(err)
		}
		j.Close()
	}
}

func TestJournalBlocksAscend(t *testing.T) {
	j, _, _, err := openJournal(filepath.Join(t.TempDir(), "j"), testKey(1))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if err := j.Append(3, nil); err != nil {
		t.Fatal(err)
	}
	if err := j.Append(3, nil); err == nil {
		t.Error("the same block was taken twice")
	}
	if err := j.Append(5, nil); err != nil {
		t.Errorf("a gap was refused: %v", err)
	}
}

func FuzzJournal(f *testing.F) {
	key := testKey(1)
	path, _, _ := writeJournal(f, key, 3)
	b, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)-3])
	f.Add(appendJournalHeader(nil, key))
	f.Add([]byte(journalMagic))
	f.Fuzz(func(t *testing.T, b []byte) {
		// The payload decoder is behind a checksum that a fuzzer rarely meets.
		if block, rows, counts, err := decodeBlock(b); err == nil {
			_, again, counted, err := decodeBlock(appendBlock(nil, block, rows, counts))
			if err != nil || len(again) != len(rows) || len(counted) != len(counts) {
				t.Fatalf("a block of %d rows came back with %d, %v", len(rows), len(again), err)
			}
		}
		rows, _, last, whole, err := decodeJournal(b, key)
		if err != nil {
			return
		}
		if whole > len(b) || last < -1 {
			t.Fatalf("%d of %d bytes are whole, last block %d", whole, len(b), last)
		}
		rows2, _, last2, _, err := decodeJournal(b[:whole], key)
		if err != nil || last2 != last || len(rows2) != len(rows) {
			t.Fatalf("the whole part gives %d rows to block %d, %v; want %d to %d", len(rows2), last2, err, len(rows), last)
		}
	})
}
