package compress

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
)

// KV is a piece of a key/value cache: the keys and values of the same positions
// in a number of layers. Handing a request over sends positions 0 to w-1 of the
// edge's layers in one message; a later token's entries are a KV of one row.
type KV struct {
	Position int      // of the first row in its sequence
	Keys     []Matrix // per layer, (rows, key/value heads x head dimension)
	Values   []Matrix
}

// KVTables are static tables for the keys and values of each layer.
type KVTables struct {
	Keys, Values []*Tables // per layer
}

// ID returns the number under which messages refer to the tables.
func (t *KVTables) ID() uint16 {
	var b []byte
	for i := range t.Keys {
		b = binary.LittleEndian.AppendUint16(b, t.Keys[i].id)
		b = binary.LittleEndian.AppendUint16(b, t.Values[i].id)
	}
	return uint16(crc32.Checksum(b, castagnoli))
}

// KVCodec sends pieces of a key/value cache: the keys and the values of every
// layer go through the paper's quantiser (section 2.4: cache and hidden state
// take the same steps, separately), each with tables of its own, in one message:
//
//	0xA2             codec and version
//	flags            1 byte: 1 when a tables number follows
//	tables           uint16, little-endian: KVTables.ID, when the flags say so
//	layers, rows, width, position   uvarint each
//	length           uvarint: bytes of the bodies
//	bodies           keys then values of each layer: flags as in split1 (without
//	                 its bit for tables), length as uvarint, body as in split1
//	CRC-32C          uint32, little-endian, over all before it
//
// It is safe for concurrent use.
type KVCodec struct {
	reading reading
	tables  *KVTables
	id      uint16
}

const kvMagic = 0xA2

// kvNames name the two matrices of a layer in errors, in their order.
var kvNames = [...]string{"keys", "values"}

// maxKVLayers bounds the layers of a message.
const maxKVLayers = 1 << 16

// NewKVCodec returns a codec with the given options (Tables is not used) and
// tables, nil for those built in, which must not change as long as the codec is
// used. It fails on options that are not valid and on tables that are missing for
// the keys or the values of a layer.
func NewKVCodec(o Options, t *KVTables) (*KVCodec, error) {
	r, err := o.reading()
	if err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	c := &KVCodec{reading: r, tables: t}
	if t != nil {
		if len(t.Keys) != len(t.Values) || len(t.Keys) == 0 {
			return nil, fmt.Errorf("compress: key/value tables for %d and %d layers, expected the same number", len(t.Keys), len(t.Values))
		}
		if slices.Contains(t.Keys, nil) || slices.Contains(t.Values, nil) {
			return nil, fmt.Errorf("compress: key/value tables lack those of a layer")
		}
		c.id = t.ID()
	}
	return c, nil
}

// shape checks that kv is regular and returns its layers, rows and width.
func (kv *KV) shape() (layers, rows, width int, err error) {
	layers = len(kv.Keys)
	if layers == 0 || layers != len(kv.Values) || layers > maxKVLayers {
		return 0, 0, 0, fmt.Errorf("keys of %d layers and values of %d, expected the same number of 1 to %d", layers, len(kv.Values), maxKVLayers)
	}
	if kv.Position < 0 || kv.Position > MaxValues {
		return 0, 0, 0, fmt.Errorf("position %d, expected 0 to %d", kv.Position, MaxValues)
	}
	rows, width = kv.Keys[0].Rows, kv.Keys[0].Cols
	for i := range kv.Keys {
		for _, m := range []Matrix{kv.Keys[i], kv.Values[i]} {
			if m.Rows != rows || m.Cols != width {
				return 0, 0, 0, fmt.Errorf("layer %d has keys or values of %d x %d, expected %d x %d", i+1, m.Rows, m.Cols, rows, width)
			}
			if err := m.check(); err != nil {
				return 0, 0, 0, err
			}
		}
	}
	return layers, rows, width, checkKVShape(uint64(layers), uint64(rows), uint64(width))
}

