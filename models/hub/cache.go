package hub

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	maxRefBytes   = 4 << 10
	maxIndexBytes = 64 << 20 // of a safetensors index, with about 100 bytes per tensor

	incompleteSuffix = ".incomplete"
)

// Cache is a folder with repositories in the layout of the Hugging Face tools.
type Cache struct {
	Dir string
}

// DefaultCache returns the cache that the environment names: HF_HUB_CACHE, or the older HUGGINGFACE_HUB_CACHE, or
// hub below HF_HOME, below XDG_CACHE_HOME/huggingface, or below ~/.cache/huggingface. The folder need not exist.
func DefaultCache() (Cache, error) {
	if dir := firstEnv("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"); dir != "" {
		dir, err := expandPath(dir)
		return Cache{dir}, err
	}
	home, err := homeFolder()
	if err != nil {
		return Cache{}, fmt.Errorf("the folder of the cache is not known (set HF_HUB_CACHE): %w", err)
	}
	return Cache{filepath.Join(home, "hub")}, nil
}

// Snapshot is the files of a repository at one commit.
type Snapshot struct {
	Repo   Repo
	Commit string // 40 hexadecimal digits
	Dir    string // the folder with the files
}

// Resolve returns the path of a model: name itself when a file or folder of that name exists, else the snapshot
// of the repository "org/name" or "org/name@revision" in the DefaultCache, checked by Snapshot.Check. It does not
// use the network.
func Resolve(name string) (string, error) {
	if _, err := os.Stat(name); err == nil {
		return name, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	repo, err := ParseRepo(name)
	if err != nil {
		if !strings.Contains(name, "@") {
			err = errors.New("it is not the name of a model on the hub (org/name or org/name@revision) either")
		}
		return "", fmt.Errorf("%s: %w, and %w", printable(name), fs.ErrNotExist, err)
	}
	c, err := DefaultCache()
	if err != nil {
		return "", err
	}
	s, err := c.Find(repo)
	if err != nil {
		return "", err
	}
	return s.Dir, s.Check()
}

// fetchCommand returns the command that brings the repository into the cache.
func fetchCommand(r Repo) string { return "splitbench fetch " + r.String() }

// Find returns the snapshot of a revision. A full commit is taken as it is; any other revision is a branch or tag
// in refs/, and where no ref has that name, the beginning of exactly one commit (4 digits or more). Whether the
// files are complete is not looked at: see Snapshot.Check.
func (c Cache) Find(repo Repo) (Snapshot, error) {
	if err := repo.check(); err != nil {
		return Snapshot{}, err
	}
	root := filepath.Join(c.Dir, repo.folder())
	commit, err := findCommit(root, repo)
	switch {
	case errors.Is(err, fs.ErrNotExist) && unfinished(root) > 0:
		return Snapshot{}, &fault{kind: ErrIncomplete, cause: err, text: fmt.Sprintf("%s: the download into %s was not finished (%d files are partly there): run %s to go on", repo, root, unfinished(root), fetchCommand(repo))}
	case errors.Is(err, fs.ErrNotExist):
		return Snapshot{}, &fault{kind: ErrNotCached, cause: err, text: fmt.Sprintf("%s: not in the cache %s: run %s, or give the path of a folder", repo, c.Dir, fetchCommand(repo))}
	case err != nil:
		return Snapshot{}, err
	}
	s := Snapshot{Repo: repo, Commit: commit, Dir: filepath.Join(root, "snapshots", commit)}
	switch info, err := os.Stat(s.Dir); {
	case errors.Is(err, fs.ErrNotExist) && isCommit(repo.revision()):
		return Snapshot{}, &fault{kind: ErrNotCached, cause: err, text: fmt.Sprintf("%s: this commit is not in the cache %s: run %s", repo, c.Dir, fetchCommand(repo))}
	case errors.Is(err, fs.ErrNotExist):
		return Snapshot{}, &fault{kind: ErrIncomplete, cause: err, text: fmt.Sprintf("%s: revision %s is commit %s, which has no snapshot in %s: run %s", repo, repo.revision(), commit, root, fetchCommand(repo))}
	case err != nil:
		return Snapshot{}, err
	case !info.IsDir():
		return Snapshot{}, fmt.Errorf("%s: expected a folder", s.Dir)
	}
	return s, nil
}

func isCommit(revision string) bool { return isHex(strings.ToLower(revision), commitDigits) }

// findCommit returns the commit of a revision. The error is fs.ErrNotExist when the cache does not know it.
func findCommit(root string, repo Repo) (string, error) {
	revision := repo.revision()
	digits := strings.ToLower(revision)
	if isHex(digits, commitDigits) {
		return digits, nil
	}
	ref := filepath.Join(root, "refs", filepath.FromSlash(revision))
	if info, err := os.Stat(ref); err == nil && info.Mode().IsRegular() {
		data, err := readSmall(ref, maxRefBytes)
		if err != nil {
			return "", err
		}
		commit := strings.TrimSpace(string(data))
		if !isHex(commit, commitDigits) {
			return "", fmt.Errorf("%s: expected a commit of %d hexadecimal digits, got %q: run %s", ref, commitDigits, printable(commit), fetchCommand(repo))
		}
		return commit, nil
	}
	if len(digits) < 4 || !isHex(digits, len(digits)) {
		return "", fs.ErrNotExist
	}
	entries, err := os.ReadDir(filepath.Join(root, "snapshots"))
	if err != nil {
		return "", err
	}
	var commits []string
	for _, e := range entries {
		if name := e.Name(); isHex(name, commitDigits) && strings.HasPrefix(name, digits) {
			commits = append(commits, name)
		}
	}
	switch len(commits) {
	case 0:
		return "", fs.ErrNotExist
	case 1:
		return commits[0], nil
	}
	return "", fmt.Errorf("%s: %d commits in the cache begin with %s (%s, %s): give more digits", repo, len(commits), digits, commits[0], commits[1])
}

// unfinished counts the contents whose download has begun only.
func unfinished(root string) int {
	entries, err := os.ReadDir(filepath.Join(root, "blobs"))
	if err != nil {
		return 0
	}
	n := 0
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), incompleteSuffix) {
			n++
		}
	}
	return n
}

