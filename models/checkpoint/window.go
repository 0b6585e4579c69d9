package checkpoint

import "slices"

// Kinds of layers in layer_types.
const (
	fullAttention    = "full_attention"
	slidingAttention = "sliding_attention"
)

// WindowOf returns the number of keys that a query of layer (from 0, as in the names of tensors) sees, itself
// included: query q sees keys q-window+1 to q. 0 means all keys up to q.
func (c Config) WindowOf(layer int) int {
	if c.Windows == nil {
		return 0
	}
	return c.Windows[layer]
}

// perLayer makes the Windows of a Config: nil when no layer has one.
func perLayer(layers int, window func(layer int) int) []int {
	windows := make([]int, layers)
	slide := false
	for layer := range windows {
		windows[layer] = window(layer)
		slide = slide || windows[layer] > 0
	}
	if !slide {
		return nil
	}
	return windows
}

// slidingWindow reads the size of the window, 0 for null. absent is the value of an absent key, which the
// families differ in.
func (f *configFields) slidingWindow(absent int) int {
	if _, stated := f.keys["sliding_window"]; !stated {
		return absent
	}
	return f.sizeOr("sliding_window", maxPositions, 0)
}

// layerTypes reads the kind of attention of every layer, nil when the config does not state it.
func (f *configFields) layerTypes(layers int) []string {
	v := f.keys["layer_types"]
	if v.isNull() || f.err != nil {
		return nil
	}
	list, ok := v.elements()
	if !ok || len(list) != layers {
		f.fail("layer_types must be a list of %d kinds of attention, one for each of num_hidden_layers", layers)
		return nil
	}
	types := make([]string, layers)
	for i, e := range list {
		if types[i], _ = e.text(); types[i] != fullAttention && types[i] != slidingAttention {
			f.fail("layer_types names %s, which is not supported (supported: %s, %s)", e.plain(), fullAttention, slidingAttention)
			return nil
		}
	}
	return types
}

// uniformWindows gives all layers one window, as families do that have no key to choose layers. Such a key of
// another family must say the same.
func (f *configFields) uniformWindows(layers, window int) []int {
	kind := fullAttention
	if window > 0 {
		kind = slidingAttention
	}
	if types := f.layerTypes(layers); slices.ContainsFunc(types, func(t string) bool { return t != kind }) {
		f.fail("layer_types is not %s in all layers, but sliding_window is %s", kind, f.windowText(window))
	}
	if v := f.keys["use_sliding_window"]; !v.isNull() && f.flag("use_sliding_window", false) != (window > 0) {
		f.fail("use_sliding_window is %s, but sliding_window is %s", v.plain(), f.windowText(window))
	}
	if f.err != nil {
		return nil
	}
	return perLayer(layers, func(int) int { return window })
}

// windowText says what sliding_window is, for a message.
func (f *configFields) windowText(window int) string {
	v, stated := f.keys["sliding_window"]
	switch {
	case stated:
		return v.plain()
	case window == 0:
		return "absent"
	}
	return "absent, which means a window"
}