func checkKVShape(layers, rows, width uint64) error {
	if layers == 0 || layers > maxKVLayers {
		return fmt.Errorf("%d layers, expected 1 to %d", layers, maxKVLayers)
	}
	if err := checkShape(rows, width); err != nil {
		return err
	}
	if 2*layers*rows*width > MaxValues {
		return fmt.Errorf("keys and values of %d layers, %d x %d each, expected at most %d values", layers, rows, width, MaxValues)
	}
	return nil
}

// of returns the tables of layer i, keys first, and checks their width.
func (t *KVTables) of(i, width int) ([2]*Tables, error) {
	if t == nil {
		return [2]*Tables{}, nil
	}
	if i >= len(t.Keys) {
		return [2]*Tables{}, fmt.Errorf("layer %d, the tables are for %d layers", i+1, len(t.Keys))
	}
	for _, m := range []*Tables{t.Keys[i], t.Values[i]} {
		if m.cols != width {
			return [2]*Tables{}, fmt.Errorf("layer %d has %d columns, its tables are for %d", i+1, width, m.cols)
		}
	}
	return [2]*Tables{t.Keys[i], t.Values[i]}, nil
}

// Encode appends the message of kv to dst and returns the extended slice and the
// bytes of each part, the layers' flags and lengths counted as header. On an
// error dst comes back as it was.
func (c *KVCodec) Encode(dst []byte, kv KV) ([]byte, Parts, error) {
	layers, rows, width, err := kv.shape()
	if err != nil {
		return dst, Parts{}, fmt.Errorf("compress: %w", err)
	}
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	var parts Parts
	bodies := s.bodies[:0]
	for i := range layers {
		tables, err := c.tables.of(i, width)
		if err != nil {
			return dst, Parts{}, fmt.Errorf("compress: %w", err)
		}
		for k, m := range []Matrix{kv.Keys[i], kv.Values[i]} {
			if err := s.quantised.quantise(m, &c.reading); err != nil {
				return dst, Parts{}, fmt.Errorf("layer %d, %s: %w", i+1, kvNames[k], err)
			}
			var flags byte
			var p Parts
			s.body, flags, p = s.appendBody(s.body[:0], tables[k], &c.reading)
			bodies = append(bodies, flags)
			bodies = binary.AppendUvarint(bodies, uint64(len(s.body)))
			bodies = append(bodies, s.body...)
			parts.Add(p)
		}
	}
	s.bodies = bodies
	start := len(dst)
	dst = append(dst, kvMagic, 0)
	if c.tables != nil {
		dst[start+1] = 1
		dst = binary.LittleEndian.AppendUint16(dst, c.id)
	}
	for _, n := range [...]int{layers, rows, width, kv.Position, len(bodies)} {
		dst = binary.AppendUvarint(dst, uint64(n))
	}
	dst = append(dst, bodies...)
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
	parts.Header = len(dst) - start - parts.Total()
	return dst, parts, nil
}

// kvHeader is the parsed start of a message.
type kvHeader struct {
	trained                       bool
	id                            uint16
	layers, rows, width, position int
	size, bodies                  int // bytes of the header without checksum, and of the bodies
}

func (h *kvHeader) total() int { return h.size + h.bodies + crc32.Size }

func parseKVHeader(b []byte) (h kvHeader, err error) {
	if len(b) < 2 || b[0] != kvMagic || b[1] > 1 {
		return h, messageError("%d bytes that do not begin a message of keys and values", len(b))
	}
	h.trained = b[1] == 1
	in := parser{b: b[2:]}
	if h.trained {
		if id := in.take(2); id != nil {
			h.id = binary.LittleEndian.Uint16(id)
		}
	}
	var n [5]uint64
	for i := range n {
		n[i] = in.uvarint()
	}
	if in.bad {
		return h, messageError("header is cut short or a number is not in its shortest form")
	}
	if err := checkKVShape(n[0], n[1], n[2]); err != nil {
		return h, messageError("%w", err)
	}
	if n[3] > MaxValues {
		return h, messageError("position %d, expected at most %d", n[3], MaxValues)
	}
	h.size = len(b) - len(in.b)
	if n[4] > uint64(len(in.b)) || uint64(len(in.b))-n[4] < crc32.Size {
		return h, messageError("%d bytes, the header asks for more", len(b))
	}
	h.layers, h.rows, h.width, h.position, h.bodies = int(n[0]), int(n[1]), int(n[2]), int(n[3]), int(n[4])
	return h, nil
}

