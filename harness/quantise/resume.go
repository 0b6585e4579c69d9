package quantise

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"splitbench/models/checkpoint"
	"splitbench/models/quantize/train"
)

// Key is the SHA-256, in hexadecimal, of all that decides the bytes of a
// quantized checkpoint: the model, the method as it was asked for, and the
// calibration set.
func (h Header) Key() (string, error) {
	text, err := json.Marshal(h)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s", storedFormat, text))
	return hex.EncodeToString(sum[:]), nil
}

// learnedFile holds what OmniQuant learned of a block, until the checkpoint is
// whole.
func learnedFile(k int) string { return fmt.Sprintf("learned-layer-%05d.safetensors", k+1) }

// continues says whether the folder holds the beginning of this very
// checkpoint.
func (w *Writer) continues() bool {
	s, err := OpenStored(w.dir)
	if err != nil {
		return false
	}
	have, err1 := json.Marshal(s.Header)
	want, err2 := json.Marshal(w.header)
	return err1 == nil && err2 == nil && string(have) == string(want)
}

// remove removes the files of the folder whose names match a pattern.
func (w *Writer) remove(patterns ...string) error {
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		for _, p := range patterns {
			if ok, err := filepath.Match(p, e.Name()); err != nil {
				return err
			} else if !ok {
				continue
			}
			if err := os.Remove(filepath.Join(w.dir, e.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// clear removes the blocks of another checkpoint.
func (w *Writer) clear() error { return w.remove("quantized*.safetensors", "learned-*.safetensors") }

// kept returns block k of an interrupted run, nil when the folder does not
// hold it whole.
func (w *Writer) kept(k int, c checkpoint.Config) *Block {
	if !w.resumed {
		return nil
	}
	s := Stored{Dir: w.dir, Config: c, Header: w.header}
	b, err := s.block(k)
	if err != nil {
		return nil // it is computed again, to the same bytes
	}
	return b
}

// Kept is the number of layers that the folder of an interrupted run holds,
// or whose learned parameters it holds.
func (w *Writer) Kept(layers int) int {
	n := 0
	for k := range layers {
		for _, name := range []string{blockFile(k), learnedFile(k)} {
			if _, err := os.Stat(filepath.Join(w.dir, name)); err == nil {
				n++
				break
			}
		}
	}
	return n
}

// learn keeps what was learned of block k.
func (w *Writer) learn(k int, p *train.Parameters) error {
	return writeFile(filepath.Join(w.dir, learnedFile(k)), p.Tensors(k), nil)
}

// learned returns what an interrupted run learned of block k, nil when it did
// not come that far.
func (w *Writer) learned(k int) *train.Parameters {
	if !w.resumed {
		return nil
	}
	f, err := checkpoint.OpenSafetensors(filepath.Join(w.dir, learnedFile(k)))
	if err != nil {
		return nil
	}
	defer f.Close()
	p, err := train.ReadParameters(f, k)
	if err != nil {
		return nil
	}
	return p
}

// Finish removes what only an interrupted run needs.
func (w *Writer) Finish() error { return w.remove("learned-*.safetensors", ".splitbench-*") }
