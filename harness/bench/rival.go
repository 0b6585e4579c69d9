package bench

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Rival is another program that does the work of one of our measurements.
type Rival struct {
	// Command is a line for the shell; {threads} in it becomes the number of
	// threads under measurement. Empty means no rival.
	Command string
	// Pattern finds the rival's own figure in what it prints (its first group,
	// of its last match): tokens per second, for hellaswag seconds. Nil means
	// that the time of the whole program counts.
	Pattern *regexp.Regexp
	// Pass is the measurement that it does the work of.
	Pass string
}

// maxRivalOutput bounds what is kept of a rival's output.
const maxRivalOutput = 1 << 20

// tail keeps the end of what is written to it.
type tail struct{ bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	n := len(p)
	t.Buffer.Write(p)
	if over := t.Len() - maxRivalOutput; over > 0 {
		t.Next(over)
	}
	return n, nil
}

// contestant runs the program once per operation, which is the work of one
// operation of ours.
func (r *Rival) contestant(ctx context.Context, threads int, work float64) Contestant {
	line := strings.ReplaceAll(r.Command, "{threads}", strconv.Itoa(threads))
	return Contestant{Name: rivalName, Work: work, Report: func() (float64, error) {
		var out tail
		c := exec.CommandContext(ctx, "sh", "-c", line)
		c.Stdout, c.Stderr = &out, &out
		c.WaitDelay = time.Second
		start := time.Now()
		err := c.Run()
		seconds := time.Since(start).Seconds()
		if err != nil {
			return 0, fmt.Errorf("%q: %w%s", line, err, lastLine(out.String()))
		}
		if r.Pattern == nil {
			return seconds, nil
		}
		all := r.Pattern.FindAllStringSubmatch(out.String(), -1)
		if len(all) == 0 {
			return 0, fmt.Errorf("%q: no match for the pattern %q in its output%s", line, r.Pattern, lastLine(out.String()))
		}
		found := all[len(all)-1][1]
		v, err := strconv.ParseFloat(strings.ReplaceAll(found, ",", ""), 64)
		if err != nil || !(v > 0) {
			return 0, fmt.Errorf("%q: the pattern found %q, expected a positive number", line, found)
		}
		if r.Pass == PassHellaSwag {
			return v, nil
		}
		return work / v, nil
	}}
}

// rivalName is the name of the other program among the contestants.
const rivalName = "rival"

// lastLine quotes the last line of an output that has one.
func lastLine(s string) string {
	s = strings.TrimSpace(s)
	if s == "" {
		return ""
	}
	s = s[strings.LastIndexByte(s, '\n')+1:]
	return fmt.Sprintf(" (%.200q)", s)
}
