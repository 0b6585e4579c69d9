package decoder

import (
	"slices"
	"strings"
	"testing"

	"splitbench/models/backend"
	"splitbench/models/backend/cpu"
)

// run returns the residual stream after the last layer of one batch that build
// fills, computed in two calls that meet after layer split.
func run(t *testing.T, m *Model, split int, build func(b *Batch)) []float32 {
	t.Helper()
	var edge, cloud Workspace
	var b Batch
	build(&b)
	x, err := m.Embed(&edge, &b)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Blocks(&edge, x, &b, 1, split); err != nil {
		t.Fatal(err)
	}
	sent := make([]float32, b.Rows()*m.Config.HiddenSize)
	m.Backend.Download(sent, x)
	y, err := m.Backend.Alloc(b.Rows(), m.Config.HiddenSize)
	if err != nil {
		t.Fatal(err)
	}
	m.Backend.Upload(y, sent)
	if err := m.Blocks(&cloud, y, &b, split+1, m.Config.Layers); err != nil {
		t.Fatal(err)
	}
	out := make([]float32, len(sent))
	m.Backend.Download(out, y)
	return out
}

func newCache(t *testing.T, m *Model, positions int) backend.Cache {
	t.Helper()
	c, err := m.NewCache(positions)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestSplitChangesNothing cuts every model after every layer.
func TestSplitChangesNothing(t *testing.T) {
	for _, model := range goldens {
		t.Run(model.name, func(t *testing.T) {
			dir := shared(t, "golden", "models", model.name)
			m := load(t, dir, cpu.Options{})
			g := openGolden(t, dir, model.tolerance)
			ids := g.ids(t, 3)
			build := func(b *Batch) { b.Add(ids, 0, newCache(t, m, len(ids))) }
			whole := run(t, m, 0, build)
			hidden := g.tensor(t, "s3.hidden")
			g.compare(t, "s3.hidden", whole, hidden[len(hidden)-len(whole):])
			for split := 1; split <= m.Config.Layers; split++ {
				if !slices.Equal(whole, run(t, m, split, build)) {
					t.Errorf("split after layer %d changes the result", split)
				}
			}
		})
	}
}

// TestLengthFixesRotations computes a long sequence of a longrope model in
// parts, beside a short one, and on two sides of a link.
func TestLengthFixesRotations(t *testing.T) {
	dir := shared(t, "golden", "models", "phi3-longrope")
	m := load(t, dir, cpu.Options{})
	g := openGolden(t, dir, 3e-4)
	short, long := g.ids(t, 2), g.ids(t, 3)
	if limit := m.rope.limit; len(short) > limit || len(long) <= limit {
		t.Fatalf("the sequences have %d and %d tokens, the limit is %d", len(short), len(long), limit)
	}
	width := m.Config.HiddenSize
	wantShort := run(t, m, 0, func(b *Batch) { b.Add(short, 0, newCache(t, m, len(short))) })
	wantLong := run(t, m, 0, func(b *Batch) { b.Add(long, 0, newCache(t, m, len(long))) })

	both := run(t, m, 1, func(b *Batch) {
		b.Add(short, 0, newCache(t, m, len(short)))
		b.Add(long, 0, newCache(t, m, len(long)))
		b.AddPart(short, 0, len(short)+1, newCache(t, m, len(short)))
	})
	n := len(short) * width
	if !slices.Equal(both[:n], wantShort) || !slices.Equal(both[n:n+len(wantLong)], wantLong) || !slices.Equal(both[n+len(wantLong):], wantShort) {
		t.Error("sequences of both kinds in one batch change each other")
	}

	// An edge that serves the first rows uses the table of the whole length.
	for _, rows := range []int{1, 33, 64, 95} {
		cache := newCache(t, m, len(long))
		front := run(t, m, 1, func(b *Batch) { b.AddPart(long[:rows], 0, len(long), cache) })
		rest := run(t, m, 2, func(b *Batch) { b.AddPart(long[rows:], rows, len(long), cache) })
		if !slices.Equal(append(front, rest...), wantLong) {
			t.Errorf("computing %d rows first changes the result", rows)
		}
	}

	fails := func(want string, build func(b *Batch)) {
		t.Helper()
		var w Workspace
		var b Batch
		build(&b)
		x, err := m.Embed(&w, &b)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Blocks(&w, x, &b, 1, 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, expected one with %q", err, want)
		}
	}
	cache := newCache(t, m, 128)
	fails("grows beyond 64 positions", func(b *Batch) { b.Add(long[:33], 63, cache) })
	fails("declared to have 32 positions has a row at position 32", func(b *Batch) { b.AddPart(short, 0, 32, cache) })
	var w Workspace
	var b Batch
	b.AddPart(short, 0, 32, cache)
	b.Reset()
	b.Add(short, 0, cache) // the declaration is gone
	x, err := m.Embed(&w, &b)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Blocks(&w, x, &b, 1, m.Config.Layers); err != nil {
		t.Error(err)
	}
}

// TestQuantisedLayerSeesLlamaNames hands the parts of fused matrices to a
// quantiser, in the order and shape of the separate weights.
func TestQuantisedLayerSeesLlamaNames(t *testing.T) {
	m := load(t, shared(t, "golden", "models", "phi4"), cpu.Options{})
	c := m.Config
	var shapes [][2]int
	var rows [][]float32
	layer, err := m.QuantisedLayer(2, func(values []float32, out, in int) (backend.Packed, error) {
		shapes = append(shapes, [2]int{out, in})
		rows = append(rows, slices.Clone(values))
		p := backend.Packed{Out: out, In: in, Bits: 8, Codes: make([]byte, out*in), Scales: make([]float32, out), Zeros: make([]uint8, out)}
		return p, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	d, q, kv, inner := c.HiddenSize, c.QueryWidth(), c.KVWidth(), c.IntermediateSize
	want := [][2]int{{q, d}, {kv, d}, {kv, d}, {d, q}, {inner, d}, {inner, d}, {d, inner}}
	if !slices.Equal(shapes, want) {
		t.Fatalf("quantised %v, expected %v", shapes, want)
	}
	file := openFile(t, shared(t, "golden", "models", "phi4", "model.safetensors"))
	for fused, parts := range map[string][]int{"self_attn.qkv_proj": {0, 1, 2}, "mlp.gate_up_proj": {4, 5}} {
		x, ok := file.Tensor("model.layers.1." + fused + ".weight")
		if !ok {
			t.Fatalf("%s is missing", fused)
		}
		stored, err := x.Float32(nil)
		if err != nil {
			t.Fatal(err)
		}
		var joined []float32
		for _, p := range parts {
			joined = append(joined, rows[p]...)
		}
		if !slices.Equal(joined, stored) {
			t.Errorf("the parts of %s are not its rows in order", fused)
		}
	}
	if layer.Query.Weight.Out() != q || layer.Query.Weight.Bytes() >= m.Layer(2).Query.Weight.Bytes() {
		t.Error("the quantised layer has not the given weights")
	}
}
