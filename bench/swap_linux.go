package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
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
	return c.putMillion(millionValues(0))
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

// swapList begins to replace the list again and again, each time as soon as the time before is done.
func (c *contender) swapList() *swapping {
	s := &swapping{quit: make(chan struct{}), done: make(chan error, 1)}
	texts := [][]byte{millionValues(1), millionValues(2)}
	go func() {
		begun := time.Now()
		for n := 0; ; n++ {
			select {
			case <-s.quit:
				fmt.Fprintf(os.Stderr, "the list was replaced %d times in %s\n", n, time.Since(begun).Round(time.Millisecond))
				s.done <- nil
				return
			default:
			}
			if err := c.putMillion(texts[n%len(texts)]); err != nil {
				s.done <- fmt.Errorf("replacing the list: %w", err)
				return
			}
		}
	}()
	return s
}