// Check says whether the snapshot is complete as far as the disk tells: it has files, every link leads to a
// content, every shard that a safetensors index names is there, and a model without any weights has no unfinished
// download. The error is ErrIncomplete and names the first file and the command that completes the snapshot.
func (s Snapshot) Check() error {
	incomplete := func(format string, args ...any) error {
		return &fault{kind: ErrIncomplete, text: fmt.Sprintf("%s: %s: run %s", s.Dir, fmt.Sprintf(format, args...), fetchCommand(s.Repo))}
	}
	files, weights := 0, 0
	err := filepath.WalkDir(s.Dir, func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(s.Dir, file)
		if err != nil {
			return err
		}
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			target, _ := os.Readlink(file)
			return incomplete("%s links to %s, which does not exist", name, printable(target))
		} else if err != nil {
			return err
		}
		files++
		switch filepath.Ext(name) {
		case ".safetensors", ".bin", ".pth", ".gguf":
			weights++
		}
		if strings.HasSuffix(name, ".safetensors.index.json") {
			absent, total, err := absentShards(file)
			if err != nil {
				return err
			}
			if len(absent) > 0 {
				return incomplete("%d of the %d shards that %s names are missing, the first is %s", len(absent), total, name, printable(absent[0]))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	unfinished := unfinished(filepath.Dir(filepath.Dir(s.Dir)))
	switch {
	case files == 0:
		return incomplete("the snapshot has no files")
	case !s.Repo.Dataset && weights == 0 && unfinished > 0:
		return incomplete("the snapshot has no weights, and %d downloads are not finished", unfinished)
	}
	return nil
}

// absentShards returns the shards that an index names and its folder lacks, sorted, and the number of all. A file
// that is no index has no shards: the reader of the checkpoint explains what is wrong with it.
func absentShards(index string) (absent []string, total int, err error) {
	data, err := readSmall(index, maxIndexBytes)
	if err != nil {
		return nil, 0, err
	}
	var decoded struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if json.Unmarshal(data, &decoded) != nil {
		return nil, 0, nil
	}
	seen := make(map[string]bool)
	for _, shard := range decoded.WeightMap {
		if seen[shard] || checkFileName(shard) != nil {
			continue
		}
		seen[shard] = true
		if _, err := os.Stat(filepath.Join(filepath.Dir(index), filepath.FromSlash(shard))); err != nil {
			absent = append(absent, shard)
		}
	}
	slices.Sort(absent)
	return absent, len(seen), nil
}
