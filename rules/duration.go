package rules

import (
	"errors"
	"strings"
	"time"
)

// A Duration is a time.Duration that reads and prints as people write it: 30m, 10h, 1h30m. Zero means the default.
type Duration time.Duration

// MarshalText prints the duration without parts that are zero.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// String prints the duration without parts that are zero.
func (d Duration) String() string {
	text := time.Duration(d).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// UnmarshalText reads what time.ParseDuration does.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return errors.New("a duration is a number and a unit, for example 30m or 10h")
	}
	*d = Duration(parsed)
	return nil
}
