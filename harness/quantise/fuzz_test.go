package quantise

import (
	"os"
	"path/filepath"
	"testing"

	"splitbench/models/checkpoint"
	"splitbench/models/decoder"
	"splitbench/models/quantize"
)

// FuzzStoredBlock reads any bytes as the file of a block: an error or a whole
// block, never a panic.
func FuzzStoredBlock(f *testing.F) {
	c := checkpoint.Config{HiddenSize: 4, IntermediateSize: 6, Layers: 1, Heads: 2, KVHeads: 1, HeadDim: 2, VocabSize: 3, AttentionBias: true}
	atom := quantize.AtomLadder(3, 4, 2, 2)
	methods := []quantize.Method{quantize.NewRTN(3, 0, false), atom[1], atom[4], {Algorithm: quantize.RTN, Weight: quantize.Precision{Bits: 16}}}
	dir := f.TempDir()
	for i, m := range methods {
		if err := NewWriter(dir, "", Header{}).Block(0, smallBlock(f, c, m)); err != nil {
			f.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, blockFile(0)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, uint8(i))
	}
	f.Fuzz(func(t *testing.T, file []byte, method uint8) {
		if err := os.WriteFile(filepath.Join(dir, blockFile(int(method)+1)), file, 0o644); err != nil {
			t.Fatal(err)
		}
		s := Stored{Dir: dir, Config: c, Header: Header{Method: methods[int(method)%len(methods)]}}
		b, err := s.block(int(method) + 1)
		if err != nil || b.settle() != nil {
			return
		}
		for i, l := range b.Linears {
			if len(l.Values) != l.Out*l.In || len(l.Values) == 0 {
				t.Errorf("%s has %d values", linearNames[i], len(l.Values))
			}
			l.packed()
		}
	})
}

// smallBlock is a quantized block of some numbers.
func smallBlock(t testing.TB, c checkpoint.Config, m quantize.Method) *Block {
	b := &Block{}
	numbers := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32((i*7)%11) - 5
		}
		return v
	}
	for i := range b.Norms {
		b.Norms[i] = numbers(c.HiddenSize)
	}
	widths := [4]int{c.HiddenSize, c.QueryWidth(), c.HiddenSize, c.IntermediateSize}
	for i, out := range [decoder.LinearMaps]int{c.QueryWidth(), c.KVWidth(), c.KVWidth(), c.HiddenSize, c.IntermediateSize, c.IntermediateSize, c.HiddenSize} {
		in := widths[inputOf[i]]
		b.Linears[i] = Linear{Out: out, In: in, Values: numbers(out * in)}
		if hasBias(c, i) {
			b.Linears[i].Bias = numbers(out)
		}
	}
	if m.Reorder {
		for i, n := range widths {
			b.Order[i] = quantize.ReorderIndex(numbers(n))
		}
	}
	if m.Weight.On() {
		if err := b.round(m); err != nil {
			t.Fatal(err)
		}
	}
	return b
}
