package compress

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// kvCache returns a cache of the given shape, each matrix from other values.
func kvCache(layers, rows, width, position int, seed uint64) KV {
	kv := KV{Position: position}
	for i := range layers {
		kv.Keys = append(kv.Keys, trainingRows(rows, width, seed+uint64(2*i)))
		kv.Values = append(kv.Values, trainingRows(rows, width, seed+uint64(2*i+1)))
	}
	return kv
}

// kvTables trains tables of their own for the keys and values of each layer.
func kvTables(t testing.TB, layers, width int, o Options) *KVTables {
	t.Helper()
	out := new(KVTables)
	kv := kvCache(layers, 40, width, 0, 500)
	for i := range layers {
		for j := range kv.Values[i].Data { // values are not spread like keys
			kv.Values[i].Data[j] /= float32(2 + i)
		}
		out.Keys = append(out.Keys, trainOn(t, kv.Keys[i], o))
		out.Values = append(out.Values, trainOn(t, kv.Values[i], o))
	}
	return out
}

func mustKV(t testing.TB, o Options, tables *KVTables) *KVCodec {
	t.Helper()
	c, err := NewKVCodec(o, tables)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func encodeKV(t testing.TB, c *KVCodec, kv KV) []byte {
	t.Helper()
	msg, parts, err := c.Encode([]byte("x"), kv)
	if err != nil {
		t.Fatal(err)
	}
	if msg = msg[1:]; parts.Total() != len(msg) || parts.Header < 12 {
		t.Fatalf("parts %+v of %d bytes", parts, len(msg))
	}
	return msg
}

// sameKV compares kv, decoded, with what the quantiser restores of want.
func sameKV(t testing.TB, kv, want KV, o Options) {
	t.Helper()
	if kv.Position != want.Position || len(kv.Keys) != len(want.Keys) || len(kv.Values) != len(want.Keys) {
		t.Fatalf("%d layers at %d, want %d at %d", len(kv.Keys), kv.Position, len(want.Keys), want.Position)
	}
	for i := range kv.Keys {
		for k, got := range []Matrix{kv.Keys[i], kv.Values[i]} {
			q, err := Quantise([]Matrix{want.Keys[i], want.Values[i]}[k], o)
			if err != nil {
				t.Fatal(err)
			}
			x := q.Restore(nil)
			if got.Rows != x.Rows || got.Cols != x.Cols || !bytes.Equal(littleEndian(got.Data), littleEndian(x.Data)) {
				t.Fatalf("layer %d, matrix %d: restored values differ", i+1, k)
			}
		}
	}
}

// TestKV hands a cache over and then sends the entries of one token after the
// other, with built-in tables and with tables per layer.
func TestKV(t *testing.T) {
	const layers, width = 3, 64
	o := DefaultOptions()
	tables := kvTables(t, layers, width, o)
	built, trained := mustKV(t, o, nil), mustKV(t, o, tables)
	var sizes []int
	for _, c := range []*KVCodec{built, trained} {
		total := 0
		prompt := kvCache(layers, 37, width, 0, 1)
		msg := encodeKV(t, c, prompt)
		if !bytes.Equal(msg, encodeKV(t, c, prompt)) {
			t.Error("a second encoding differs")
		}
		out, err := c.Decode(msg)
		if err != nil {
			t.Fatal(err)
		}
		sameKV(t, out, prompt, o)
		total += len(msg)
		for token := range 5 {
			next := kvCache(layers, 1, width, 37+token, uint64(100+10*token))
			msg := encodeKV(t, c, next)
			if out, err = c.Decode(msg); err != nil {
				t.Fatal(err)
			}
			sameKV(t, out, next, o)
			total += len(msg)
		}
		sizes = append(sizes, total)
		for _, shape := range [][3]int{{1, 0, 0}, {1, 0, width}, {2, 0, width}, {1, 1, width}} {
			kv := kvCache(shape[0], shape[1], shape[2], 7, 3)
			if c == trained && shape[2] != width {
				continue
			}
			if out, err = c.Decode(encodeKV(t, c, kv)); err != nil {
				t.Fatalf("%v: %v", shape, err)
			}
			sameKV(t, out, kv, o)
		}
	}
	if sizes[1] >= sizes[0] {
		t.Errorf("handover and tokens take %d bytes with tables, %d without", sizes[1], sizes[0])
	}
	// Swapped tables are others.
	swapped := &KVTables{Keys: tables.Values, Values: tables.Keys}
	if swapped.ID() == tables.ID() {
		t.Error("keys' and values' tables swapped have the same number")
	}
	var numbers []byte
	for i := range layers {
		numbers = binary.LittleEndian.AppendUint16(numbers, tables.Keys[i].ID())
		numbers = binary.LittleEndian.AppendUint16(numbers, tables.Values[i].ID())
	}
	if want := uint16(crc32c(numbers)); tables.ID() != want {
		t.Errorf("number %04x, want %04x", tables.ID(), want)
	}
	// A body is that of a split1 message.
	one := kvCache(1, 2, width, 0, 9)
	msg := encodeKV(t, built, one)
	key, _, err := mustCodec(t, "split1", o).Encode(nil, one.Keys[0])
	if err != nil {
		t.Fatal(err)
	}
	h, body, err := openSplit1(key)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(msg, append(binary.AppendUvarint([]byte{h.flags}, uint64(len(body))), body...)) {
		t.Error("the body of the keys is not that of split1")
	}
}

func TestKVConcurrent(t *testing.T) {
	o := DefaultOptions()
	c := mustKV(t, o, kvTables(t, 2, 32, o))
	kv := kvCache(2, 4, 32, 0, 1)
	want := encodeKV(t, mustKV(t, o, kvTables(t, 2, 32, o)), kv)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10 {
				msg, _, err := c.Encode(nil, kv)
				if err != nil || !bytes.Equal(msg, want) {
					t.Errorf("an encoding beside others differs (%v)", err)
				}
				if _, err := c.Decode(want); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestKVErrors(t *testing.T) {
	o := DefaultOptions()
	two, three := kvTables(t, 2, 16, o), kvTables(t, 3, 16, o)
	bad := o
	bad.Delta = -1
	if _, err := NewKVCodec(bad, nil); err == nil {
		t.Error("options are not checked")
	}
	for name, tables := range map[string]*KVTables{
		"empty": {}, "uneven": {Keys: two.Keys, Values: two.Values[:1]}, "nil": {Keys: []*Tables{nil}, Values: two.Values[:1]},
	} {
		if _, err := NewKVCodec(o, tables); err == nil {
			t.Errorf("%s tables are taken", name)
		}
	}
	built, c2, c3 := mustKV(t, o, nil), mustKV(t, o, two), mustKV(t, o, three)
	good := kvCache(2, 3, 16, 0, 1)
	change := func(f func(kv *KV)) KV {
		kv := KV{good.Position, slices.Clone(good.Keys), slices.Clone(good.Values)}
		f(&kv)
		return kv
	}
	for name, x := range map[string]struct {
		c    *KVCodec
		kv   KV
		want string
	}{
		"no layers":         {built, KV{}, "keys of 0 layers"},
		"uneven":            {built, change(func(kv *KV) { kv.Values = kv.Values[:1] }), "keys of 2 layers and values of 1"},
		"rows differ":       {built, change(func(kv *KV) { kv.Values[1] = trainingRows(2, 16, 1) }), "layer 2 has keys or values of 2 x 16, expected 3 x 16"},
		"width differs":     {built, change(func(kv *KV) { kv.Keys[1] = trainingRows(3, 15, 1) }), "layer 2 has keys or values of 3 x 15"},
		"data missing":      {built, change(func(kv *KV) { kv.Keys[1].Data = kv.Keys[1].Data[1:] }), "47 values"},
		"position negative": {built, change(func(kv *KV) { kv.Position = -1 }), "position -1"},
		"position large":    {built, change(func(kv *KV) { kv.Position = MaxValues + 1 }), "position 268435457"},
		"more layers":       {c2, kvCache(3, 1, 16, 0, 1), "layer 3, the tables are for 2 layers"},
		"other width":       {c2, kvCache(2, 1, 17, 0, 1), "layer 1 has 17 columns, its tables are for 16"},
	} {
		dst, _, err := x.c.Encode([]byte("x"), x.kv)
		if err == nil || !strings.Contains(err.Error(), x.want) || string(dst) != "x" {
			t.Errorf("%s: error %v, want one with %q", name, err, x.want)
		}
	}
	// Tables may be for more layers.
	out, err := c3.Decode(encodeKV(t, c3, good))
	if err != nil {
		t.Fatal(err)
	}
	sameKV(t, out, good, o)

	msgs := [][]byte{encodeKV(t, built, good), encodeKV(t, c2, good), encodeKV(t, c3, good)}
	for i, msg := range msgs {
		for j, c := range []*KVCodec{built, c2, c3} {
			_, err := c.Decode(msg)
			if i != j && (!errors.Is(err, ErrMessage) || !strings.Contains(err.Error(), "made with tables")) {
				t.Errorf("a message of codec %d decoded by %d: %v", i, j, err)
			}
		}
		c := []*KVCodec{built, c2, c3}[i]
		for n := range msg {
			if _, err := c.Decode(msg[:n:n]); !errors.Is(err, ErrMessage) {
				t.Fatalf("cut to %d of %d bytes: %v", n, len(msg), err)
			}
			if _, _, err := Frame(msg[:n:n]); !errors.Is(err, ErrMessage) {
				t.Fatalf("cut to %d of %d bytes: Frame gives %v", n, len(msg), err)
			}
			damaged := slices.Clone(msg)
			damaged[n] ^= 4
			if _, err := c.Decode(damaged); !errors.Is(err, ErrMessage) {
				t.Fatalf("byte %d changed: %v", n, err)
			}
		}
		if _, err := c.Decode(append(slices.Clone(msg), 0)); !errors.Is(err, ErrMessage) {
			t.Errorf("a byte behind: %v", err)
		}
		both := append(slices.Clone(msg), msgs[0]...)
		if one, rest, err := Frame(both); err != nil || !bytes.Equal(one, msg) || !bytes.Equal(rest, msgs[0]) {
			t.Errorf("Frame cuts %d and %d bytes (%v)", len(one), len(rest), err)
		}
		if _, err := Decode(nil, msg); !errors.Is(err, ErrMessage) {
			t.Errorf("Decode of keys and values: %v", err)
		}
		if _, err := Inspect(msg); !errors.Is(err, ErrMessage) {
			t.Errorf("Inspect of keys and values: %v", err)
		}
	}
}

// TestBadKV changes messages with a right checksum.
func TestBadKV(t *testing.T) {
	const good = "a2 00 01 01 02 05 09 " +
		"00 01 00 " + // keys: one row of zeros
		"08 04 01003c 02" // values: Q 1, scale 1, codes 1 and -1 (2 and 0 in two bits each)
	c := mustKV(t, DefaultOptions(), nil)
	kv, err := c.Decode(sealTables(unhex(t, good)))
	if err != nil {
		t.Fatal(err)
	}
	if kv.Position != 5 || !slices.Equal(kv.Keys[0].Data, []float32{0, 0}) || !slices.Equal(kv.Values[0].Data, []float32{1, -1}) {
		t.Fatalf("decoded %+v", kv)
	}
	for _, x := range []struct{ name, b, want string }{
		{"codes too long", strings.Replace(strings.Replace(strings.Replace(good, "05 09", "05 0a", 1), "08 04", "08 05", 1), "3c 02", "3c 02 00", 1), "layer 1, values: codes have 2 bytes, expected 1"},
		{"flags", strings.Replace(good, "a2 00", "a2 02", 1), "do not begin"},
		{"tables", "a2 01 3412" + good[5:], "made with tables 1234"},
		{"no layers", strings.Replace(good, "00 01 01", "00 00 01", 1), "0 layers"},
		{"layers", strings.Replace(good, "00 01 01", "00 818004 01", 1), "65537 layers"},
		{"more layers than bytes", strings.Replace(good, "00 01 01", "00 05 01", 1), "9 bytes for the keys and values of 5 layers"},
		{"no columns", strings.Replace(good, "01 01 02", "01 01 00", 1), "1 rows without columns"},
		{"too many values", strings.Replace(good, "01 01 02", "01 01 8180808001", 1), "expected at most 268435456"},
		{"twice too many values", strings.Replace(good, "01 01 02", "01 01 8080808001", 1), "keys and values of 1 layers"},
		{"layers times rows", strings.Replace(good, "01 01 02", "808004 808004 8020", 1), "keys and values of 65536 layers"},
		{"position", strings.Replace(good, "02 05 09", "02 8180808001 09", 1), "position 268435457"},
		{"length short", strings.Replace(good, "05 09", "05 08", 1), "1 bytes after the end"},
		{"length long", strings.Replace(good, "05 09", "05 0a", 1), "asks for more"},
		{"length wraps", strings.Replace(good, "05 09", "05 ffffffffffffffffff01", 1), "asks for more"},
		{"flags of a body", strings.Replace(good, "09 00 01 00", "09 04 01 00", 1), "layer 1: flags 0x04"},
		{"length of a body", strings.Replace(good, "08 04", "08 05", 1), "end too early"},
		{"length of a body wraps", strings.Replace(strings.Replace(good, "08 04", "08 ffffffffffffffffff01", 1), "05 09", "05 12", 1), "end too early"},
		{"bytes left in a body", strings.Replace(good, "08 04 01003c 02", "08 03 01003c 02", 1), "codes have 0 bytes"},
		{"centroids", strings.Replace(good, "08 04", "88 04", 1), "flags 0x88 do not fit"},
		{"bytes left", strings.Replace(strings.Replace(good, "05 09", "05 0a", 1), "01003c 02", "01003c 02 00", 1), "1 bytes behind the last layer"},
	} {
		_, err := c.Decode(sealTables(unhex(t, x.b)))
		if !errors.Is(err, ErrMessage) || !strings.Contains(err.Error(), x.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want one with %q", x.name, err, x.want)
		}
	}
}

// TestKVAllocation checks that short messages that declare much are refused
// before memory for it is taken.
func TestKVAllocation(t *testing.T) {
	c := mustKV(t, DefaultOptions(), nil)
	for _, b := range []string{
		"a2 00 808004 01 8010 00 06 000000000000",      // 65536 layers of 1 x 2048
		"a2 00 01 808001 8010 00 06 000000000000",      // 16384 rows
		"a2 00 01 01 80808040 00 06 000100 000100",     // 2^27 columns, no codes: above the limit given
		"a2 00 01 01 808040 00 0a 080401003c00 000100", // 2^20 columns: above it
	} {
		msg := sealTables(unhex(t, b))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := c.decode(msg, 1<<20)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrMessage) {
			t.Errorf("%s: error %v", b, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%s takes %d bytes of memory", b, n)
		}
	}
	// Tables for 24 columns, a message of 2^24.
	tables := trainOn(t, trainingRows(64, 24, 1), DefaultOptions())
	c = mustKV(t, DefaultOptions(), &KVTables{Keys: []*Tables{tables}, Values: []*Tables{tables}})
	b := binary.LittleEndian.AppendUint16([]byte{kvMagic, 1}, c.id)
	msg := sealTables(append(b, unhex(t, "01 01 80808008 00 06 000100 000100")...))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := c.Decode(msg)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; !errors.Is(err, ErrMessage) || n > 1<<20 {
		t.Errorf("a message of another width takes %d bytes of memory: %v", n, err)
	}
}
