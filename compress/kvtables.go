package compress

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// The file of tables for keys and values:
//
//	"SBK"      3 bytes
//	version    1 byte
//	layers     uvarint
//	keys, values of each layer: length as uvarint, then the file form of [Tables]
//	CRC-32C    uint32, little-endian, over all before it
const (
	kvTablesMagic   = "SBK"
	kvTablesVersion = 1
)

// Layers returns the number of layers that the tables are for.
func (t *KVTables) Layers() int { return len(t.Keys) }

// Cols returns the number of columns of the keys, and of the values, of a layer.
func (t *KVTables) Cols() int { return t.Keys[0].cols }

// Append appends the file form of the tables (FORMAT.md), which must be for as
// many layers of keys as of values, at least one, all of the same width.
func (t *KVTables) Append(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, kvTablesMagic...)
	dst = append(dst, kvTablesVersion)
	dst = binary.AppendUvarint(dst, uint64(len(t.Keys)))
	for i := range t.Keys {
		for _, m := range []*Tables{t.Keys[i], t.Values[i]} {
			b := m.Append(nil)
			dst = binary.AppendUvarint(dst, uint64(len(b)))
			dst = append(dst, b...)
		}
	}
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// ParseKVTables reads the file form of tables for keys and values. Errors wrap
// [ErrMessage].
func ParseKVTables(b []byte) (*KVTables, error) {
	t, err := parseKVTables(b)
	if err != nil {
		return nil, fmt.Errorf("%w: tables of keys and values: %w", ErrMessage, err)
	}
	return t, nil
}

func parseKVTables(b []byte) (*KVTables, error) {
	if len(b) < 8 || string(b[:3]) != kvTablesMagic {
		return nil, fmt.Errorf("%d bytes that do not begin with %q", len(b), kvTablesMagic)
	}
	if b[3] != kvTablesVersion {
		return nil, fmt.Errorf("version %d, expected %d", b[3], kvTablesVersion)
	}
	end := len(b) - crc32.Size
	if want, got := binary.LittleEndian.Uint32(b[end:]), crc32.Checksum(b[:end], castagnoli); want != got {
		return nil, fmt.Errorf("checksum %08x, expected %08x", got, want)
	}
	in := parser{b: b[4:end]}
	layers := in.uvarint()
	// Tables take more than a byte, and so does their length.
	if in.bad || layers == 0 || layers > maxKVLayers || layers > uint64(len(in.b))/4 {
		return nil, fmt.Errorf("%d layers in %d bytes", layers, len(b))
	}
	t := new(KVTables)
	for i := range int(layers) {
		for k, list := range []*[]*Tables{&t.Keys, &t.Values} {
			what := kvNames[k]
			n := in.uvarint()
			if in.bad || n > uint64(len(in.b)) {
				return nil, fmt.Errorf("%s of layer %d are cut short", what, i+1)
			}
			m, err := parseTables(in.take(int(n)))
			if err != nil {
				return nil, fmt.Errorf("%s of layer %d: %w", what, i+1, err)
			}
			*list = append(*list, m)
			if m.cols != t.Cols() {
				return nil, fmt.Errorf("%s of layer %d have %d columns, expected %d", what, i+1, m.cols, t.Cols())
			}
		}
	}
	if len(in.b) > 0 {
		return nil, fmt.Errorf("%d bytes behind the last layer", len(in.b))
	}
	return t, nil
}

// Inspect describes one whole split1 message that was made with the tables, as
// [Inspect] does those made with the built-in ones.
func (t *Tables) Inspect(msg []byte) (Info, error) { return inspectSplit1(msg, t) }

// KVInfo describes a message of keys and values.
type KVInfo struct {
	Codec    string `json:"codec"` // "split1 kv"
	Layers   int    `json:"layers"`
	Rows     int    `json:"rows"`     // of each matrix
	Cols     int    `json:"cols"`     // of each matrix: key/value heads x head dimension
	Position int    `json:"position"` // of the first row in its sequence
	Bytes    int    `json:"bytes"`    // length of the message
	Header   int    `json:"header"`   // bytes of the header and the checksum
	// Tables is the number of the trained tables that the message needs, empty for
	// those built in.
	Tables string `json:"tables,omitempty"`
}

// IsKV says whether b begins like a message of keys and values, which [Inspect]
// and [Decode] refuse.
func IsKV(b []byte) bool { return len(b) > 0 && b[0] == kvMagic }

// InspectKV describes one whole message of keys and values. It checks the length
// and the checksum, not the bodies.
func InspectKV(msg []byte) (KVInfo, error) {
	h, _, err := openKV(msg)
	if err != nil {
		return KVInfo{}, err
	}
	info := KVInfo{
		Codec: "split1 kv", Layers: h.layers, Rows: h.rows, Cols: h.width, Position: h.position,
		Bytes: len(msg), Header: len(msg) - h.bodies,
	}
	if h.trained {
		info.Tables = fmt.Sprintf("%04x", h.id)
	}
	return info, nil
}
