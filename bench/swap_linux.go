package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

const (
	withList      = "tellergate, with a list of a million values"
	withListSwaps = "tellergate, the list replaced without end"
)

// million is how many values the list has.
const million = 1_000_000

// millionRule uses the list, whose tellers are of a legal entity that sends no requests.
const millionRule = `      - {name: million, priority: 0, when: {attribute: teller, inList: million}, then: {version: v2}}
`

// hasMillion tells whether the contender has the list.
func (c *contender) hasMillion() bool { return c.name == withList || c.name == withListSwaps }

// addMillion gives a contender the list and, in its file of rules, the rule that uses it.
func (c *contender) addMillion() error {
	file, err := os.OpenFile(filepath.Join(c.dir, "rules.yaml"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteString(millionRule)
	if err := file.Close(); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	for i, path := range c.millions() {
		if err := os.WriteFile(path, millionValues(1+i), 0o600); err != nil {
			return err
		}
	}
	return c.putMillion(millionValues(0))
}

// millions are the files that take turns to replace the list.
func (c *contender) millions() []string {
	return []string{filepath.Join(c.dir, "million-1.csv"), filepath.Join(c.dir, "million-2.csv")}
}

func (c *contender) putMillion(text []byte) error {
	return c.put("/api/v1/lists/million?attribute=teller", "text/csv", text)
}

// millionValues returns the list as CSV; with another mark its last value is another one.
func millionValues(mark int) []byte {
	var text bytes.Buffer
	for i := range million - 1 {
		fmt.Fprintf(&text, "9002/%08d\n", i)
	}
	fmt.Fprintf(&text, "9003/%08d\n", mark)
	return text.Bytes()
}

// swapList begins to replace the list again and again, each time as soon as the time before is done. A process of its own
// does it, and gives way to generator and pods: elsewhere who uploads has a core of his own.
func (c *contender) swapList(self string) (*swapping, error) {
	cmd := exec.Command(self, append([]string{"replace", c.admin}, c.millions()...)...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	until, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	s := &swapping{quit: make(chan struct{}), done: make(chan error, 1)}
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // the child lives as long as the thread
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		s.pid = cmd.Process.Pid
		started <- nil
		<-s.quit
		_ = until.Close() // it may have ended already
		s.done <- cmd.Wait()
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting what replaces the list: %w", err)
	}
	return s, nil
}

// replace is that process. It goes on until its input ends, and fails where the list is refused.
func replace(admin string, files []string, until io.Reader) error {
	if err := syscall.Setpriority(syscall.PRIO_PROCESS, 0, 19); err != nil {
		return fmt.Errorf("setpriority: %w", err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, until)
		ended <- err
	}()
	c := contender{admin: admin}
	texts := make([][]byte, len(files))
	for i, file := range files {
		var err error
		if texts[i], err = mapped(file); err != nil {
			return err
		}
	}
	begun := time.Now()
	for n := 0; ; n++ {
		select {
		case err := <-ended:
			fmt.Fprintf(os.Stderr, "the list was replaced %d times in %s\n", n, time.Since(begun).Round(time.Millisecond))
			return err
		default:
		}
		if err := c.putMillion(texts[n%len(texts)]); err != nil {
			return fmt.Errorf("replacing the list: %w", err)
		}
	}
}

// mapped returns a file's content without a copy of it: in a virtual machine each new page of one is expensive for all.
func mapped(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	text, err := syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_SHARED|syscall.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("mapping %s: %w", path, err)
	}
	return text, nil
}
