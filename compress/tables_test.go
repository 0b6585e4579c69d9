package compress

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// TestBuiltinTables compares builtin.tables with the distribution that FORMAT.md
// says they come from. A difference of one is allowed for the error functions of
// other processors.
func TestBuiltinTables(t *testing.T) {
	for q := 1; q <= largestBits; q++ {
		sec := builtinTables().byQ[q]
		if sec.tokenClasses() != maxTokenClasses || len(sec.edges) != maxTokenClasses-1 || sec.classes != 1 || sec.centroids != nil {
			t.Fatalf("Q %d: %d token classes of %d", q, sec.tokenClasses(), sec.classes)
		}
		top := math.Pow(2, float64(q)) - 1
		largest, smallest := top/2, max(top/100, 1./6)
		var before float64
		for k := range maxTokenClasses {
			sigma := smallest * math.Pow(largest/smallest, float64(k)/(maxTokenClasses-1))
			freq, mean := normalFrequencies(q, sigma)
			for sym, f := range sec.freq[k][0] {
				if d := int(f) - int(freq[sym]); d < -1 || d > 1 {
					t.Errorf("Q %d, class %d, symbol %d: frequency %d, want %d", q, k, sym, f, freq[sym])
				}
			}
			if k > 0 {
				if want := 256 * math.Sqrt(mean*before); math.Abs(float64(sec.edges[k-1])-want) > .6 {
					t.Errorf("Q %d: edge %d is %d, want %v", q, k-1, sec.edges[k-1], want)
				}
			}
			before = mean
		}
	}
	for _, bad := range [][]byte{nil, builtinFile[:100], append(slices.Clone(builtinFile), 0), builtinFile[1:]} {
		if _, err := parseBuiltin(bad); err == nil {
			t.Errorf("%d other bytes are taken", len(bad))
		}
	}
}

// normalFrequencies returns the table of codes of q bits with standard deviation
// sigma before rounding, and their mean magnitude: a normal distribution, plus
// 1/16 of one with twice the deviation, plus 2^-14 for every code.
func normalFrequencies(q int, sigma float64) (freq [alphabetSize]uint16, mean float64) {
	top := 1<<q - 1
	weight := func(code int) float64 {
		between := func(sigma float64) float64 {
			lo, hi := (math.Abs(float64(code))-.5)/sigma, (math.Abs(float64(code))+.5)/sigma
			return math.Erfc(lo/math.Sqrt2) - math.Erfc(hi/math.Sqrt2)
		}
		return between(sigma) + between(2*sigma)/16
	}
	var total float64
	for c := -top; c <= top; c++ {
		total += weight(c)
	}
	var counts [alphabetSize]uint64
	for c := -top; c <= top; c++ {
		n := uint64(math.Round(weight(c)/total*(1<<24))) + 1<<10
		counts[(c+top+1)>>rawBits(q)] += n
		mean += math.Abs(float64(c)) * float64(n)
	}
	normalise32(&freq, &counts)
	return freq, mean / (1<<24 + float64(2*top+1)*(1<<10))
}

func TestSymbolCost(t *testing.T) {
	for f := 1; f <= probOne; f++ {
		want := (12 - math.Log2(float64(f))) * 65536
		if got := float64(symbolCost(uint16(f))); got < want-.01 || got > want+2 {
			t.Fatalf("frequency %d costs %v, want %v", f, got, want)
		}
	}
	if symbolCost(probOne) != 0 || symbolCost(1) != 12<<16 || symbolCost(1024) != 2<<16 {
		t.Error("powers of two are not exact")
	}
}

