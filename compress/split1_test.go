package compress

import (
	"bytes"
	"fmt"
	"path/filepath"
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
