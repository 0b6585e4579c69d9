package quantise

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"splitbench/models/quantize"
)

// TestBaselineFiles: the method files that ship with the program are the
// descriptions whose results TestGoldenTable compares with those of the
// original code, one for every row, and there are no others.
func TestBaselineFiles(t *testing.T) {
	dir := filepath.Join("..", "..", "experiments", "baselines")
	rows := map[string]bool{}
	for _, model := range []string{"babyllama", "tiny/mha", "tiny/gqa"} {
		g := openGolden(t, model)
		for _, r := range g.rows {
			if r.Method == "fp32" {
				continue
			}
			name := r.Method + "_" + r.ID
			first := !rows[name]
			rows[name] = true
			file := filepath.Join(dir, name+".yaml")
			text, err := os.ReadFile(file)
			if err != nil {
				t.Error(err)
				continue
			}
			have, err := ParseMethod(file, text)
			if err != nil {
				t.Error(err)
				continue
			}
			r.params.Repeated = false // the description is the same for a model with KV heads repeated
			want, ok := r.method()
			if !ok {
				t.Errorf("%s has no description", name)
			}
			plan := have.Calibration
			if have.Name != name {
				t.Errorf("%s: named %s", file, have.Name)
			}
			have.Name, have.Calibration, want.Calibration = "", quantize.CalibrationPlan{}, quantize.CalibrationPlan{}
			if !reflect.DeepEqual(have, want) {
				t.Errorf("%s: %+v, the golden row %s is %+v", file, have, model, want)
			}
			if !first {
				continue // its calibration is that of the first model
			}
			sequences, tokens := 0, 0
			if NeedsCalibration(want) {
				if sequences, tokens = len(g.calibration), len(g.calibration[0]); r.params.Sequences > 0 {
					sequences = r.params.Sequences
				}
			}
			if plan.Sequences != sequences || plan.Tokens != tokens {
				t.Errorf("%s: calibration %+v, the golden row had %d x %d", file, plan, sequences, tokens)
			}
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !rows[strings.TrimSuffix(f.Name(), ".yaml")] {
			t.Errorf("%s is of no golden row", f.Name())
		}
	}
}
