package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// maxIndexBytes bounds model.safetensors.index.json, which has about 100 bytes per tensor.
const maxIndexBytes = 64 << 20

// parseIndex reads an index of shards into the shard of each tensor. path is for messages.
func parseIndex(data []byte, path string) (map[string]string, error) {
	if isGitLFS(data) {
		return nil, fmt.Errorf("%s: %w", path, errGitLFS)
	}
	var shardOf map[string]string
	s := &scanner{data: data}
	err := s.document(func() error {
		if b := s.peek(); b != '{' && b != 0 {
			return errors.New("expected a JSON object")
		}
		return s.object(func(key string) error {
			if key != "weight_map" {
				return s.skip() // metadata.total_size and the like
			}
			if s.peek() != '{' {
				return errors.New("weight_map must be an object")
			}
			shardOf = make(map[string]string)
			err := s.object(func(name string) error {
				v, err := s.raw()
				if err != nil {
					return err
				}
				shard, ok := v.text()
				if !ok {
					return fmt.Errorf("weight_map: the shard of %s must be a string, got %s", printable(name), v)
				}
				if err := checkShardName(shard); err != nil {
					return fmt.Errorf("weight_map: the shard of %s %w", printable(name), err)
				}
				shardOf[name] = shard
				return nil
			})
			if twice, ok := err.(*duplicateKeyError); ok {
				return fmt.Errorf("weight_map: tensor %s is declared twice", printable(twice.key))
			}
			return err
		})
	})
	var syntax *syntaxError
	switch {
	case errors.As(err, &syntax):
		return nil, fmt.Errorf("%s %w", path, err)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	case shardOf == nil:
		return nil, fmt.Errorf("%s: the index has no weight_map", path)
	case len(shardOf) == 0:
		return nil, fmt.Errorf("%s: weight_map is empty", path)
	}
	return shardOf, nil
}

// checkShardName accepts the name of a safetensors file in the same folder.
func checkShardName(shard string) error {
	switch {
	case strings.ContainsAny(shard, "/\\\x00") || !filepath.IsLocal(shard):
		return fmt.Errorf("must be a plain file name, got %s", printable(shard))
	case !strings.HasSuffix(shard, ".safetensors"):
		return fmt.Errorf("must be a .safetensors file, got %s", printable(shard))
	}
	return nil
}

// openShards opens the shards that the index names and checks that index and shards agree on the place of
// every tensor. wholeFile says that the folder has model.safetensors too.
func (c *Checkpoint) openShards(index string, wholeFile bool) (map[string]Tensor, error) {
	data, err := readSmall(index, maxIndexBytes)
	if err != nil {
		return nil, err
	}
	shardOf, err := parseIndex(data, index)
	if err != nil {
		return nil, err
	}
	files := make(map[string]*File)
	for _, shard := range shardOf {
		files[shard] = nil
	}
	if _, named := files[weightsFile]; wholeFile && !named {
		return nil, fmt.Errorf("%s: the index does not name %s, which is in the folder too: remove one of the two", index, weightsFile)
	}
	shards := slices.Sorted(maps.Keys(files))
	for _, shard := range shards {
		path := filepath.Join(c.Dir, shard)
		files[shard], err = c.openFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &absentError{fmt.Sprintf("%s: shard %s named by the index does not exist", index, printable(shard))}
		}
		if err != nil {
			return nil, err
		}
	}

	holder := make(map[string]string) // the shard in which each tensor was found
	stored := make(map[string]Tensor)
	for _, shard := range shards {
		for _, name := range files[shard].names {
			t := files[shard].tensors[name]
			if first, twice := stored[name]; twice {
				return nil, fmt.Errorf("%s: tensor %s is in both shards %s and %s (%s)", index, printable(name), printable(holder[name]), printable(shard), difference(first, t))
			}
			holder[name], stored[name] = shard, t
		}
	}
	for _, name := range slices.Sorted(maps.Keys(shardOf)) {
		if shard := shardOf[name]; holder[name] != shard {
			where := "no shard has it"
			if other, ok := holder[name]; ok {
				where = "it is in " + printable(other)
			}
			return nil, fmt.Errorf("%s: tensor %s is not in %s, where the index puts it (%s)", index, printable(name), printable(shard), where)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(stored)) {
		if _, ok := shardOf[name]; !ok && !ignoredTensor(name) {
			return nil, fmt.Errorf("%s: tensor %s is missing in the index (it is in %s)", index, printable(name), printable(holder[name]))
		}
	}
	return stored, nil
}

// difference says how two tensors of one name differ.
func difference(a, b Tensor) string {
	if a.DType != b.DType || !slices.Equal(a.Shape, b.Shape) {
		return fmt.Sprintf("as %s %s and %s %s", a.DType, shapeText(a.Shape), b.DType, shapeText(b.Shape))
	}
	if !a.DType.IsFloat() {
		return "of the same type"
	}
	if same, err := sameValues(a, b); err != nil {
		return "of the same type"
	} else if same {
		return "with equal values"
	}
	return "with different values"
}