func TestClassEdges(t *testing.T) {
	for _, c := range []struct {
		stats []uint32
		n     int
		want  []uint16
	}{
		{[]uint32{4, 1, 3, 2}, 1, nil},
		{[]uint32{4, 1, 3, 2}, 2, []uint16{3}},
		{[]uint32{4, 1, 3, 2}, 4, []uint16{2, 3, 4}},
		{[]uint32{5, 5, 5, 5}, 4, nil},
		{[]uint32{1, 5, 5, 5}, 4, []uint16{5}},
		{[]uint32{1, 70000, 80000, 90000}, 4, []uint16{65535}},
	} {
		if got := classEdges(c.stats, c.n); !slices.Equal(got, c.want) {
			t.Errorf("edges of %v in %d: %v, want %v", c.stats, c.n, got, c.want)
		}
	}
	s := section{edges: []uint16{10, 20}}
	for statistic, want := range map[uint32]int{0: 0, 9: 0, 10: 1, 19: 1, 20: 2, 1 << 20: 2} {
		if got := s.tokenClass(statistic); got != want {
			t.Errorf("statistic %d has class %d, want %d", statistic, got, want)
		}
	}
	if got := statistic(7, 3); got != 597 { // 1792/3
		t.Errorf("statistic %d, want 597", got)
	}
}

// TestTablesByHand trains on one value: code 1 of Q 1, in a channel that is class
// 0. Counts there are 1, 1 and 64 + 2048 + 1 of 2115, so frequencies 2, 2 and
// 4092; in the other classes 1, 1 and 1, so 1366, 1365 and 1365.
func TestTablesByHand(t *testing.T) {
	o := DefaultOptions()
	o.MaxActivationBits = 2
	tables := trainOn(t, Matrix{1, 1, []float32{1}}, o)
	body := "01 00 00" + // columns, class, no hot channel
		"01 00" + // Q, edges
		"01 03 02 20 00 fc 0f" + strings.Repeat("01 03 56 55 55 55 05", 3) +
		"00"
	want := unhex(t, "53 42 54 01"+body)
	want = binary.LittleEndian.AppendUint32(want, crc32c(want))
	if got := tables.Append(nil); !bytes.Equal(got, want) {
		t.Errorf("%x, want\n%x", got, want)
	}
	if id := uint16(crc32c(unhex(t, body))); tables.ID() != id || tables.Cols() != 1 || len(tables.Hot()) != 0 || !slices.Equal(tables.TrainedBits(), []int{1}) {
		t.Errorf("number %04x, want %04x; %d columns, hot %v, bits %v", tables.ID(), id, tables.Cols(), tables.Hot(), tables.TrainedBits())
	}
}

// TestCentroids trains on rows of scale 1 (the largest value is 7) and checks the
// centroids and what codes are restored to by hand.
func TestCentroids(t *testing.T) {
	o := DefaultOptions()
	o.Threshold, o.Restore = 10, "centroid"
	rows := []float32{
		7, 1.25, -1.25, 2.75,
		-7, 1, -1.5, 0.25, // 1.5 rounds to the even 2
		7, 30, 2.25, 0,
	}
	o.Tables = trainOn(t, Matrix{3, 4, rows}, o)
	sec := o.Tables.byQ[3]
	// |code| 1: 1.25, 1.25, 1 is +1/6 = 42.67/256, cut to 42; 2: 1.5 and 2.25 is
	// -1/8; 3: 2.75 is -1/4; 7 is exact.
	if want := [16]int8{1: 42, 2: -32, 3: -64}; len(sec.centroids) != 1 || sec.centroids[0] != want {
		t.Fatalf("centroids %v, want %v", sec.centroids, want)
	}
	c := mustCodec(t, "split1", o)
	msg, _, err := c.Encode(nil, Matrix{1, 4, []float32{-14, 2, -6, 4}}) // -14 is above
	if err != nil {
		t.Fatal(err)
	}
	if msg[1]&split1Centroids == 0 {
		t.Errorf("flags %02x", msg[1])
	}
	for _, x := range []struct{ in, want []float32 }{
		{[]float32{7, -3, 2, 1}, []float32{7, -2.75, 1.875, 1 + 42./256}},
		{[]float32{-3.5, 0, -.5, .25}, []float32{-3.5, 0, -.5 - 21./256, 0}}, // scale 1/2; .25 is half a step: even, 0
		{[]float32{0, 0, 0, -20}, []float32{0, 0, 0, -20}},
	} {
		msg, _, err := c.Encode(nil, Matrix{1, 4, x.in})
		if err != nil {
			t.Fatal(err)
		}
		out, err := c.Decode(nil, msg)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(out.Data, x.want) {
			t.Errorf("%v is restored as %v, want %v", x.in, out.Data, x.want)
		}
		center := o
		center.Restore = "center"
		if msg, _, err = mustCodec(t, "split1", center).Encode(msg[:0], Matrix{1, 4, x.in}); err != nil || msg[1]&split1Centroids != 0 {
			t.Errorf("flags %02x without centroids (%v)", msg[1], err)
		}
	}
	// At the ends of the numbers: neither 0 nor infinite.
	row := make([]float32, 4)
	restoreCentroids(row, []int16{1, -1, 2, 0}, math.SmallestNonzeroFloat32, &[16]int8{1: -127, 2: 127})
	if !slices.Equal(row, []float32{0x1p-149, -0x1p-149, 2 * 0x1p-149, 0}) {
		t.Errorf("the least scale restores %v", row)
	}
	restoreCentroids(row, []int16{7, -7, 1, 0}, 0x1p126, &[16]int8{7: 127})
	if !slices.Equal(row, []float32{math.MaxFloat32, -math.MaxFloat32, 0x1p126, 0}) {
		t.Errorf("a large scale restores %v", row)
	}
}

