package config

import (
	"fmt"
	"io"
	"os"
)

// readFile reads a regular file of at most limit bytes. Anything else, a pipe or a device, might never end.
func readFile(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path) // before opening it: opening a pipe waits for its writer
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("%s has %d bytes, and at most %d are read", path, max(info.Size(), int64(len(text))), limit)
	}
	return text, err
}
