package builtin

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"splitbench/harness/quantise"
	"splitbench/models/checkpoint"
	"splitbench/tasks"
	"splitbench/tasks/world"
)

// small is the folder of the trained model: what experiments/train-small.yaml makes
// (the log and the resolved training file too), its card, and the matrix that
// small-rotated is turned by.
//
//go:embed small
var small embed.FS

const smallAbout = "Llama of 8 layers trained on the text of the small world: what this program trains by experiments/train-small.yaml"

// rotationFile holds the principal axes of the residual stream of small after its
// fourth layer, as found by
//
//	splitbench rotate --model builtin:small --calibration CALIBRATION --layer 4 --skip-first --save-rotation FILE --out DIR
//
// on calibration.jsonl of world-validation.
const rotationFile = "rotation.safetensors"

// smallDigest names the bytes of the embedded folder.
var smallDigest = sync.OnceValue(func() string {
	h := sha256.New()
	eachSmall(func(name string, data []byte) error {
		h.Write([]byte(name))
		h.Write(data)
		return nil
	})
	return hex.EncodeToString(h.Sum(nil))[:12]
})

// eachSmall calls f with every embedded file, by name.
func eachSmall(f func(name string, data []byte) error) error {
	entries, err := fs.ReadDir(small, "small")
	for _, e := range entries {
		var data []byte
		if data, err = small.ReadFile("small/" + e.Name()); err == nil {
			err = f(e.Name(), data)
		}
		if err != nil {
			break
		}
	}
	return err
}

// makeSmall writes the model's folder.
func makeSmall(dir string) error {
	return eachSmall(func(name string, data []byte) error {
		return os.WriteFile(filepath.Join(dir, name), data, 0o644)
	})
}

// makeRotated writes the variant of small in its principal axes. The function is the
// same; the label stands in config.json and in the metadata of the weights.
func makeRotated(dir string) error {
	source, err := Resolve(Prefix + "small")
	if err != nil {
		return err
	}
	c, err := checkpoint.Open(source)
	if err != nil {
		return err
	}
	defer c.Close()
	q, err := quantise.LoadRotation(filepath.Join(source, rotationFile), c.Config.HiddenSize)
	if err != nil {
		return err
	}
	note := "function-preserving change of basis of builtin:small: norm weights folded into the linear maps, residual stream turned into its principal axes after layer 4"
	if err := quantise.Rotate(context.Background(), c, q, quantise.NewRotated(dir, source, note)); err != nil {
		return err
	}
	return eachSmall(func(name string, data []byte) error {
		switch name {
		case "tokenizer.json", "tokenizer_config.json", "generation_config.json":
			return os.WriteFile(filepath.Join(dir, name), data, 0o644)
		}
		return nil
	})
}

// calibrationFile holds the documents of the validation split as lines of
// {"text":…}. Each is a sequence of its own and begins with BOS, as every text
// that small was trained on: windows from the middle of a text would not.
const calibrationFile = "calibration.jsonl"

func makeValidation(dir string) error {
	if err := world.Write(dir, world.Validation, world.Options{}); err != nil {
		return err
	}
	path, err := tasks.DefaultPath(dir, "c4_documents")
	if err != nil {
		return err
	}
	ds, err := tasks.Load("c4_documents", tasks.Options{Path: path, Protocol: tasks.JointBOS})
	if err != nil {
		return err
	}
	var lines []byte
	for _, d := range ds.Docs {
		text, err := json.Marshal(map[string]string{"text": d.Text})
		if err != nil {
			return err
		}
		lines = append(append(lines, text...), '\n')
	}
	return os.WriteFile(filepath.Join(dir, calibrationFile), lines, 0o644)
}

// makeWorld returns the maker of one split of the world.
func makeWorld(s world.Split, o world.Options) func(dir string) error {
	return func(dir string) error { return world.Write(dir, s, o) }
}
