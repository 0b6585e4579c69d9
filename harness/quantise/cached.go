package quantise

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"splitbench/models/backend"
	"splitbench/models/checkpoint"
	"splitbench/models/decoder"
	"splitbench/models/quantize"
)

// ParseMethod reads the text of a method file: one YAML mapping with the keys of
// quantize.Method. The name stands for the file in errors.
func ParseMethod(name string, text []byte) (quantize.Method, error) {
	var m quantize.Method
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&m); err != nil {
		return m, fmt.Errorf("%s: %s", name, strings.Join(strings.Fields(strings.TrimPrefix(err.Error(), "yaml: ")), " "))
	}
	if err := d.Decode(&yaml.Node{}); err != io.EOF {
		return m, fmt.Errorf("%s: more than one YAML document", name)
	}
	if err := m.Validate(); err != nil {
		return m, fmt.Errorf("%s: %w", name, err)
	}
	return m, nil
}

// Fits says whether a method can be run on a model, calibration aside.
func Fits(m quantize.Method, c checkpoint.Config) error {
	return check(m, c, [][]int32{nil})
}

// resultVersion is counted up when a change of this package or of
// models/quantize changes what a method makes of a model.
const resultVersion = 1

// contentKey names what Quantize makes of a model: equal keys mean equal
// weights. digest is that of the checkpoint.
func contentKey(digest string, m quantize.Method, calibration [][]int32) string {
	m.Name, m.Calibration = "", quantize.CalibrationPlan{}
	set := ""
	if NeedsCalibration(m) {
		set = CalibrationDigest(calibration)
	}
	b, err := json.Marshal([]any{storedFormat, resultVersion, digest, m, set})
	if err != nil {
		panic("quantise: " + err.Error()) // of numbers that Validate lets pass
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// CacheFolder is where quantized checkpoints are kept: splitbench/quantized in
// the user's cache folder. Folders in it may be deleted at any time; those
// whose names begin with .making are of runs that were interrupted.
func CacheFolder() string {
	base, err := os.UserCacheDir()
	if err != nil {
		base = os.TempDir()
	}
	return filepath.Join(base, "splitbench", "quantized")
}

// Cached is Model by way of a quantized checkpoint in a cache folder, which is
// made when it is not there: one folder per content (model, method, calibration
// tokens), complete or absent. digest is that of c. A folder that cannot be
// read is made anew.
func Cached(ctx context.Context, folder string, c *checkpoint.Checkpoint, digest string, be backend.Backend, m quantize.Method, calibration [][]int32, o Options) (*Stored, *decoder.Model, error) {
	dir := filepath.Join(folder, contentKey(digest, m, calibration))
	if s, model, err := readStored(dir, be); err == nil {
		return s, model, nil
	}
	if err := os.RemoveAll(dir); err != nil { // what is there, if anything, is damaged
		return nil, nil, err
	}
	if _, err := os.Stat(filepath.Join(c.Dir, "config.json")); err != nil {
		return nil, nil, fmt.Errorf("%s: no config.json, expected a Hugging Face folder to quantize", c.Dir)
	}
	// What an interrupted call has left is gone on with.
	work := filepath.Join(folder, ".making-"+filepath.Base(dir))
	if err := os.MkdirAll(work, 0o755); err != nil {
		return nil, nil, err
	}
	if err := fill(ctx, work, c, digest, be, m, calibration, o); err != nil {
		// Another process may have made the same meanwhile.
		if s, model, err := readStored(dir, be); err == nil {
			return s, model, nil
		}
		return nil, nil, err
	}
	if err := os.Rename(work, dir); err != nil && !IsStored(dir) {
		return nil, nil, err
	}
	return readStored(dir, be)
}

// fill writes a quantized checkpoint to a folder.
func fill(ctx context.Context, dir string, c *checkpoint.Checkpoint, digest string, be backend.Backend, m quantize.Method, calibration [][]int32, o Options) (err error) {
	if s, err := OpenStored(dir); err == nil {
		m = s.Header.Method // with what was chosen on the calibration set
	}
	if m, err = Resolve(ctx, c, be, m, calibration); err != nil {
		return err
	}
	w := NewWriter(dir, c.Dir, NewHeader(digest, m, calibration))
	if _, err := Quantize(ctx, c, be, m, calibration, o, w); err != nil {
		return err
	}
	return w.Finish()
}

func readStored(dir string, be backend.Backend) (*Stored, *decoder.Model, error) {
	s, err := OpenStored(dir)
	if err != nil {
		return nil, nil, err
	}
	model, err := s.Model(be)
	return s, model, err
}

// WeightBits returns for every block the bits that its linear weights take in
// the files: codes, scales, zeros, groups, outliers and orders, or the values
// of weights that are not quantized. Norms and biases do not count.
func (s *Stored) WeightBits() ([]int64, error) {
	var all []int64
	for k := range s.Config.Layers {
		f, err := checkpoint.OpenSafetensors(filepath.Join(s.Dir, blockFile(k)))
		if err != nil {
			return nil, err
		}
		n := int64(0)
		for _, name := range f.Names() {
			if t, ok := f.Tensor(name); ok && !slices.Contains(normNames[:], name) && !strings.HasSuffix(name, ".bias") {
				n += 8 * t.Bytes()
			}
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, nil
}
