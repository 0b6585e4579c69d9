package tokenizer

import (
	"encoding/binary"
	"fmt"
	"math"
	"unicode/utf8"
)

// field is one field of a protobuf message. Its payload is a part of the file, never a copy.
type field struct {
	number  uint64
	wire    uint64
	value   uint64 // wire types 0, 1 and 5
	payload []byte // wire type 2
	offset  int    // of the payload in the file
}

// eachField calls f for every field of the message data, which lies at byte base of the file and is called name.
func eachField(data []byte, base int, name string, f func(field) error) error {
	for at := 0; at < len(data); {
		start := at
		bad := func(what string) error {
			return fmt.Errorf("%s: %s at byte %d, expected a protobuf field", name, what, base+start)
		}
		key, n := binary.Uvarint(data[at:])
		if n <= 0 {
			return bad("a broken tag")
		}
		at += n
		g := field{number: key >> 3, wire: key & 7}
		if g.number == 0 || g.number > 1<<29-1 {
			return bad(fmt.Sprintf("field number %d", g.number))
		}
		switch g.wire {
		case 0:
			g.value, n = binary.Uvarint(data[at:])
			if n <= 0 {
				return bad("a broken integer")
			}
			at += n
		case 1:
			if len(data)-at < 8 {
				return bad("a cut 64-bit value")
			}
			g.value = binary.LittleEndian.Uint64(data[at:])
			at += 8
		case 2:
			size, n := binary.Uvarint(data[at:])
			if n <= 0 {
				return bad("a broken length")
			}
			at += n
			if size > uint64(len(data)-at) {
				return bad(fmt.Sprintf("a length of %d where %d bytes are left", size, len(data)-at))
			}
			g.payload, g.offset = data[at:at+int(size)], base+at
			at += int(size)
		case 5:
			if len(data)-at < 4 {
				return bad("a cut 32-bit value")
			}
			g.value = uint64(binary.LittleEndian.Uint32(data[at:]))
			at += 4
		default:
			return bad(fmt.Sprintf("wire type %d", g.wire))
		}
		if err := f(g); err != nil {
			return err
		}
	}
	return nil
}

// eachMessage is eachField for the fields of a field.
func eachMessage(f field, name string, g func(field) error) error {
	b, err := f.bytes(name)
	if err != nil {
		return err
	}
	return eachField(b, f.offset, name, g)
}

func (f field) want(wire uint64, name, what string) error {
	if f.wire != wire {
		return fmt.Errorf("%s has wire type %d, expected %d (%s)", name, f.wire, wire, what)
	}
	return nil
}

func (f field) bytes(name string) ([]byte, error) {
	return f.payload, f.want(2, name, "bytes")
}

func (f field) text(name string) (string, error) {
	if err := f.want(2, name, "a string"); err != nil {
		return "", err
	}
	if !utf8.Valid(f.payload) {
		return "", fmt.Errorf("%s at byte %d is not UTF-8", name, f.offset)
	}
	return string(f.payload), nil
}

func (f field) varint(name string) (uint64, error) { return f.value, f.want(0, name, "an integer") }

func (f field) bool(name string) (bool, error) { return f.value != 0, f.want(0, name, "true or false") }

func (f field) float(name string) (float32, error) {
	return math.Float32frombits(uint32(f.value)), f.want(5, name, "a float")
}
