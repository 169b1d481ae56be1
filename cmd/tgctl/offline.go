package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"tellergate/config"
	"tellergate/rules"
)

// An offline says what a document is compiled against where no server is asked.
type offline struct {
	settings      string   // file, empty for the embedded defaults
	lists         []string // NAME=FILE or NAME=ATTRIBUTE:FILE
	organisations []string // ENTITY=FILE
}

const offlineHelp = `Without a server, a document is compiled against:
  --settings FILE              the process settings, for the declared attributes; the embedded defaults if not given
  --list NAME=FILE             a list (名单) as CSV whose header line names its attribute, or as JSON (FILE.json)
  --list NAME=ATTRIBUTE:FILE   the same as CSV, with or without a header line
  --organisation ENTITY=FILE   the organisation (机构树) of a legal entity (法人) as CSV code,parent,name, or as JSON`

func (o *offline) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.settings, "settings", "", "settings `FILE` of tellergate, offline")
	flags.StringArrayVar(&o.lists, "list", nil, "a list, offline: `NAME=FILE` or NAME=ATTRIBUTE:FILE; repeatable")
	flags.StringArrayVar(&o.organisations, "organisation", nil, "an organisation, offline: `ENTITY=FILE`; repeatable")
}

func (o *offline) given() bool {
	return o.settings != "" || len(o.lists) > 0 || len(o.organisations) > 0
}

// load reads the settings, lists and organisations. The settings are returned for their defaults.
func (o *offline) load(t *tool) (*config.Settings, rules.Inputs, error) {
	settings, err := config.Load(o.settings)
	if err != nil {
		name := o.settings
		if name == "" {
			name = "the embedded defaults"
		}
		return nil, rules.Inputs{}, inFile(name, err)
	}
	in := rules.Inputs{
		Schema:        schemaOf(settings),
		Lists:         make(map[string]*rules.List),
		Organisations: make(map[string]*rules.Organisation),
	}
	var faults []error
	for _, given := range o.lists {
		name, file, ok := strings.Cut(given, "=")
		if !ok || name == "" || file == "" {
			faults = append(faults, usagef("--list %s is not NAME=FILE or NAME=ATTRIBUTE:FILE", given))
			continue
		}
		list, err := t.readList(in.Schema, name, file)
		in.Lists[name], faults = list, append(faults, err)
	}
	for _, given := range o.organisations {
		entity, file, ok := strings.Cut(given, "=")
		if !ok || entity == "" || file == "" {
			faults = append(faults, usagef("--organisation %s is not ENTITY=FILE", given))
			continue
		}
		organisation, err := t.readOrganisation(file)
		in.Organisations[entity], faults = organisation, append(faults, err)
	}
	return settings, in, errors.Join(faults...)
}

// schemaOf is what documents are compiled against under these settings.
func schemaOf(settings *config.Settings) *rules.Schema {
	attributes := make([]rules.Attribute, 0, len(settings.Identity))
	for _, a := range settings.Identity {
		attributes = append(attributes, rules.Attribute{Name: a.Name, Within: a.Within, Claim: a.Claim})
	}
	frontends := make([]string, 0, len(settings.Frontends))
	for _, f := range settings.Frontends {
		frontends = append(frontends, f.Name)
	}
	kubernetes := settings.Discovery.Kubernetes
	schema := rules.NewSchema(attributes, frontends, kubernetes != nil)
	if kubernetes != nil {
		schema = schema.InNamespaces(kubernetes.Namespaces)
	}
	return schema
}

// readList reads the list that spec, FILE or ATTRIBUTE:FILE, names. What stands before the first colon is an attribute
// if one of that name is declared; otherwise the colon belongs to the file.
func (t *tool) readList(schema *rules.Schema, name, spec string) (*rules.List, error) {
	file, index := spec, -1
	if attribute, rest, ok := strings.Cut(spec, ":"); ok {
		if index = schema.Index(attribute); index >= 0 {
			file = rest
		}
	}
	text, err := t.readFile(file)
	if err != nil {
		return nil, err
	}
	var list *rules.List
	if strings.HasSuffix(file, ".json") && index < 0 {
		list, err = rules.ParseList(text)
	} else {
		if index < 0 {
			index = headerAttribute(schema, text)
		}
		if index < 0 {
			return nil, usagef("%s does not begin with a header line that names a declared attribute; give --list "+
				"%s=ATTRIBUTE:%s with one of %s", file, name, file, series(attributeNames(schema), "or"))
		}
		list, _, err = rules.ParseListCSV(text, schema.Attribute(index))
	}
	if err == nil {
		err = list.Check(schema)
	}
	return list, inFile(file, err)
}

// headerAttribute returns the index of the attribute that the last column of the first line names, or -1.
func headerAttribute(schema *rules.Schema, text []byte) int {
	line, _, _ := strings.Cut(strings.TrimPrefix(string(text[:min(len(text), 1024)]), "\ufeff"), "\n")
	word := strings.Trim(line[strings.LastIndexByte(line, ',')+1:], " \t\r\"")
	for i := range schema.Len() {
		if strings.EqualFold(schema.Attribute(i).Name, word) {
			return i
		}
	}
	return -1
}

func attributeNames(schema *rules.Schema) []string {
	names := make([]string, 0, schema.Len())
	for i := range schema.Len() {
		names = append(names, schema.Attribute(i).Name)
	}
	return names
}

func (t *tool) readOrganisation(file string) (*rules.Organisation, error) {
	text, err := t.readFile(file)
	if err != nil {
		return nil, err
	}
	var organisation *rules.Organisation
	if strings.HasSuffix(file, ".json") {
		organisation, err = rules.ParseOrganisation(text)
	} else {
		organisation, _, err = rules.ParseOrganisationCSV(text)
	}
	return organisation, inFile(file, err)
}

// readFile returns the content of a file, or of standard input for "-".
func (t *tool) readFile(file string) ([]byte, error) {
	if file != "-" {
		return os.ReadFile(file)
	}
	text, err := io.ReadAll(t.in)
	if err != nil {
		return nil, fmt.Errorf("standard input cannot be read: %w", err)
	}
	return text, nil
}