// trainingRows are rows of several Q with hot channels.
func trainingRows(rows, cols int, seed uint64) Matrix {
	rng := rand.New(rand.NewPCG(seed, 9))
	m := Matrix{rows, cols, make([]float32, rows*cols)}
	for i := range m.Data {
		j := i % cols
		m.Data[i] = float32(rng.NormFloat64() * math.Exp(float64(j%7)/3) * math.Exp(float64(i/cols%5)/4))
		if rng.IntN(9) == 0 {
			m.Data[i] *= 4
		}
	}
	return m
}

func TestTrainingDeterministic(t *testing.T) {
	for _, bits := range []int{2, 4, 7} {
		o := DefaultOptions()
		o.MaxActivationBits, o.LowerBound = bits, 1
		m := trainingRows(120, 50, 1)
		tables := trainOn(t, m, o)
		file := tables.Append([]byte("x"))[1:]
		// In pieces, and while other trainings go on.
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				tr, err := NewTrainer(m.Cols, o)
				if err != nil {
					t.Error(err)
					return
				}
				for r := 0; r < m.Rows; r += 40 {
					if err := tr.Add(Matrix{40, m.Cols, m.Data[r*m.Cols : (r+40)*m.Cols]}); err != nil {
						t.Error(err)
					}
				}
				got, err := tr.Tables()
				if err != nil || !bytes.Equal(got.Append(nil), file) || tr.Rows() != m.Rows {
					t.Errorf("%d bits: training again gives other tables (%v)", bits, err)
				}
			})
		}
		wg.Wait()
		parsed, err := ParseTables(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(parsed.Append(nil), file) || parsed.ID() != tables.ID() || !slices.Equal(parsed.Hot(), tables.Hot()) ||
			!slices.Equal(parsed.TrainedBits(), tables.TrainedBits()) || parsed.Cols() != m.Cols {
			t.Errorf("%d bits: parsed tables differ", bits)
		}
		o.Tables, o.Restore = tables, "centroid"
		a := mustCodec(t, "split1", o)
		o.Tables = parsed
		b := mustCodec(t, "split1", o)
		for seed := range uint64(5) {
			x := trainingRows(int(seed), m.Cols, 2+seed)
			one, _, err := a.Encode(nil, x)
			if err != nil {
				t.Fatal(err)
			}
			two, _, err := b.Encode(nil, x)
			if err != nil || !bytes.Equal(one, two) {
				t.Errorf("%d bits: messages of parsed tables differ (%v)", bits, err)
			}
			left, err := a.Decode(nil, one)
			if err != nil {
				t.Fatal(err)
			}
			if right, err := b.Decode(nil, one); err != nil || !bytes.Equal(littleEndian(left.Data), littleEndian(right.Data)) {
				t.Errorf("%d bits: parsed tables restore other values (%v)", bits, err)
			}
		}
	}
}

