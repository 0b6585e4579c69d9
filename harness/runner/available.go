package runner

import (
	"os"
	"strconv"
	"strings"
)

// AvailableMemory is what this process may still take, in bytes: the least of
// the system's available memory and what its control group leaves; 0 where
// the system does not say.
func AvailableMemory() int64 {
	least := int64(0)
	take := func(n int64) {
		if n > 0 && (least == 0 || n < least) {
			least = n
		}
	}
	if data, err := os.ReadFile("/proc/meminfo"); err == nil {
		take(meminfoAvailable(string(data)))
	}
	limit, errLimit := os.ReadFile("/sys/fs/cgroup/memory.max")
	used, errUsed := os.ReadFile("/sys/fs/cgroup/memory.current")
	if errLimit == nil && errUsed == nil {
		l, err1 := strconv.ParseInt(strings.TrimSpace(string(limit)), 10, 64) // "max" is no number: no limit
		u, err2 := strconv.ParseInt(strings.TrimSpace(string(used)), 10, 64)
		if err1 == nil && err2 == nil {
			take(max(l-u, 1))
		}
	}
	return least
}

// meminfoAvailable reads MemAvailable of /proc/meminfo, in bytes, 0 without it.
func meminfoAvailable(text string) int64 {
	for _, line := range strings.Split(text, "\n") {
		rest, ok := strings.CutPrefix(line, "MemAvailable:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
		if err != nil || kib < 0 || kib > 1<<50 {
			return 0
		}
		return kib << 10
	}
	return 0
}
