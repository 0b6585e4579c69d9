package decoder

import "splitbench/models/backend"

// Place names a matrix within a block, (rows, channels), that a Hook is
// applied to.
type Place int

// The places, in the order of the computation.
const (
	AttentionInput Place = iota // input of q, k and v: after the norm
	QueryOutput                 // queries before the rotary embedding
	KeyOutput                   // keys before the rotary embedding
	ValueOutput                 // values, as the cache will hold them
	QueryRotated                // queries after the rotary embedding
	KeyRotated                  // keys after it, as the cache will hold them
	OutputInput                 // input of o
	MLPInput                    // input of gate and up: after the norm
	DownInput                   // input of down
	// Places is their number.
	Places
)

// Hook is what happens to a matrix at one place. The zero Hook does nothing. An
// error ends the pass before the next linear map but those of q, k and v.
type Hook struct {
	// Map changes rows in place, such as by quantizing, permuting or rotating
	// them. It is called with runs of whole rows, from several goroutines: the
	// result of a row must depend on that row alone.
	Map func(rows []float32) error
	// See is shown the whole matrix after Map, before it is used. It is the
	// block's own: valid during the call, and not to be changed.
	See func(x backend.Matrix) error
}

// Hooks are the hooks of one block.
type Hooks [Places]Hook

// apply runs the hook of a place. Without hooks it costs one comparison.
func (h *Hooks) apply(p Place, be backend.Backend, x backend.Matrix) error {
	if h == nil {
		return nil
	}
	if f := h[p].Map; f != nil {
		if err := be.MapRows(x, f); err != nil {
			return err
		}
	}
	if f := h[p].See; f != nil {
		return f(x)
	}
	return nil
}
