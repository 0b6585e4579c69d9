package compress

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"testing"
)

func hexSum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

type goldenFile struct {
	Delta float64
	Cases []struct {
		Input             string
		Tau               float64
		MaxActivationBits int    `json:"max_activation_bits"`
		Rows              int    `json:"rows"`
		RestoredSHA256    string `json:"restored_sha256"`
		CodesSHA256       string `json:"codes_sha256"`
		Bits              []int
		Scale             []float64
		Above             []int
		CodesRow0         []int16 `json:"codes_row0_first16"`
		MaxError          float64 `json:"max_error"`
		MeanError         float64 `json:"mean_error_below"`
		Order0            float64 `json:"order0_bytes_per_token"`
		Packed            float64 `json:"packed_bytes_per_token"`
		LiteralEntropy    float64 `json:"literal_entropy_bytes_per_token"`
	}
	Edges []struct {
		Input             string
		Tau               float64
		MaxActivationBits int `json:"max_activation_bits"`
		Codes             []int16
		Scale             float64
		Bits              int
		Above             []int
	}
}

func mustCodec(t testing.TB, name string, o Options) Codec {
	t.Helper()
	c, err := NewCodec(name, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestGoldenCases compares the quantiser and both codecs that keep it with
// golden/codec, all inputs, thresholds and widths.
func TestGoldenCases(t *testing.T) {
	dir := filepath.Join(sharedDir(t), "golden", "codec")
	var g goldenFile
	readJSON(t, filepath.Join(dir, "golden.json"), &g)
	inputs := readTensors(t, filepath.Join(dir, "activations.safetensors"))
	if len(g.Cases) == 0 {
		t.Fatal("no cases")
	}
	for _, c := range g.Cases {
		t.Run(fmt.Sprintf("%s/tau%v/bits%d", c.Input, c.Tau, c.MaxActivationBits), func(t *testing.T) {
			m := inputs[c.Input].matrix(t)
			o := DefaultOptions()
			o.Threshold, o.MaxActivationBits, o.Delta = c.Tau, c.MaxActivationBits, g.Delta
			q, err := Quantise(m, o)
			if err != nil {
				t.Fatal(err)
			}
			if got := hexSum(littleEndian(q.Codes)); got != c.CodesSHA256 {
				t.Errorf("codes have SHA-256 %s, want %s", got, c.CodesSHA256)
			}
			if !slices.Equal(q.Codes[:16], c.CodesRow0) {
				t.Errorf("row 0 starts %v, want %v", q.Codes[:16], c.CodesRow0)
			}
			for r := range q.Rows {
				above := int(q.Above.RowPtr[r+1] - q.Above.RowPtr[r])
				if int(q.Q[r]) != c.Bits[r] || float64(q.Scale[r]) != c.Scale[r] || above != c.Above[r] {
					t.Errorf("row %d: Q %d, scale %v, %d above, want %d, %v, %d", r, q.Q[r], q.Scale[r], above, c.Bits[r], c.Scale[r], c.Above[r])
				}
			}
			restored := q.Restore(nil)
			if got := hexSum(littleEndian(restored.Data)); got != c.RestoredSHA256 {
				t.Errorf("restored values have SHA-256 %s, want %s", got, c.RestoredSHA256)
			}
			var worst float64
			for i, v := range restored.Data {
				worst = max(worst, math.Abs(float64(v-m.Data[i])))
			}
			if worst != c.MaxError {
				t.Errorf("largest error %v, want %v", worst, c.MaxError)
			}
			for _, name := range []string{"literal", "packed", "split1"} {
				msg, parts, err := mustCodec(t, name, o).Encode(nil, m)
				if err != nil {
					t.Fatal(err)
				}
				back, err := Decode(nil, msg)
				if err != nil {
					t.Fatal(err)
				}
				if got := hexSum(littleEndian(back.Data)); got != c.RestoredSHA256 {
					t.Errorf("%s: decoded values have SHA-256 %s, want %s", name, got, c.RestoredSHA256)
				}
				if parts.Total() != len(msg) {
					t.Errorf("%s: parts %+v sum to %d, message has %d bytes", name, parts, parts.Total(), len(msg))
				}
				if name == "packed" && float64(parts.Codes) != c.Packed*float64(c.Rows) {
					t.Errorf("packed: codes have %d bytes, want %v", parts.Codes, c.Packed*float64(c.Rows))
				}
			}
			// One-token messages: no row is shorter than its entropy, and the
			// tables, states and codes together are not longer than those of
			// the DietGPU archive, whose tables alone take 512 bytes.
			literal, codes, total := mustCodec(t, "literal", o), 0, 0
			for r := range m.Rows {
				msg, parts, err := literal.Encode(nil, Matrix{1, m.Cols, m.Row(r)})
				if err != nil {
					t.Fatal(err)
				}
				back, err := literal.Decode(nil, msg)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(littleEndian(back.Data), littleEndian(restored.Row(r))) {
					t.Errorf("row %d alone decodes to other values than within the matrix", r)
				}
				codes += parts.Codes
				total += parts.Codes + parts.Tables
			}
			if low := c.Order0 * float64(m.Rows); float64(codes) < low || float64(codes) > low*1.002+128*float64(m.Rows) {
				t.Errorf("literal: codes have %d bytes, order-0 entropy is %.0f", codes, low)
			}
			if high := c.LiteralEntropy * float64(m.Rows); float64(total) > high {
				t.Errorf("literal: tables and codes have %d bytes, DietGPU archive %.0f", total, high)
			}
		})
	}
}

// sameValue compares bit patterns, NaNs by kind.
func sameValue(a, b float32) bool {
	return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b
}

// TestGoldenEdges compares the short rows of golden/codec: zeros, ties, values
// exactly at tau, NaN, infinity, subnormals.
func TestGoldenEdges(t *testing.T) {
	dir := filepath.Join(sharedDir(t), "golden", "codec")
	var g goldenFile
	readJSON(t, filepath.Join(dir, "golden.json"), &g)
	inputs := readTensors(t, filepath.Join(dir, "edges.safetensors"))
	if len(g.Edges) == 0 {
		t.Fatal("no edges")
	}
	for _, e := range g.Edges {
		t.Run(fmt.Sprintf("%s/bits%d", e.Input, e.MaxActivationBits), func(t *testing.T) {
			x := inputs[e.Input].floats(t)
			want := inputs[fmt.Sprintf("%s.restored%d", e.Input, e.MaxActivationBits)].floats(t)
			m := Matrix{1, len(x), x}
			o := DefaultOptions()
			o.Threshold, o.MaxActivationBits, o.Delta = e.Tau, e.MaxActivationBits, g.Delta
			q, err := Quantise(m, o)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(q.Codes, e.Codes) || float64(q.Scale[0]) != e.Scale || int(q.Q[0]) != e.Bits {
				t.Errorf("codes %v, scale %v, Q %d, want %v, %v, %d", q.Codes, q.Scale[0], q.Q[0], e.Codes, e.Scale, e.Bits)
			}
			mask := q.Above.Mask(nil, 0, len(x))
			for j := range x {
				if mask[j] != slices.Contains(e.Above, j) {
					t.Errorf("position %d above: %v", j, mask[j])
				}
			}
			outs := map[string]Matrix{"Restore": q.Restore(nil)}
			for _, name := range []string{"literal", "packed", "split1"} {
				msg, _, err := mustCodec(t, name, o).Encode(nil, m)
				if err != nil {
					t.Fatal(err)
				}
				if outs[name], err = Decode(nil, msg); err != nil {
					t.Fatal(err)
				}
			}
			for name, out := range outs {
				for j, v := range out.Data {
					if !sameValue(v, want[j]) {
						t.Errorf("%s: value %d is %x, want %x", name, j, math.Float32bits(v), math.Float32bits(want[j]))
					}
				}
			}
		})
	}
}

// TestGoldenBoundary compares the residual streams of two real models, five
// readings, with golden/lmeval/split.
func TestGoldenBoundary(t *testing.T) {
	dir := filepath.Join(sharedDir(t), "golden", "lmeval", "split")
	tensors := readTensors(t, filepath.Join(dir, "boundary_samples.safetensors"))
	var samples []struct{ Key string }
	readJSON(t, filepath.Join(dir, "boundary_samples.json"), &samples)
	configs := []struct {
		name   string
		bits   int
		search string
		tau    float64
	}{
		{"q4", 4, "tabq", 5}, {"q8fixed", 8, "fixed", 5}, {"q8tabq", 8, "tabq", 5},
		{"q4_tau0.1", 4, "tabq", .1}, {"q8tabq_tau0.1", 8, "tabq", .1},
	}
	compared := 0
	for _, s := range samples {
		m := tensors[s.Key+".H"].matrix(t)
		for _, c := range configs {
			want := func(name string) (tensor, bool) { x, ok := tensors[s.Key+"."+c.name+"."+name]; return x, ok }
			if _, ok := want("restored"); !ok {
				continue
			}
			compared++
			t.Run(s.Key+"/"+c.name, func(t *testing.T) {
				o := DefaultOptions()
				o.MaxActivationBits, o.Search, o.Threshold = c.bits, c.search, c.tau
				q, err := Quantise(m, o)
				if err != nil {
					t.Fatal(err)
				}
				bits := make([]int32, q.Rows)
				var above []uint8
				for r := range bits {
					bits[r] = int32(q.Q[r])
					for _, a := range q.Above.Mask(nil, r, q.Cols) {
						above = append(above, map[bool]uint8{true: 1}[a])
					}
				}
				for name, got := range map[string][]byte{
					"codes": littleEndian(q.Codes), "scale": littleEndian(q.Scale), "Q": littleEndian(bits), "above": above,
				} {
					if x, ok := want(name); !ok || !bytes.Equal(got, x.data) {
						t.Errorf("%s differ", name)
					}
				}
				x, _ := want("restored")
				restored := x.floats(t)
				for _, name := range []string{"literal", "packed", "split1"} {
					msg, _, err := mustCodec(t, name, o).Encode(nil, m)
					if err != nil {
						t.Fatal(err)
					}
					out, err := Decode(nil, msg)
					if err != nil {
						t.Fatal(err)
					}
					for i, v := range out.Data {
						// The golden multiplies by the sign, so it has -0
						// where a negative value has code 0.
						if v != restored[i] || v == 0 && math.Signbit(float64(v)) {
							t.Fatalf("%s: value %d is %v, want %v", name, i, v, restored[i])
						}
					}
				}
			})
		}
	}
	if compared == 0 {
		t.Fatal("no tensors to compare")
	}
	t.Logf("%d samples x readings", compared)
}

// TestGoldenWeights compares group-wise weight quantisation with the hashes of
// golden/lmeval/rtn, all linear layers of a real model.
func TestGoldenWeights(t *testing.T) {
	dir := sharedDir(t)
	tensors := readTensors(t, filepath.Join(dir, "data", "babyllama105", "hf", "model.safetensors"))
	for _, c := range []struct {
		name string
		s    WeightScheme
	}{
		{"w4ch", WeightScheme{4, 0}}, {"w3ch", WeightScheme{3, 0}}, {"w4g32", WeightScheme{4, 32}}, {"w3g32", WeightScheme{3, 32}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var want []struct {
				Tensor  string
				Shape   [2]int
				Codes   string `json:"codes_u8_sha256"`
				Scales  string `json:"scales_f32_sha256"`
				Zeros   string `json:"zeros_u8_sha256"`
				Dequant string `json:"dequant_f32_sha256"`
			}
			readJSON(t, filepath.Join(dir, "golden", "lmeval", "rtn", "babyllama105."+c.name+".weights.json"), &want)
			if len(want) != 35 {
				t.Fatalf("%d tensors, want 35", len(want))
			}
			for _, w := range want {
				m := tensors[w.Tensor].matrix(t)
				q, err := QuantiseWeights(m.Data, m.Rows, m.Cols, c.s)
				if err != nil {
					t.Fatal(err)
				}
				codes, values := make([]uint8, len(m.Data)), make([]float32, len(m.Data))
				for r := range m.Rows {
					q.RowCodes(codes[r*m.Cols:], r)
					q.Dequantise(values[r*m.Cols:], r)
				}
				for _, x := range []struct{ name, got, want string }{
					{"codes", hexSum(codes), w.Codes}, {"scales", hexSum(littleEndian(q.Scales)), w.Scales},
					{"zeros", hexSum(q.Zeros), w.Zeros}, {"weights", hexSum(littleEndian(values)), w.Dequant},
				} {
					if x.got != x.want {
						t.Errorf("%s: %s have SHA-256 %s, want %s", w.Tensor, x.name, x.got, x.want)
					}
				}
				if got, want := q.Bytes(), m.Rows*((m.Cols*c.s.Bits+7)/8+5*q.Groups()); got != want {
					t.Errorf("%s: %d bytes, want %d", w.Tensor, got, want)
				}
			}
		})
	}
}
