package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"splitbench/models/hub"
)

func newFetch(s streams) *cobra.Command {
	var include, exclude []string
	var parallel int
	c := &cobra.Command{
		Use:   "fetch ORG/NAME[@REVISION] | datasets/ORG/NAME[@REVISION]",
		Short: "Download a model or a data set from the hub into its cache",
		Long: `Writes the files in the cache layout that Python's huggingface_hub shares
(HF_HUB_CACHE, HF_HOME). The endpoint is HF_ENDPOINT, the token HF_TOKEN or the token
file. Interrupted downloads go on where they stopped; every file is checked against
its digest before it gets its name. Of a model, the configuration, the tokenizer and
the safetensors weights are taken unless --include says otherwise.`,
		Example: `  splitbench fetch Qwen/Qwen2.5-14B
  splitbench fetch datasets/baber/piqa --include '*.parquet'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			repo, err := hub.ParseRepo(args[0])
			if err != nil {
				return usageError{err}
			}
			if parallel < 1 {
				return usagef("--parallel %d, expected a positive number", parallel)
			}
			ctx, stop := interruptible(cmd.Context(), s.err, "stopping; what was downloaded is kept")
			defer stop()
			var last time.Time
			res, err := hub.Fetch(ctx, hub.Request{
				Repo: repo, Include: include, Exclude: exclude, Parallel: parallel,
				Progress: func(p hub.Progress) {
					if p.Note != "" {
						fmt.Fprintln(s.err, p.Note)
						return
					}
					if time.Since(last) < 2*time.Second && p.AllDone < p.All {
						return
					}
					last = time.Now()
					fmt.Fprintf(s.err, "%s: %.1f of %.1f MB, all files %.1f of %.1f MB\n", p.File, float64(p.Done)/1e6, float64(p.Size)/1e6, float64(p.AllDone)/1e6, float64(p.All)/1e6)
				},
			})
			if err != nil {
				return err
			}
			fmt.Fprintf(s.out, "%s\n", res.Dir)
			fmt.Fprintf(s.err, "%s: %d files, %.1f MB downloaded, commit %s\n", repo, len(res.Files), float64(res.Downloaded)/1e6, res.Commit)
			return nil
		},
	}
	c.Flags().StringArrayVar(&include, "include", nil, "only files that match this pattern; may be repeated")
	c.Flags().StringArrayVar(&exclude, "exclude", nil, "leave out files that match this pattern; may be repeated")
	c.Flags().IntVar(&parallel, "parallel", hub.DefaultParallel, "files downloaded at once")
	return c
}
