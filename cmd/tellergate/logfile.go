package main

import (
	"fmt"
	"os"
	"sync"
)

// A logFile is a file that is appended to and can be opened anew under its name, so that logrotate may rename it. It is
// safe for concurrent use.
type logFile struct {
	path string

	mu   sync.Mutex
	file *os.File // guarded by mu
}

func openLogFile(path string) (*logFile, error) {
	l := &logFile{path: path}
	return l, l.Reopen()
}

// Reopen opens the path anew; on an error the file that was open stays so.
func (l *logFile) Reopen() error {
	file, err := os.OpenFile(l.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("opening the access log (setting accessLog.path): %w", err)
	}
	l.mu.Lock()
	former := l.file
	l.file = file
	l.mu.Unlock()
	if former != nil {
		return former.Close()
	}
	return nil
}

// Write implements io.Writer.
func (l *logFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Write(b)
}

// Close implements io.Closer.
func (l *logFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Close()
}
