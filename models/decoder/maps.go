package decoder

// The linear maps of a block, by their place in LinearNames and in
// BlockValues.Linears.
const (
	QueryMap = iota
	KeyMap
	ValueMap
	OutputMap
	GateMap
	UpMap
	DownMap
	// LinearMaps is their number.
	LinearMaps
)
