package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"splitbench/harness/exec"
	"splitbench/harness/quantise"
)

// rotateFlags are the flags of the verb rotate.
type rotateFlags struct {
	model               modelFlags
	magnitudes          magnitudeFlags
	layer               int
	out, rotation, save string
}

func newRotate(s streams) *cobra.Command {
	var f rotateFlags
	c := &cobra.Command{
		Use:   "rotate --model DIR --calibration FILE.jsonl --layer K --out DIR",
		Short: "Turn the residual stream into its principal axes; the model computes the same",
		Long: `A function-preserving change of basis: norm weights are folded into the linear maps
that they feed, and the residual stream is multiplied by the eigenvectors of its second
moment after block K, so that most of its energy lies in few channels, as in large
models. Logits and accuracy stay; what a split sends does not, and with it the effect of
thresholds and bits. The folder gets an ordinary checkpoint in float32, labelled as
such in config.json and in the weights' metadata under change_of_basis.

The table shows the residual stream in both bases. The folder appears only when the
logits on the calibration sequences, computed from what was written, differ by less than
1e-4 of the largest.

--save-rotation keeps the matrix, (hidden, hidden), as the tensor "rotation" of a
safetensors file; --rotation takes one in place of --layer.`,
		Example: `  splitbench rotate --model DIR --calibration text.jsonl --layer 3 --out DIR-rotated`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runRotate(cmd.Context(), s, f) },
	}
	f.model.add(c, false)
	f.magnitudes.add(c)
	c.Flags().IntVar(&f.layer, "layer", 0, "block after which the axes are found, from 1")
	c.Flags().StringVar(&f.rotation, "rotation", "", "safetensors file of the matrix to use")
	c.Flags().StringVar(&f.save, "save-rotation", "", "safetensors file to write the matrix to, which must not exist")
	c.Flags().StringVar(&f.out, "out", "", "folder to write, which must not exist or be empty")
	cobra.CheckErr(c.MarkFlagRequired("out"))
	c.MarkFlagsOneRequired("layer", "rotation")
	c.MarkFlagsMutuallyExclusive("layer", "rotation")
	c.MarkFlagsMutuallyExclusive("save-rotation", "rotation")
	return c
}

// logitTolerance bounds the differences of logits that rotate accepts, as a
// share of the largest logit.
const logitTolerance = 1e-4

