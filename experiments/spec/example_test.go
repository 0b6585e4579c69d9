package spec_test

import (
	"fmt"
	"path/filepath"
	"strings"

	"splitbench/experiments/spec"
)

// Every experiment of the project can be read. The folder of the data is not needed for that.
func Example() {
	files, _ := filepath.Glob("../*.yaml")
	env := func(string) (string, bool) { return "/shared", true }
	layers := func(m spec.Model) (int, error) {
		if strings.HasPrefix(m.Path, "builtin:") {
			return 8, nil
		}
		return 6, nil
	}
	for _, f := range files {
		if strings.HasPrefix(filepath.Base(f), "train-") {
			t, err := spec.LoadTraining(f, spec.LoadOptions{Env: env})
			if err != nil {
				fmt.Println(err)
				continue
			}
			fmt.Println("training of", t.Name, t.Steps.Tokens, "tokens")
			continue
		}
		members, err := spec.Members(f)
		if err != nil {
			fmt.Println(err)
		}
		for _, f := range members {
			s, err := spec.Load(f, spec.LoadOptions{Env: env})
			if err != nil {
				fmt.Println(err)
				continue
			}
			cells, err := s.Cells(layers)
			if err != nil {
				fmt.Println(err)
				continue
			}
			fmt.Println(s.Name, len(cells), cells[len(cells)-1].Label())
		}
	}
	// Output:
	// baselines-bits 42 Atom-g16 Qw=8
	// codec-bytes 72 split l=4 tau=10 Q=8 codec=split1
	// fig4-clamp 44 clamp l=4 clamp=20
	// fig5-server 1 fp32
	// fig6-bytes 45 split l=4 tau=10 Q=8 W=200
	// fig7-share 9 split l=4 tau=10 Q=4
	// paper-small-table2 170 ours l=8 tau=5 Q=4
	// paper-small-table3 154 ours-front l=5 tau=5 Q=3 Qa=3
	// paper-small-table4 64 back l_w=1
	// paper-small-table5 104 TS-TAB-Q l=5 tau=5 Q=4
	// paper-small-fig4 150 clamp l=6 clamp=50
	// paper-small-fig5 2 fp32
	// paper-small-fig6 90 split l=4 tau=10 Q=8 W=200
	// quickstart 336 TS-TAB-Q l=6 tau=5 Q=4
	// real-smoke 266 split l=5 tau=5 Q=8
	// table3 154 ours-front l=3 tau=5 Q=3 Qa=3
	// training of small 12000000 tokens
}