// TestTablesShared uses new tables from several goroutines at once, so that they
// build the forms that the coder needs side by side.
func TestTablesShared(t *testing.T) {
	o := DefaultOptions()
	o.MaxActivationBits, o.LowerBound = 5, 1
	trained := trainOn(t, trainingRows(100, 64, 3), o)
	m := trainingRows(8, 64, 4)
	var wg sync.WaitGroup
	parsed, err := ParseTables(trained.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	o.Tables = parsed
	c := mustCodec(t, "split1", o)
	o.Tables = trained
	want, _, err := mustCodec(t, "split1", o).Encode(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		wg.Go(func() {
			got, _, err := c.Encode(nil, m)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("messages differ (%v)", err)
			}
			if _, err := c.Decode(nil, want); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestTrainedBelowBuiltin checks that training pays on rows like those trained
// on, and that the tables are near the rows' entropy per channel class.
func TestTrainedBelowBuiltin(t *testing.T) {
	dir := filepath.Join(sharedDir(t), "golden", "codec")
	inputs := readTensors(t, filepath.Join(dir, "activations.safetensors"))
	train, m := inputs["llm_train"].matrix(t), inputs["llm"].matrix(t)
	for _, bits := range []int{2, 3, 4, 8} {
		o := DefaultOptions()
		o.MaxActivationBits = bits
		_, builtin, err := mustCodec(t, "split1", o).Encode(nil, m)
		if err != nil {
			t.Fatal(err)
		}
		o.Tables = trainOn(t, train, o)
		_, trained, err := mustCodec(t, "split1", o).Encode(nil, m)
		if err != nil {
			t.Fatal(err)
		}
		// Order-0 entropy of the codes of each row.
		q, err := Quantise(m, o)
		if err != nil {
			t.Fatal(err)
		}
		var entropy float64
		for r := range m.Rows {
			counts := map[int16]float64{}
			for _, c := range q.Codes[r*m.Cols : (r+1)*m.Cols] {
				counts[c]++
			}
			for _, n := range counts {
				entropy -= n * math.Log2(n/float64(m.Cols)) / 8
			}
		}
		t.Logf("%d bits: codes of %d rows in %d bytes, built-in tables %d, order-0 entropy of the rows %.0f", bits, m.Rows, trained.Codes, builtin.Codes, entropy)
		if float64(trained.Codes) > entropy || trained.Codes >= builtin.Codes || float64(builtin.Codes) > 1.05*entropy {
			t.Errorf("%d bits: codes have %d bytes, with built-in tables %d, order-0 entropy %.0f", bits, trained.Codes, builtin.Codes, entropy)
		}
	}
}

func TestTrainerErrors(t *testing.T) {
	o := DefaultOptions()
	for _, cols := range []int{-1, 0, maxTableCols + 1} {
		if _, err := NewTrainer(cols, o); err == nil {
			t.Errorf("%d columns are taken", cols)
		}
	}
	bad := o
	bad.MaxActivationBits = 9
	if _, err := NewTrainer(1, bad); err == nil {
		t.Error("9 bits are taken")
	}
	tr, err := NewTrainer(2, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []Matrix{{1, 3, make([]float32, 3)}, {2, 2, make([]float32, 3)}} {
		if err := tr.Add(m); err == nil {
			t.Errorf("a matrix of %d x %d is taken", m.Rows, m.Cols)
		}
	}
	if err := tr.Add(Matrix{1, 2, []float32{0, 100}}); err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Tables(); err == nil || !strings.Contains(err.Error(), "no row with a code in 1 training rows") {
		t.Errorf("without a code: %v", err)
	}
}

// TestTrainingBound checks that training keeps to its bound of memory whatever
// the columns, with and without the values that codes came from.
func TestTrainingBound(t *testing.T) {
	for _, cols := range []int{7, maxTableCols} {
		rows := min(10000, maxTrainingBytes/cols+2)
		q := &Quantised{Rows: rows, Cols: cols, Codes: make([]int16, rows*cols), Q: make([]uint8, rows), Scale: make([]float32, rows)}
		q.Above.RowPtr = make([]uint32, rows+1)
		for r := range rows {
			q.Q[r], q.Scale[r] = 3, 1
		}
		m := &Matrix{rows, cols, make([]float32, rows*cols)}
		for _, values := range []*Matrix{nil, m} {
			s := newSample(cols)
			for range maxTrainingBytes/(rows*cols) + 2 {
				s.add(q, values)
			}
			each := cols + 1
			if values != nil {
				each += 128
			}
			if kept := len(s.codes) + len(s.q) + 128*len(s.bias); kept > 1<<26 || kept <= 1<<26-each || len(s.q) != s.rows {
				t.Errorf("%d columns: %d bytes of %d rows are kept", cols, kept, s.rows)
			}
		}
	}
}

// sealTables writes the checksum behind the tables b.
func sealTables(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(slices.Clone(b), crc32c(b))
}

func TestBadTables(t *testing.T) {
	const (
		head  = "53425401"
		class = "01 03 02 20 00 fc 0f"
		good  = head + "01 00 00" + "01 00" + class + class + class + class + "00"
	)
	if _, err := ParseTables(sealTables(unhex(t, good))); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, b, want string }{
		{"magic", "53425301" + good[8:], `do not begin with "SBT"`},
		{"version", "53425402" + good[8:], "version 2, expected 1"},
		{"no columns", head + "00 00", "0 columns"},
		{"too many columns", head + "818008" + strings.Repeat("00", 40000), "131073 columns"},
		{"columns without classes", head + "808008 00", "131072 columns in 12 bytes"},
		{"long form", head + "8100 00 00", "0 columns"},
		{"class padding", head + "01 04 00" + "01 00" + class + class + class + class + "00", "padding of the channel classes"},
		{"hot channel outside", head + "01 00 0101" + "01 00" + class + class + class + class + "00", "hot channels"},
		{"hot channels missing", head + "01 00", "hot channels"},
		{"no section", head + "01 00 00", "no section"},
		{"Q 0", head + "01 00 00 00 00", "section of 0 bits"},
		{"Q 8", head + "01 00 00 08 00", "section of 8 bits"},
		{"Q twice", good + "01 00" + class + class + class + class + "00", "section of 1 bits after that of 1 bits"},
		{"16 edges", head + "01 00 00 01 10" + strings.Repeat("0100", 16), "16 edges"},
		{"edges missing", head + "01 00 00 01 02 0100", "cut short in the edges"},
		{"edges do not rise", head + "01 00 00 01 02 0100 0100", "edge 1 is 1 after 1"},
		{"frequencies missing", head + "01 00 00 01 00" + class + class + class, "cut short in the frequencies"},
		{"first symbol", head + "01 00 00 01 00" + strings.Repeat("00 02"+class[5:], 4) + "00", "symbols 0 to 2, expected 1 to 3"},
		{"other Q", head + "01 00 00 02 00" + strings.Repeat(class, 4) + "00", "symbols 1 to 3, expected 1 to 7"},
		{"sum", head + "01 00 00 01 00" + strings.Repeat("01 03 02 20 00 fd 0f", 4) + "00", "sums to"},
		{"frequency 0 inside", head + "01 00 00 01 00" + strings.Repeat("01 03 04 00 00 fc 0f", 4) + "00", "has frequency 0"},
		{"frequency padding", head + "01 00 00 01 00" + strings.Repeat("01 03 02 20 00 fc 1f", 4) + "00", "sums to"},
		{"no mark of centroids", good[:len(good)-2], "mark of centroids"},
		{"mark of centroids", good[:len(good)-2] + "02", "mark of centroids is 2"},
		{"centroids missing", good[:len(good)-2] + "01", "cut short in the centroids"},
		{"trailing byte", good + "00", "section of 0 bits after"},
	} {
		_, err := ParseTables(sealTables(unhex(t, c.b)))
		if !errors.Is(err, ErrMessage) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
		}
	}
	o := DefaultOptions()
	file := trainOn(t, trainingRows(40, 9, 1), o).Append(nil)
	for n := range file {
		if _, err := ParseTables(file[:n:n]); !errors.Is(err, ErrMessage) {
			t.Fatalf("cut to %d of %d bytes: %v", n, len(file), err)
		}
		bad := slices.Clone(file)
		bad[n] ^= 0x10
		if _, err := ParseTables(bad); !errors.Is(err, ErrMessage) {
			t.Fatalf("byte %d changed: %v", n, err)
		}
	}
	if _, err := ParseTables(append(slices.Clone(file), 0)); !errors.Is(err, ErrMessage) {
		t.Fatalf("a byte behind: %v", err)
	}
}

// TestWrongTables decodes messages under other tables than their own.
func TestWrongTables(t *testing.T) {
	o := DefaultOptions()
	m := trainingRows(3, 40, 5)
	one, two, wide := trainOn(t, trainingRows(40, 40, 1), o), trainOn(t, trainingRows(40, 40, 2), o), trainOn(t, trainingRows(40, 41, 2), o)
	codecs := map[string]Codec{"built-in": mustCodec(t, "split1", o)}
	for name, tables := range map[string]*Tables{"one": one, "two": two, "wide": wide} {
		o.Tables = tables
		codecs[name] = mustCodec(t, "split1", o)
	}
	for _, from := range []string{"built-in", "one", "two"} {
		msg, _, err := codecs[from].Encode(nil, m)
		if err != nil {
			t.Fatal(err)
		}
		for to, c := range codecs {
			_, err := c.Decode(nil, msg)
			if from == to {
				if err != nil {
					t.Errorf("%s: %v", from, err)
				}
				continue
			}
			if !errors.Is(err, ErrMessage) || !strings.Contains(err.Error(), "tables") {
				t.Errorf("a message of %s decoded with %s: %v", from, to, err)
			}
		}
		info, err := Inspect(msg)
		if err != nil || info.Rows != 3 || info.Parts.Total() != len(msg) || (info.Tables == "") != (from == "built-in") || info.Cols != map[bool]int{true: 40}[from == "built-in"] {
			t.Errorf("Inspect says %+v (%v)", info, err)
		}
		_, err = Decode(nil, msg)
		if from != "built-in" && (err == nil || !strings.Contains(err.Error(), "needs tables "+info.Tables+", the receiver has none")) {
			t.Errorf("Decode without tables: %v", err)
		}
	}
	if _, _, err := codecs["wide"].Encode(nil, m); err == nil || err.Error() != "compress: matrix of 40 columns, the tables are for 41" {
		t.Errorf("tables of 41 columns: %v", err)
	}
}

// TestHotChannels checks which channels get a bit in every row.
func TestHotChannels(t *testing.T) {
	s := newSample(300)
	s.rows = 120
	for j := range s.above {
		s.above[j] = uint32(j % 13) // above in more than a twelfth of the rows from 11 on
	}
	got := s.hotChannels()
	if len(got) != 46 || got[0] != 11 || got[1] != 12 || got[2] != 24 || !slices.IsSorted(got) {
		t.Errorf("%d hot channels %v", len(got), got)
	}
	for j := range s.above {
		s.above[j] = 50
	}
	s.above[299] = 51
	if got = s.hotChannels(); len(got) != maxHotChannels || got[254] != 254 || got[255] != 299 {
		t.Errorf("%d hot channels %v", len(got), got)
	}
}