// openKV parses the header of msg, which must be one whole message and no more,
// compares the checksum and returns the bodies.
func openKV(msg []byte) (h kvHeader, bodies []byte, err error) {
	if h, err = parseKVHeader(msg); err != nil {
		return h, nil, err
	}
	if n := h.total(); n != len(msg) {
		return h, nil, messageError("%d bytes after the end of the message", len(msg)-n)
	}
	at := h.size + h.bodies
	if want, got := binary.LittleEndian.Uint32(msg[at:]), crc32.Checksum(msg[:at], castagnoli); want != got {
		return h, nil, messageError("checksum %08x, expected %08x", got, want)
	}
	return h, msg[h.size:at], nil
}

// Decode restores a message. The matrices share one block of memory that belongs
// to the caller. Errors about the message wrap [ErrMessage].
func (c *KVCodec) Decode(msg []byte) (KV, error) { return c.decode(msg, MaxValues) }

// decode restores a message of at most limit values.
func (c *KVCodec) decode(msg []byte, limit int) (KV, error) {
	h, bodies, err := openKV(msg)
	if err != nil {
		return KV{}, err
	}
	if h.trained != (c.tables != nil) || h.id != c.id {
		return KV{}, messageError("made with tables %04x (trained: %v), the receiver has %04x (trained: %v)", h.id, h.trained, c.id, c.tables != nil)
	}
	if 2*h.layers*h.rows*h.width > limit {
		return KV{}, messageError("keys and values of %d layers, %d x %d each, expected at most %d values", h.layers, h.rows, h.width, limit)
	}
	// Before memory is taken: the tables have that many layers, of that width.
	if _, err := c.tables.of(h.layers-1, h.width); err != nil {
		return KV{}, messageError("%w", err)
	}
	in := parser{b: bodies}
	// Every matrix takes at least three bytes, and a byte per row.
	if each := 2 + max(1, h.rows); h.bodies < 2*h.layers*2 || h.rows > 0 && h.bodies/each < 2*h.layers {
		return KV{}, messageError("%d bytes for the keys and values of %d layers and %d rows", h.bodies, h.layers, h.rows)
	}
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	size := h.rows * h.width
	memory := make([]float32, 2*h.layers*size)
	kv := KV{Position: h.position, Keys: make([]Matrix, h.layers), Values: make([]Matrix, h.layers)}
	for i := range h.layers {
		tables, err := c.tables.of(i, h.width)
		if err != nil {
			return KV{}, messageError("%w", err)
		}
		for k, m := range []*Matrix{&kv.Keys[i], &kv.Values[i]} {
			flags := in.byte()
			n := in.uvarint()
			if n > uint64(len(in.b)) {
				in.bad = true
			}
			if in.bad || flags&split1Trained != 0 {
				return KV{}, messageError("layer %d: flags %#02x, or its bytes end too early", i+1, flags)
			}
			b := split1Body{s: s, t: tables[k], flags: flags, rows: h.rows, cols: h.width}
			if b.t == nil {
				b.t = builtinTables()
			}
			place := (2*i + k) * size
			if *m, err = b.decode(memory[place:place+size:place+size], in.take(int(n))); err != nil {
				return KV{}, messageError("layer %d, %s: %w", i+1, kvNames[k], err)
			}
		}
	}
	if len(in.b) > 0 {
		return KV{}, messageError("%d bytes behind the last layer", len(in.b))
	}
	return kv, nil
}
