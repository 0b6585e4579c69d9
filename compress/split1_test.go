package compress

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// trainOn returns tables learned from m.
func trainOn(t testing.TB, m Matrix, o Options) *Tables {
	t.Helper()
	tr, err := NewTrainer(m.Cols, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := tr.Add(m); err != nil {
		t.Fatal(err)
	}
	tables, err := tr.Tables()
	if err != nil {
		t.Fatal(err)
	}
	return tables
}

// TestSplit1Size measures one-token messages on golden/codec, tables trained on
// its training rows: each restores what the quantiser does, none is longer than
// the packed form behind split1's own header, and at tau 5 and 4 bits the mean
// stays below what the issue of the format asks for, below the rows' own order-0
// entropy with one lane.
func TestSplit1Size(t *testing.T) {
	dir := filepath.Join(sharedDir(t), "golden", "codec")
	inputs := readTensors(t, filepath.Join(dir, "activations.safetensors"))
	train := inputs["llm_train"].matrix(t)
	const longestHeader = 2 + 2 + 1 + 3 + 3 + 4
	for _, tau := range []float64{1, 5, 10} {
		for _, bits := range []int{2, 3, 4, 8} {
			o := DefaultOptions()
			o.Threshold, o.MaxActivationBits = tau, bits
			tables := trainOn(t, train, o)
			for _, lanes := range []int{0, 1} {
				o.Lanes = lanes
				for _, trained := range []bool{true, false} {
					o.Tables = nil
					if trained {
						o.Tables = tables
					}
					line := fmt.Sprintf("tau %v, %d bits, lanes %d, trained %v:", tau, bits, lanes, trained)
					for _, input := range []string{"llm", "gauss"} {
						m := inputs[input].matrix(t)
						c, packed := mustCodec(t, "split1", o), mustCodec(t, "packed", o)
						total := 0
						for r := range m.Rows {
							row := Matrix{1, m.Cols, m.Row(r)}
							msg, parts, err := c.Encode(nil, row)
							if err != nil {
								t.Fatal(err)
							}
							got, err := c.Decode(nil, msg)
							if err != nil {
								t.Fatal(err)
							}
							reference, p, err := packed.Encode(nil, row)
							if err != nil {
								t.Fatal(err)
							}
							want, err := Decode(nil, reference)
							if err != nil {
								t.Fatal(err)
							}
							if !bytes.Equal(littleEndian(got.Data), littleEndian(want.Data)) {
								t.Fatalf("%s %s row %d restores other values than packed", line, input, r)
							}
							if parts.Total() != len(msg) || len(msg) > p.Total()-p.Header+longestHeader {
								t.Fatalf("%s %s row %d: %d bytes, parts %+v, packed %+v", line, input, r, len(msg), parts, p)
							}
							total += len(msg)
						}
						mean := float64(total) / float64(m.Rows)
						line += fmt.Sprintf(" %s %.1f", input, mean)
						if trained && input == "llm" && tau == 5 && bits == 4 && mean > map[int]float64{0: 1280, 1: 1248}[lanes] {
							t.Errorf("%s bytes per token", line)
						}
					}
					t.Log(line, "bytes per token")
				}
			}
		}
	}
}

// sealSplit1 appends the checksum of a message.
func sealSplit1(b []byte) []byte { return sealTables(b) }

// TestStartVector is worked by hand: symbol 1 of frequency 1280 and start 2048,
// again and again. A state of 1280 << 20 = 1342177280 and more would give a word
// away. One lane: 0, 2048, 6912 = 1*4096 + 768 + 2048, 23040, 75776, 243968,
// 781056, 2500864, 8002560, 25610240, 81954816, 262256896, 839223552, 2685516288:
// 13 rounds. Cut: 2685516288 = 655643 * 4096 + 2560. Two lanes: from 2560 10240,
// 34816, 112896, 362752, 1161728, 3717888, 11897600; from 655643 2099483, 6719771,
// 21503003, 68811035, 220195611, 704625691, 2254801947: 7 rounds.
func TestStartVector(t *testing.T) {
	var m laneModel
	m.build(&[laneContexts][laneSymbols]uint16{{2048, 1280, 768}}, 1)
	symbols := bytes.Repeat([]byte{1}, 40)
	states := []uint32{7, 7} // push begins from 0
	var s start
	if !s.push(&m, states, symbols, nil, len(symbols)) {
		t.Fatal("a state came out too large")
	}
	if s.rounds != [4]int{13, 7} || s.steps != 2 || s.used != 27 || !slices.Equal(states, []uint32{11897600 + 65536, 2254801947 + 65536}) {
		t.Fatalf("%+v, states %d", s, states)
	}
	got := append(bytes.Repeat([]byte{1}, 13), make([]byte, 27)...)
	if err := s.pop(&m, states, got, nil); err != nil || !bytes.Equal(got, symbols) {
		t.Fatalf("pops %v (%v)", got, err)
	}
	// A limit to the rounds of the last step.
	if !s.push(&m, states, symbols, nil, 2) || s.rounds != [4]int{13, 2} || !slices.Equal(states, []uint32{34816 + 65536, 6719771 + 65536}) {
		t.Fatalf("with a limit of 2 %+v, states %d", s, states)
	}
	// Not more rounds than there are symbols, and none at all.
	if !s.push(&m, states, symbols[:14], nil, 14) || s.rounds != [4]int{13} || !slices.Equal(states, []uint32{2560 + 65536, 655643 + 65536}) {
		t.Fatalf("14 symbols: %+v, states %d", s, states)
	}
	if !s.push(&m, states, nil, nil, 0) || s.rounds != [4]int{} || s.used != 0 || !slices.Equal(states, []uint32{65536, 65536}) {
		t.Fatalf("no symbols: %+v, states %d", s, states)
	}
	for lanes, want := range map[int]int{1: 1, 2: 1, 4: 1, 8: 1, 16: 2, 32: 4, 64: 8, 96: 96} {
		if got := startLanes(lanes); got != want {
			t.Errorf("%d lanes begin with %d, want %d", lanes, got, want)
		}
	}
}

func TestLanesBySize(t *testing.T) {
	for _, c := range []struct {
		expected   uint64
		cols, want int
	}{
		{0, 0, 1}, {511, 100, 1}, {512, 100, 2}, {512, 1, 1}, {8191, 4096, 16}, {8192, 4096, 32}, {8192, 31, 16},
		{32767, 4096, 32}, {32768, 4096, 64}, {32768, 4095, 32}, {32768, 448, 32}, {32768, 512, 64},
		{65536, 768, 96}, {65535, 768, 64}, {65536, 672, 32}, {65536, 5120, 64}, {65536, 9216, 96},
	} {
		if got := lanesBySize(c.expected, c.cols); got != c.want {
			t.Errorf("%d bits in rows of %d: %d lanes, want %d", c.expected, c.cols, got, c.want)
		}
	}
}

// fixedCodes are options under which whole numbers below 2^q are their own codes
// in a row that holds 2^q-1.
func fixedCodes(q int) Options {
	o := DefaultOptions()
	o.Threshold, o.Search, o.MaxActivationBits = math.Inf(1), "fixed", q+1
	return o
}

// checkSplit1 encodes m and compares what is decoded with the quantiser, and the
// length with that of packed.
func checkSplit1(o Options, m Matrix) error {
	c, err := NewCodec("split1", o)
	if err != nil {
		return err
	}
	msg, parts, err := c.Encode(nil, m)
	if err != nil {
		return err
	}
	out, err := c.Decode(nil, msg)
	if err != nil {
		return err
	}
	q, err := Quantise(m, o)
	if err != nil {
		return err
	}
	want := q.Restore(nil)
	if out.Rows != m.Rows || out.Cols != m.Cols || !bytes.Equal(littleEndian(out.Data), littleEndian(want.Data)) {
		return fmt.Errorf("restores other values than the quantiser")
	}
	packed, err := NewCodec("packed", o)
	if err != nil {
		return err
	}
	_, p, err := packed.Encode(nil, m)
	if err != nil {
		return err
	}
	if parts.Total() != len(msg) || parts.Side != p.Side || parts.Codes > p.Codes || parts.Sparse > p.Sparse || parts.Header > p.Header {
		return fmt.Errorf("parts %+v of %d bytes, packed %+v", parts, len(msg), p)
	}
	return nil
}

// TestStartOverflow makes codes whose start rounds leave a state without room for
// the constant that is added, so that the last step is done with a round less:
// those that decoding from such a state gives. The least symbol has frequency 1
// and start 0, so that every state comes down to 0 and stays there.
func TestStartOverflow(t *testing.T) {
	const q, class = 4, 6
	sec, _ := builtinTables().of(q)
	m := sec.model(class)
	if m.freq[1] != 1 {
		t.Fatalf("the least symbol has frequency %d", m.freq[1])
	}
	rng := rand.New(rand.NewPCG(8, 8))
	for _, lanes := range []int{1, 96} {
		states := make([]uint32, lanes)
		for k := range states {
			states[k] = uint32(1<<31 + rng.Uint64N(1<<31))
		}
		states[lanes/2] = math.MaxUint32 - 1000
		var tail []byte
		for slices.Max(states) > 0 {
			round := make([]byte, lanes)
			m.pop(states, round, nil, 0, 1, nil, false)
			tail = append(tail, round...)
		}
		// Before them codes for which the encoder takes the same class.
		symbols := make([]byte, 100*len(tail), 101*len(tail))
		for i := range symbols {
			slot, sym := uint16(rng.IntN(probOne)), 0
			for slot >= sec.freq[class][0][sym] {
				slot -= sec.freq[class][0][sym]
				sym++
			}
			symbols[i] = byte(sym)
		}
		symbols[0] = 1 // the largest magnitude, so that the scale is 1
		symbols = append(symbols, tail...)
		x := Matrix{1, len(symbols), make([]float32, len(symbols))}
		codes := make([]int16, len(symbols))
		sum := uint64(0)
		for i, sym := range symbols {
			codes[i] = int16(sym) - 1<<q
			x.Data[i] = float32(codes[i])
			sum += uint64(max(codes[i], -codes[i]))
		}
		if got := sec.tokenClass(statistic(sum, len(codes))); got != class || slices.Min(codes) != 1-1<<q {
			t.Fatalf("%d lanes: class %d", lanes, got)
		}
		var s start
		last := len(tail) / lanes
		if s.push(m, states, symbols, nil, len(symbols)) || s.rounds[0] != last || states[lanes/2] != math.MaxUint32-1000 {
			t.Fatalf("%d lanes: %+v, want %d rounds and no room", lanes, s, last)
		}
		if !s.push(m, states, symbols, nil, last-1) || s.rounds[0] != last-1 {
			t.Fatalf("%d lanes: %+v, want %d rounds", lanes, s, last-1)
		}
		o := fixedCodes(q)
		o.Lanes = lanes
		if err := checkSplit1(o, x); err != nil {
			t.Errorf("%d lanes: %v", lanes, err)
		}
		msg, _, err := mustCodec(t, "split1", o).Encode(nil, x)
		if err != nil || msg[1]&split1CodesMask != codesLanes<<split1CodesShift {
			t.Errorf("%d lanes: the codes are not in lanes (%v)", lanes, err)
		}
	}
}

// TestSplit1Shapes passes matrices of all kinds of shapes through all numbers of
// lanes and all Q: few columns, rows without codes in any place, no rows.
func TestSplit1Shapes(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	values := func(rows, cols int) Matrix {
		m := Matrix{rows, cols, make([]float32, rows*cols)}
		spread := math.Exp(3*rng.Float64() - 1)
		for i := range m.Data {
			switch m.Data[i] = float32(rng.NormFloat64() * spread); rng.IntN(200) {
			case 0:
				m.Data[i] *= 50
			case 1:
				m.Data[i] = []float32{float32(math.Inf(1)), float32(math.NaN()), 1e30, 1e-30}[rng.IntN(4)]
			}
		}
		for r := range rows {
			if rng.IntN(3) == 0 {
				clear(m.Row(r))
			}
		}
		return m
	}
	for i := range 3000 {
		o := DefaultOptions()
		o.Lanes = append([]int{0}, split1Lanes[:]...)[i%9]
		o.MaxActivationBits, o.LowerBound = 2+rng.IntN(7), 1+rng.IntN(7)
		o.Search = []string{"tabq", "fixed"}[rng.IntN(2)]
		o.Granularity, o.ScaleType = granularityNames[rng.IntN(2)], scaleTypeNames[rng.IntN(2)]
		o.Threshold = []float64{0, .5, 2, 5, math.Inf(1)}[rng.IntN(5)]
		rows, cols := rng.IntN(6), 1+rng.IntN([]int{4, 40, 400}[rng.IntN(3)])
		if rng.IntN(4) == 0 {
			tr, err := NewTrainer(cols, o)
			if err != nil {
				t.Fatal(err)
			}
			if err := tr.Add(values(5+rng.IntN(100), cols)); err != nil {
				t.Fatal(err)
			}
			if o.Tables, err = tr.Tables(); err != nil {
				continue // nothing below the threshold
			}
		}
		if err := checkSplit1(o, values(rows, cols)); err != nil {
			t.Fatalf("%d x %d, %+v: %v", rows, cols, o, err)
		}
	}
}

// TestSplit1Incompressible checks the forms that bound a message: codes all alike
// likely, columns far apart.
func TestSplit1Incompressible(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	for q := 1; q <= largestBits; q++ {
		o := fixedCodes(q)
		m := Matrix{2, 999, make([]float32, 1998)}
		for i := range m.Data {
			m.Data[i] = float32(rng.IntN(1<<(q+1)-1) - 1<<q + 1)
		}
		m.Data[0], m.Data[999] = float32(int(1)<<q-1), float32(1-int(1)<<q)
		if err := checkSplit1(o, m); err != nil {
			t.Errorf("Q %d: %v", q, err)
		}
	}
	// Three columns of three bytes and 125 of two in a row of 65536 cost, as gaps,
	// 2 + 9 + 250 bytes; in packed 256, and 4 per row and 4 more.
	const rows = 6
	m := Matrix{rows, 1 << 16, make([]float32, rows<<16)}
	for r := range rows {
		at := -1
		for k := range 128 {
			at += 129
			if k < 3 {
				at += 16385 - 129
			}
			m.Row(r)[at] = 100
		}
	}
	o := DefaultOptions()
	_, parts, err := mustCodec(t, "split1", o).Encode(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	_, p, err := mustCodec(t, "packed", o).Encode(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	if parts.Sparse != rows*(261+256) || p.Sparse != 4+rows*(4+256+256) || parts.Total() > p.Total() {
		t.Errorf("sparse parts of %d and %d bytes, messages of %d and %d", parts.Sparse, p.Sparse, parts.Total(), p.Total())
	}
}

// TestBadSplit1 changes messages with a right checksum.
func TestBadSplit1(t *testing.T) {
	const (
		// One row of eight, Q 3, scale .5, column 6 above, packed: the worked row.
		packed = "a1 28 01 08 0b 030038 01 06 40c7 582ae787"
		zeros  = "a1 00 01 02 01 00"
	)
	worked, err := Decode(nil, sealSplit1(unhex(t, packed)))
	if err != nil || !slices.Equal(worked.Data, []float32{.5, -1, 1.5, -2.5, 0, 3.5, -7.25, .5}) {
		t.Fatalf("decoded %v (%v)", worked.Data, err)
	}
	if _, err := Decode(nil, sealSplit1(unhex(t, zeros))); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, b, want string }{
		{"header", "a1", "do not begin a split1 message"},
		{"rows missing", "a1 00", "header is cut short"},
		{"long form of rows", "a1 00 8100 02 01 00", "shortest form"},
		{"rows of 11 bytes", "a1 00 ffffffffffffffffffff01 02 01 00", "cut short"},
		{"too many values", "a1 00 01 8180808001 01 00", "expected at most 268435456 values"},
		{"product wraps", "a1 00 80808080808080808001 02 01 00", "expected at most"},
		{"rows without columns", "a1 00 01 00 01 00", "1 rows without columns"},
		{"length short", "a1 00 01 02 00 00", "1 bytes after the end"},
		{"length long", "a1 00 01 02 02 00", "asks for more"},
		{"length wraps", "a1 00 01 02 ffffffffffffffffff01 00", "asks for more"},
		{"trained", "a1 04 3412 01 01 00", "needs tables 1234, the receiver has none"},
		{"value type 3, trained", "a1 07 3412 01 01 00", "name no form"},
		{"value type 3", "a1 2b" + packed[5:], "name no form"},
		{"codes form 3", "a1 38" + packed[5:], "name no form"},
		{"fewer bytes than rows", "a1 00 05 01 01 00", "1 bytes for 5 rows"},
		{"tag bits without Q", strings.Replace(zeros, "01 00", "01 80", 1), "row 0 has tag 0x80"},
		{"class bits without Q", strings.Replace(zeros, "01 00", "01 08", 1), "row 0 has tag 0x08"},
		{"scale missing", "a1 08 01 01 02 0100", "row 0 has scale"},
		{"scale 0", strings.Replace(packed, "030038", "030000", 1), "scale 0"},
		{"scale negative", strings.Replace(packed, "030038", "0300b8", 1), "scale -0.5"},
		{"scale infinite", strings.Replace(packed, "030038", "03007c", 1), "scale +Inf"},
		{"scale NaN", strings.Replace(packed, "030038", "03007e", 1), "scale NaN"},
		{"float32 scale NaN", "a1 08 01 01 06 810000c07f 01", "scale NaN"},
		{"gaps missing", "a1 20 01 02 01 00", "sparse part: row 0: 0 columns in 0 bytes"},
		{"more gaps than columns", strings.Replace(packed, "01 06", "09 06", 1), "9 columns in"},
		{"column outside", strings.Replace(packed, "01 06", "01 08", 1), "not below 8"},
		{"columns wrap", strings.Replace(strings.Replace(packed, "01 06", "01 ffffffffffffffffff01", 1), "08 0b", "08 14", 1), "not below 8"},
		{"no column above", "a1 20 01 02 02 00 00", "sparse part holds nothing"},
		{"values missing", "a1 20 01 02 03 00 01 00", "values of 1 columns are cut short"},
		{"mask without hot channels", "a1 40 01 02 02 00 00", "the tables have none"},
		{"bitmap missing", "a1 60 01 09 02 00 01", "a bit for each of 9 columns"},
		{"bitmap outside", "a1 60 01 02 04 00 04 0000", "bit 2 of 2"},
		{"codes form without codes", strings.Replace(zeros, "a1 00", "a1 08", 1), "flags 0x08 do not fit"},
		{"codes without a form", strings.Replace(packed, "a1 28", "a1 20", 1), "flags 0x20 do not fit"},
		{"centroids of built-in tables", strings.Replace(packed, "a1 28", "a1 a8", 1), "flags 0xa8 do not fit"},
		{"centroids without codes", strings.Replace(zeros, "a1 00", "a1 80", 1), "flags 0x80 do not fit"},
		{"bytes behind zeros", "a1 00 01 02 02 00 00", "codes without a row"},
		{"packed short", strings.Replace(strings.Replace(packed, "582ae787", "582ae7", 1), "08 0b", "08 0a", 1), "codes have 3 bytes, expected 4"},
		{"packed code", strings.Replace(packed, "582a", "5f2a", 1), "row 0, column 0: code 8 does not fit Q 3"},
		{"packed padding", "a1 08 01 01 04 01003c 05", "padding"},
		{"value where a code is", strings.Replace(packed, "01 06", "01 05", 1), "column 5 has both"},
		{"lanes missing", "a1 10 01 01 03 01003c", "do not begin with a number of lanes"},
		{"number of lanes", "a1 10 01 01 05 01003c 08 00", "do not begin with a number of lanes"},
		{"start rounds above columns", "a1 10 01 01 09 01003c 00 02 00000000", "do not begin with a number of lanes"},
		{"states missing", "a1 10 01 01 06 01003c 00 00 00", "states of 1 lanes are cut short"},
		{"state padding", "a1 10 01 01 08 01003c 00 00 000080", "padding is not zero"},
		{"start rounds of two steps", "a1 10 01 02 0b 01003c 01 01 010000000000", "start rounds of 3 codes in rows of 2"},
		{"odd words", "a1 10 01 01 09 01003c 00 00 000000 00", "expected 0 and an even number"},
		{"low bits missing", "a1 10 01 18 08 06003c 00 00 000000", "codes have 5 bytes, expected more than the 6 of"},
		{"low bits missing behind states", "a1 10 01 18 0a 06003c 00 00 000000 0000", "2 bytes of words and low bits, expected 6"},
		{"word missing", "a1 10 01 01 08 01003c 00 00 000000", "words end in row 0"},
		{"words left over", "a1 10 01 01 0c 01003c 00 00 000000 00000000", "2 bytes left over"},
		{"end state", "a1 10 01 01 0a 01003c 00 00 000000 0000", "ends in state"},
	} {
		msg := sealSplit1(unhex(t, c.b))
		if c.name == "header" {
			msg = msg[:1]
		}
		_, err := Decode(nil, msg)
		if _, inspect := Inspect(msg); inspect != nil && !errors.Is(inspect, ErrMessage) {
			t.Errorf("%s: Inspect gives %v", c.name, inspect)
		}
		if !errors.Is(err, ErrMessage) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
	}
}

// TestSplit1Allocation checks that short messages that declare a large shape are
// refused before memory for it is taken.
func TestSplit1Allocation(t *testing.T) {
	for _, c := range []struct{ name, b string }{
		{"rows", "a1 00 808001 808001 01 00"},
		{"packed", "a1 08 01 8080808001 04 01003c00"},
		{"low bits", "a1 10 01 8080808001 0a 07003c 00 00 000000 0000"},
		{"bitmap", "a1 60 01 8080808001 02 00 01"},
		{"gaps", "a1 20 01 8080808001 06 00 ffffff7f 01"},
		{"start rounds above columns", "a1 10 01 05 08 01003c 00 8080808001"},
	} {
		msg := sealSplit1(unhex(t, c.b))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Decode(nil, msg)
		_, inspect := Inspect(msg)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrMessage) || c.name[0] != 's' && !errors.Is(inspect, ErrMessage) {
			t.Errorf("%s: errors %v and %v", c.name, err, inspect)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%s: a message of %d bytes takes %d bytes of memory", c.name, len(msg), n)
		}
	}
}

// TestInspectSplit1 compares Inspect with a message written by hand.
func TestInspectSplit1(t *testing.T) {
	msg := sealSplit1(unhex(t, "a1 29 02 08 0d 030038 00 01 06 00 e8c0 582ae787"))
	info, err := Inspect(msg)
	if err != nil {
		t.Fatal(err)
	}
	want := Parts{Header: 5 + 4, Side: 4, Sparse: 5, Codes: 4}
	if info.Codec != "split1" || info.Version != 1 || info.Rows != 2 || info.Cols != 8 || info.Bytes != 22 || info.Parts != want ||
		info.ValueType != "bfloat16" || info.Above != 1 || !slices.Equal(info.QRows, []int{1, 0, 0, 1, 0, 0, 0, 0}) || info.Tables != "" {
		t.Errorf("Inspect says %+v", info)
	}
}
