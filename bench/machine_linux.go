package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"tellergate/bench/report"
)

// pin restricts a thread, 0 being the calling one, to one core. What it starts from then on is restricted too.
func pin(thread, core int) error {
	var set [16]uint64
	set[core/64] = 1 << (core % 64)
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, uintptr(thread), unsafe.Sizeof(set),
		uintptr(unsafe.Pointer(&set))); errno != 0 {
		return fmt.Errorf("cannot pin to core %d: %w", core, errno)
	}
	return nil
}

// pinAll restricts every thread of this process.
func pinAll(core int) error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, task := range tasks {
		id, err := strconv.Atoi(task.Name())
		if err != nil {
			return err
		}
		if err := pin(id, core); err != nil {
			return err
		}
	}
	return nil
}

// goFirst puts every thread of these processes into the real-time class SCHED_RR, or back into the ordinary one. Threads
// that they make later are of the class of the one that makes them.
func goFirst(pids []int, first bool) error {
	const other, roundRobin = 0, 2
	policy, priority := uintptr(other), int32(0)
	if first {
		policy, priority = roundRobin, 1
	}
	for _, pid := range pids {
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return err
		}
		for _, task := range tasks {
			id, err := strconv.Atoi(task.Name())
			if err != nil {
				return err
			}
			if _, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_SETSCHEDULER, uintptr(id), policy,
				uintptr(unsafe.Pointer(&priority))); errno != 0 && errno != syscall.ESRCH { // or it has ended
				return fmt.Errorf("sched_setscheduler of thread %d: %w", id, errno)
			}
		}
	}
	return nil
}

// cpuTime is how long a process has run on any core: its utime + stime, not rounded to ticks.
func cpuTime(pid int) (time.Duration, error) {
	// The kernel makes a clock's id from the process's: CPUCLOCK_SCHED, not per thread.
	id := int32(^pid)<<3 | 2
	var t syscall.Timespec
	if _, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, uintptr(id), uintptr(unsafe.Pointer(&t)), 0); errno != 0 {
		return 0, fmt.Errorf("cannot read the CPU clock of process %d: %w", pid, errno)
	}
	return time.Duration(t.Nano()), nil
}

// A coreTime is what a core has done since the machine started.
type coreTime struct{ busy, all, stolen time.Duration }

// parseCores reads /proc/stat. The unit is a tick of 10 ms, whatever the kernel runs at.
func parseCores(stat string) (map[int]coreTime, error) {
	const tick = 10 * time.Millisecond
	cores := map[int]coreTime{}
	for line := range strings.Lines(stat) {
		f := strings.Fields(line)
		if len(f) < 9 || !strings.HasPrefix(f[0], "cpu") || f[0] == "cpu" {
			continue
		}
		core, err := strconv.Atoi(f[0][len("cpu"):])
		if err != nil {
			return nil, fmt.Errorf("/proc/stat: %q: %w", line, err)
		}
		var t coreTime
		for i, s := range f[1:9] { // user nice system idle iowait irq softirq steal; guests are part of user
			n, err := strconv.ParseInt(s, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("/proc/stat: %q: %w", line, err)
			}
			d := time.Duration(n) * tick
			t.all += d
			switch i {
			case 3, 4:
			case 7:
				t.stolen += d
			default:
				t.busy += d
			}
		}
		cores[core] = t
	}
	return cores, nil
}

func readCores() (map[int]coreTime, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return nil, err
	}
	return parseCores(string(text))
}

// parseParent returns the parent of the process whose /proc/PID/stat this is. The program's name, in parentheses, may
// hold anything.
func parseParent(stat string) (int, error) {
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(f) < 2 {
		return 0, fmt.Errorf("unreadable /proc stat line: %q", stat)
	}
	return strconv.Atoi(f[1])
}

// family returns a process and all its descendants.
func family(pid int) ([]int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	parents := map[int]int{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended meanwhile
		}
		parent, err := parseParent(string(text))
		if err != nil {
			return nil, err
		}
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return nil, err
		}
		parents[child] = parent
	}
	found := []int{pid}
	for i := 0; i < len(found); i++ {
		for child, parent := range parents {
			if parent == found[i] {
				found = append(found, child)
			}
		}
	}
	slices.Sort(found)
	return found, nil
}

// parsePSS reads the proportional set size, in bytes, from /proc/PID/smaps_rollup.
func parsePSS(rollup string) (int64, error) {
	for line := range strings.Lines(rollup) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "Pss:" {
			kib, err := strconv.ParseInt(f[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("smaps_rollup without Pss: %q", rollup)
}

// memory is what processes occupy together, in bytes; pages that they share count once.
func memory(pids []int) (int64, error) {
	var sum int64
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, err
		}
		pss, err := parsePSS(string(text))
		if err != nil {
			return 0, err
		}
		sum += pss
	}
	return sum, nil
}

// describeMachine says what a measurement was made on.
func describeMachine(proxyCore, loadCore int) report.Machine {
	m := report.Machine{Cores: runtime.NumCPU(), ProxyCore: proxyCore, LoadCore: loadCore, Go: runtime.Version()}
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)
			}
		}
	}
	if text, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(text))
	}
	if text, err := os.ReadFile(fmt.Sprintf("/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", proxyCore)); err == nil {
		m.Siblings = strings.TrimSpace(string(text))
	}
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		if f := strings.Fields(string(text)); len(f) > 1 {
			kib, _ := strconv.ParseInt(f[1], 10, 64) // 0 where it is not a number: unknown
			m.MemoryMiB = kib >> 10
		}
	}
	return m
}
