package compress

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// randomKV returns keys and values of the shape, normally distributed.
func randomKV(layers, rows, width int) KV {
	r := rand.New(rand.NewPCG(3, uint64(rows)))
	kv := KV{}
	for range layers {
		for _, list := range []*[]Matrix{&kv.Keys, &kv.Values} {
			m := Matrix{rows, width, make([]float32, rows*width)}
			for i := range m.Data {
				m.Data[i] = float32(r.NormFloat64())
			}
			*list = append(*list, m)
		}
	}
	return kv
}

// kvTablesOf returns tables trained on kv.
func kvTablesOf(t testing.TB, kv KV, o Options) *KVTables {
	tables := new(KVTables)
	for i := range kv.Keys {
		tables.Keys = append(tables.Keys, trainOn(t, kv.Keys[i], o))
		tables.Values = append(tables.Values, trainOn(t, kv.Values[i], o))
	}
	return tables
}

// TestKVTablesFile: the file is laid out as its comment says, put together here
// by hand from the files of its parts, and read back it is the same tables: one
// end has those trained, the other those of the file.
func TestKVTablesFile(t *testing.T) {
	o := DefaultOptions()
	kv := randomKV(2, 20, 12)
	tables := kvTablesOf(t, kv, o)
	file := tables.Append([]byte("before"))[len("before"):]
	want := []byte("SBK\x01\x02")
	for _, m := range []*Tables{tables.Keys[0], tables.Values[0], tables.Keys[1], tables.Values[1]} {
		b := m.Append(nil)
		want = append(binary.AppendUvarint(want, uint64(len(b))), b...)
	}
	want = binary.LittleEndian.AppendUint32(want, crc32.Checksum(want, crc32.MakeTable(crc32.Castagnoli)))
	if !bytes.Equal(file, want) {
		t.Fatalf("file of %d bytes, expected %d others", len(file), len(want))
	}
	read, err := ParseKVTables(file)
	if err != nil {
		t.Fatal(err)
	}
	if read.Layers() != 2 || read.Cols() != 12 || read.ID() != tables.ID() {
		t.Errorf("%d layers of %d columns, number %04x; expected 2, 12, %04x", read.Layers(), read.Cols(), read.ID(), tables.ID())
	}
	encoder, err := NewKVCodec(o, tables)
	if err != nil {
		t.Fatal(err)
	}
	decoder, err := NewKVCodec(o, read)
	if err != nil {
		t.Fatal(err)
	}
	kv.Position = 7
	msg, parts, err := encoder.Encode(nil, kv)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decoder.Decode(msg)
	if err != nil {
		t.Fatal(err)
	}
	packed := mustCodec(t, "packed", o)
	for i := range kv.Keys {
		for k, pair := range [][2]Matrix{{kv.Keys[i], got.Keys[i]}, {kv.Values[i], got.Values[i]}} {
			reference, _, err := packed.Encode(nil, pair[0])
			if err != nil {
				t.Fatal(err)
			}
			restored, err := Decode(nil, reference)
			if err != nil {
				t.Fatal(err)
			}
			for j, v := range restored.Data {
				if math.Float32bits(v) != math.Float32bits(pair[1].Data[j]) {
					t.Fatalf("layer %d, matrix %d, value %d: %v, packed restores %v", i, k, j, pair[1].Data[j], v)
				}
			}
		}
	}
	info, err := InspectKV(msg)
	if err != nil {
		t.Fatal(err)
	}
	if !IsKV(msg) || info.Layers != 2 || info.Rows != 20 || info.Cols != 12 || info.Position != 7 || info.Bytes != len(msg) || info.Tables == "" || parts.Total() != len(msg) {
		t.Errorf("message of %d bytes is %+v", len(msg), info)
	}
	for _, bad := range [][]byte{msg[:len(msg)-1], append(bytes.Clone(msg), 0), msg[:1], nil} {
		if _, err := InspectKV(bad); !errors.Is(err, ErrMessage) {
			t.Errorf("%d of %d bytes: %v", len(bad), len(msg), err)
		}
	}
}

func TestKVTablesRefuses(t *testing.T) {
	o := DefaultOptions()
	tables := kvTablesOf(t, randomKV(1, 8, 6), o)
	good := tables.Append(nil)
	other := trainOn(t, randomKV(1, 8, 5).Keys[0], o).Append(nil)
	seal := func(b []byte) []byte { return sealed(append(b, 0, 0, 0, 0)) }
	short := append([]byte("SBK\x01\x01"), other[:3]...)
	for _, tc := range []struct {
		want string
		b    []byte
	}{
		{`0 bytes that do not begin with "SBK"`, nil},
		{`that do not begin with "SBK"`, tables.Keys[0].Append(nil)},
		{"version 2, expected 1", seal(append([]byte("SBK\x02"), good[4:len(good)-4]...))},
		{"checksum", append(bytes.Clone(good), 0)},
		{"0 layers", seal([]byte("SBK\x01\x00rest"))},
		{"100 layers in ", seal([]byte("SBK\x01\x64rest"))},
		{"keys of layer 1 are cut short", seal(append(short, make([]byte, 20)...))},
		{"bytes behind the last layer", seal(append(bytes.Clone(good[:len(good)-4]), 1))},
		{"values of layer 1 have 5 columns, expected 6", func() []byte {
			keys := tables.Keys[0].Append(nil)
			b := append(binary.AppendUvarint([]byte("SBK\x01\x01"), uint64(len(keys))), keys...)
			return seal(append(binary.AppendUvarint(b, uint64(len(other))), other...))
		}()},
	} {
		_, err := ParseKVTables(tc.b)
		if !errors.Is(err, ErrMessage) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("got %v, want %s", err, tc.want)
		}
	}
}

// sealed puts the checksum at the end of b right.
func sealed(b []byte) []byte {
	n := len(b) - 4
	binary.LittleEndian.PutUint32(b[n:], crc32.Checksum(b[:n], castagnoli))
	return b
}

// FuzzParseKVTables: what is read is written again as it was.
func FuzzParseKVTables(f *testing.F) {
	o := DefaultOptions()
	f.Add(kvTablesOf(f, randomKV(2, 20, 5), o).Append(nil))
	o.MaxActivationBits = 2
	f.Add(kvTablesOf(f, randomKV(1, 3, 1), o).Append(nil))
	f.Add([]byte("SBK\x01\xff\xff\x03"))
	f.Fuzz(func(t *testing.T, b []byte) {
		b = bytes.Clone(b)
		if len(b) >= 4 {
			sealed(b)
		}
		tables, err := ParseKVTables(b)
		if err != nil {
			if !errors.Is(err, ErrMessage) {
				t.Fatal(err)
			}
			return
		}
		if again := tables.Append(nil); !bytes.Equal(again, b) {
			t.Fatalf("%d bytes are written again as %d others", len(b), len(again))
		}
	})
}
