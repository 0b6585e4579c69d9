package bench

import (
	"fmt"

	"splitbench/compress"
)

// ownCoder returns this project's coder of symbols 0..31.
func ownCoder() *coder {
	var message [1][]byte
	var out []byte
	return &coder{
		name: "rans",
		encode: func(symbols []byte) ([][]byte, error) {
			message[0] = compress.AppendSymbols(message[0][:0], symbols)
			return message[:], nil
		},
		decode: func(message [][]byte, _ int) ([]byte, error) {
			var err error
			out, err = compress.DecodeSymbols(out, message[0])
			return out, err
		},
	}
}

// trained says that a codec has tables made from other rows than it sends.
func trained(name string) bool { return name == "split1" }

// newCodec returns the codec of that name for the rows of a. One that is
// trained takes o.Tables where they are set, else learns from a.Train, else has
// the tables that are built in.
func newCodec(name string, a *Activations, o compress.Options) (compress.Codec, error) {
	if !trained(name) {
		o.Tables = nil
		return compress.NewCodec(name, o)
	}
	if o.Tables == nil && a.Train.Rows > 0 {
		t, err := compress.NewTrainer(a.Rows.Cols, o)
		if err != nil {
			return nil, err
		}
		if err := t.Add(a.Train); err != nil {
			return nil, fmt.Errorf("%s: rows to train on: %w", a.Name, err)
		}
		if o.Tables, err = t.Tables(); err != nil {
			return nil, fmt.Errorf("%s: rows to train on: %w", a.Name, err)
		}
	}
	return compress.NewCodec(name, o)
}
