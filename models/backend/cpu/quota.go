package cpu

import (
	"os"
	"strconv"
	"strings"
)

// oneProcessor says whether the process's CPU quota is at most one processor.
// GOMAXPROCS follows a quota but never below 2: a second worker would then only
// use up the first one's time.
func oneProcessor() bool {
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return false
	}
	read := func(path string) string {
		b, _ := os.ReadFile(path)
		return strings.TrimSpace(string(b))
	}
	for line := range strings.Lines(string(self)) {
		// Hierarchy number, controllers, path; within a container the path may
		// be that of the host, and the root is the container's.
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		for _, path := range []string{f[2], ""} {
			quota := ""
			switch {
			case f[0] == "0":
				quota = read("/sys/fs/cgroup" + path + "/cpu.max")
			case strings.Contains(","+f[1]+",", ",cpu,"):
				dir := "/sys/fs/cgroup/cpu" + path
				quota = read(dir+"/cpu.cfs_quota_us") + " " + read(dir+"/cpu.cfs_period_us")
			}
			if n := parseQuota(quota); n > 0 && n <= 1 {
				return true
			}
		}
	}
	return false
}

// parseQuota returns the processors of a quota in the form "quota period", 0
// for none ("max" or a negative one).
func parseQuota(text string) float64 {
	quota, period, _ := strings.Cut(text, " ")
	q, err1 := strconv.ParseFloat(quota, 64)
	p, err2 := strconv.ParseFloat(period, 64)
	if err1 != nil || err2 != nil || !(q > 0) || !(p > 0) {
		return 0
	}
	return q / p
}
