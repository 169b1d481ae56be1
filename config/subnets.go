package config

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"tellergate/internal/problem"
	"tellergate/internal/strictyaml"
)

const (
	maxSubnetBytes  = 16 << 20 // of one file
	maxSubnetFaults = 100      // of one file that are told
)

// subnets reads the CSV file that a setting at path names.
func (c *checker) subnets(path, name string, of role) []Subnet {
	if name == "" {
		c.fault(path, "the file name is empty", "name a CSV file with lines cidr,value")
		return nil
	}
	file := name
	if !filepath.IsAbs(file) {
		file = filepath.Join(c.dir, file)
	}
	text, err := readFile(file, maxSubnetBytes)
	if err != nil {
		c.fault(path, fmt.Sprintf("the subnets cannot be read: %v", err),
			"name a CSV file with lines cidr,value, relative to the settings file")
		return nil
	}
	subnets, faults := parseSubnets(text, of)
	for i, f := range faults {
		if i == maxSubnetFaults {
			c.fault(path, fmt.Sprintf("%s has %d faults more", name, len(faults)-i), "correct these first")
			break
		}
		c.fault(path, fmt.Sprintf("%s line %d: %s", name, f.Line, f.Message), f.Remedy)
	}
	return subnets
}

// parseSubnets reads lines cidr,value. A first line with these words and lines that begin with # are passed over.
// Doubled lines are merged; a prefix with two values is a fault. The problems carry lines of the file.
func parseSubnets(text []byte, of role) ([]Subnet, problem.List) {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if !utf8.Valid(text) {
		return nil, problem.List{{Line: 1, Message: "the file is not UTF-8", Remedy: "save it as UTF-8"}}
	}
	var subnets []Subnet
	var faults problem.List
	type first struct {
		value string
		line  int
	}
	seen := map[netip.Prefix]first{}
	reader := csv.NewReader(bytes.NewReader(text))
	reader.Comment = '#'
	reader.FieldsPerRecord = -1
	reader.TrimLeadingSpace = true
	for count := 0; ; count++ {
		record, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return subnets, faults
		}
		var syntax *csv.ParseError
		if errors.As(err, &syntax) {
			return nil, append(faults, problem.Problem{
				Line: syntax.Line, Message: fmt.Sprintf("it is not CSV: %v", syntax.Err), Remedy: "correct the quotes",
			})
		}
		line, _ := reader.FieldPos(0)
		for i := range record {
			record[i] = strings.TrimSpace(record[i])
		}
		if count == 0 && strings.EqualFold(record[0], "cidr") {
			continue
		}
		prefix, value, fault := subnetOf(record, of)
		if fault != nil {
			faults = append(faults, problem.Problem{Line: line, Message: fault.Message, Remedy: fault.Remedy})
			continue
		}
		if before, ok := seen[prefix]; ok {
			if before.value != value {
				faults = append(faults, problem.Problem{
					Line:    line,
					Message: fmt.Sprintf("%s is %s here and %s in line %d", prefix, value, before.value, before.line),
					Remedy:  "keep one of the lines",
				})
			}
			continue
		}
		seen[prefix] = first{value, line}
		subnets = append(subnets, Subnet{Prefix: prefix, Value: value})
	}
}

// subnetOf reads one line.
func subnetOf(record []string, of role) (netip.Prefix, string, *strictyaml.Fault) {
	if len(record) != 2 || record[1] == "" {
		return netip.Prefix{}, "", &strictyaml.Fault{
			Message: fmt.Sprintf("%q has not two fields", strings.Join(record, ",")), Remedy: "write cidr,value",
		}
	}
	prefix, err := parsePrefix(record[0])
	var fault *strictyaml.Fault
	if errors.As(err, &fault) {
		return netip.Prefix{}, "", fault
	}
	value, fault := of.clean(record[1])
	return prefix, value, fault
}
