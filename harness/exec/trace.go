package exec

// Trace holds every intermediate state of one text in full precision.
type Trace struct {
	Hidden       [][]float32 // [L+1] of (tokens, hidden): embedding, then the residual stream after each block
	Final        []float32   // (tokens, hidden) after the final norm
	Logits       []float32   // (tokens, vocabulary)
	Keys, Values [][]float32 // (kv heads, tokens, head dim) of the layers asked for, nil for the others
}

// Trace runs ids through the full-precision model. kv are the layers, counted
// from 0, whose keys (after RoPE) and values are wanted.
func (e *Engine) Trace(ids []int32, kv []int) (*Trace, error) {
	c, be := e.model.Config, e.model.Backend
	cache, err := e.takeCache(len(ids))
	if err != nil {
		return nil, err
	}
	defer e.giveCache(cache)
	b := &e.batch
	b.Reset()
	b.Add(ids, 0, cache)
	x, err := e.model.Embed(&e.work, b)
	if err != nil {
		return nil, err
	}
	t := &Trace{}
	n := len(ids)
	keep := func() {
		h := make([]float32, n*c.HiddenSize)
		be.Download(h, x)
		t.Hidden = append(t.Hidden, h)
	}
	keep()
	for k := 1; k <= c.Layers; k++ {
		if err := e.model.Blocks(&e.work, x, b, k, k); err != nil {
			return nil, err
		}
		keep()
	}
	e.model.Normalise(x, x)
	t.Final = make([]float32, n*c.HiddenSize)
	be.Download(t.Final, x)
	logits, err := be.Alloc(n, c.VocabSize)
	if err != nil {
		return nil, err
	}
	e.model.Logits(logits, x)
	t.Logits = make([]float32, n*c.VocabSize)
	be.Download(t.Logits, logits)
	t.Keys, t.Values = make([][]float32, c.Layers), make([][]float32, c.Layers)
	for _, layer := range kv {
		k, v := make([]float32, n*c.KVWidth()), make([]float32, n*c.KVWidth())
		cache.ReadKV(layer, 0, n, k, v)
		t.Keys[layer], t.Values[layer] = headMajor(k, n, c.KVHeads, c.HeadDim), headMajor(v, n, c.KVHeads, c.HeadDim)
	}
	return t, be.Sync()
}

// headMajor turns (tokens, heads*dim) into (heads, tokens, dim).
func headMajor(x []float32, tokens, heads, dim int) []float32 {
	y := make([]float32, len(x))
	for t := 0; t < tokens; t++ {
		for h := 0; h < heads; h++ {
			copy(y[(h*tokens+t)*dim:], x[(t*heads+h)*dim:][:dim])
		}
	}
	return y
}