func runRotate(ctx context.Context, s streams, f rotateFlags) error {
	if err := f.magnitudes.check(); err != nil {
		return err
	}
	source, err := exec.Locate(f.model.source.Path)
	if err != nil {
		return usageError{err}
	}
	if quantise.IsStored(source) {
		return usagef("%s is quantized, expected an ordinary checkpoint", source)
	}
	if info, err := os.Stat(source); err == nil && !info.IsDir() {
		return usagef("%s is a file, expected a Hugging Face folder", source)
	}
	l, _, err := f.model.open(ctx, s.err)
	if err != nil {
		return err
	}
	defer l.Close()
	config, model := l.Checkpoint.Config, l.Engine.Model()
	if f.rotation == "" && (f.layer < 1 || f.layer > config.Layers) {
		return usagef("--layer %d, the model has %d layers", f.layer, config.Layers)
	}
	if err := checkOut(f.out); err != nil {
		return err
	}
	if f.save != "" {
		if _, err := os.Lstat(f.save); !errors.Is(err, os.ErrNotExist) {
			return usagef("--save-rotation %s exists already, expected a file that does not", f.save)
		}
	}
	sequences, err := f.magnitudes.sequences(s, l)
	if err != nil {
		return err
	}
	var q []float64
	var lines []string
	origin := "by the matrix of " + filepath.Base(f.rotation)
	if f.rotation != "" {
		q, err = quantise.LoadRotation(f.rotation, config.HiddenSize)
	} else {
		var a *quantise.Axes
		if a, err = quantise.PrincipalAxes(ctx, model, sequences, f.layer, f.magnitudes.options.SkipFirst); err == nil {
			q = a.Rotation
			lines = append(lines, spectrum(f.layer, a))
		}
		origin = fmt.Sprintf("into its principal axes after layer %d", f.layer)
	}
	if err != nil {
		return err
	}
	digest, err := l.Checkpoint.Digest()
	if err != nil {
		return err
	}
	note := fmt.Sprintf("function-preserving change of basis of %s (digest %s): norm weights folded into the linear maps, residual stream turned %s", filepath.Base(source), digest, origin)
	return makeFolder(f.out, source, func(dir string) error {
		if err := quantise.Rotate(ctx, l.Checkpoint, q, quantise.NewRotated(dir, source, note)); err != nil {
			return err
		}
		written := f.model.source
		written.Path, written.Tokenizer = dir, ""
		r, err := exec.Open(written)
		if err != nil {
			return err
		}
		defer r.Close()
		rotated := r.Engine.Model()
		same, err := quantise.Compare(ctx, model, rotated, sequences)
		if err != nil {
			return err
		}
		if !(same.Logit < logitTolerance*same.Scale) {
			return fmt.Errorf("the rotated model's logits differ by %.3g, the largest is %.3g: expected less than %g of it", same.Logit, same.Scale, logitTolerance)
		}
		before, err := quantise.Measure(ctx, model, sequences, f.magnitudes.options)
		if err != nil {
			return err
		}
		after, err := quantise.Measure(ctx, rotated, sequences, f.magnitudes.options)
		if err != nil {
			return err
		}
		t := magnitudeTable(f.magnitudes.options, []string{"original", "rotated"}, before, after)
		t.Notes = append(append(t.Notes, lines...),
			fmt.Sprintf("Largest difference of a logit: %.2g (the largest logit is %.3g).", same.Logit, same.Scale),
			fmt.Sprintf("Mean loss per token: %.9f, rotated %.9f (%+.1e).", same.Losses[0], same.Losses[1], same.Losses[1]-same.Losses[0]))
		if f.save != "" {
			if err := quantise.SaveRotation(f.save, q, config.HiddenSize); err != nil {
				return err
			}
		}
		return writeTable(s, t, f.magnitudes.format)
	})
}

// spectrum is a line about eigenvalues.
func spectrum(layer int, a *quantise.Axes) string {
	var total float64
	for _, v := range a.Eigenvalues {
		total += v
	}
	var shares []string
	for _, v := range a.Eigenvalues[:min(8, len(a.Eigenvalues))] {
		shares = append(shares, fmt.Sprintf("%.1f", 100*v/total))
	}
	least := a.Eigenvalues[len(a.Eigenvalues)-1]
	return fmt.Sprintf("Principal axes after layer %d, of %d tokens: the first %d hold %s %% of the energy, the last %.2g %%.",
		layer, a.Rows, len(shares), strings.Join(shares, ", "), 100*least/total)
}

// makeFolder writes a folder, beginning with the tokenizer of the folder source,
// that appears under its name when it is whole. One that exists is empty.
func makeFolder(out, source string, write func(dir string) error) error {
	out = filepath.Clean(out)
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(out), ".splitbench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	if err := copyTokenizer(source, dir); err != nil {
		return err
	}
	if err := write(dir); err != nil {
		return err
	}
	return place(dir, out)
}

// checkOut refuses what is not an empty folder to be made, or one that is there.
func checkOut(out string) error {
	info, err := os.Lstat(out)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return usagef("--out %s is no folder, expected an empty one or one that does not exist", out)
	}
	entries, err := os.ReadDir(out)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return usagef("--out %s is not empty", out)
	}
	return nil
}

// place gives a finished folder its name, under which an empty one may lie.
func place(dir, out string) error {
	if err := checkOut(out); err != nil { // what came there meanwhile
		return err
	}
	if err := os.Remove(out); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Rename(dir, out)
}
